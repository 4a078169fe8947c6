/** Models, pictures and masks of a run. */
import { existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import {
  convertCheckpoint,
  MaskedAutoencoder,
  PatchRanker,
  readImages,
  type MaeConfig,
  type RankerConfig,
} from '../lib/index.js';
import { cacheFolder } from '../lib/native/paths.js';
import { root, type Material } from './contenders.js';
import type { Helper } from './helper.js';
import { drawAscending } from './statistics.js';
import { readTeacherConfig, writeTensor, type TensorFile } from './workers/tensors.js';

/** Weights of models with random ones; part of their file names, so that another seed is another file. */
const modelSeed = 1;

/** A model of a comparison: float32 safetensors, its geometry, and its ONNX graph where it could be made. */
export interface Model<Config> {
  name: string;
  path: string;
  config: Config;
  onnx: string | undefined;
  /** Why there is no graph. */
  onnxProblem: string | null;
}

/** Where models with random weights are kept between runs. */
function modelFolder(): string {
  const folder = join(cacheFolder(), 'bench');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** A teacher: `vit_b`, `vit_l`, `vit_h14` (random weights, made once), `tiny` (the embedded one), or a file. */
export async function teacher(
  helper: Helper,
  source: string,
  temporary: string,
): Promise<Model<MaeConfig>> {
  const path = await modelFile(helper, source, 'mae', temporary);
  const mae = await MaskedAutoencoder.load(path);
  const config = mae.config;
  mae.dispose();
  return {
    name: nameOf(source, 'teacher'),
    path,
    config,
    ...(await graph(path, 'mae', temporary)),
  };
}

/** A teacher that only contenders load, not this process: large ones must not take the memory that is measured. */
export interface TeacherFile {
  name: string;
  path: string;
  config: ReturnType<typeof readTeacherConfig>;
}

/** The file of a {@link teacher}, with its geometry. */
export async function teacherFile(
  helper: Helper,
  source: string,
  temporary: string,
): Promise<TeacherFile> {
  const path = await modelFile(helper, source, 'mae', temporary);
  return { name: nameOf(source, 'teacher'), path, config: readTeacherConfig(path) };
}

/** `count` pictures at the size the teacher was made for, with masks, for contenders to load. */
export async function scoringMaterial(
  { path, config }: TeacherFile,
  count: number,
  temporary: string,
): Promise<{ material: Material; patches: number; visible: number }> {
  const { imageHeight, imageWidth, patchSize } = config;
  const patches = (imageHeight / patchSize) * (imageWidth / patchSize);
  const visible = visibleCount(patches);
  const file = join(temporary, 'images.f32');
  const material = {
    mae: path,
    images: await pictures(count, config, [imageHeight, imageWidth], file),
    visible: masks(count, patches, visible),
  };
  return { material, patches, visible };
}

/** A ranker: `vit_s` (random weights), `tiny` (the embedded one), or a file. */
export async function ranker(
  helper: Helper,
  source: string,
  temporary: string,
): Promise<Model<RankerConfig>> {
  const path = await modelFile(helper, source, 'ranker', temporary);
  const model = await PatchRanker.load(path);
  const config = model.config;
  model.dispose();
  return {
    name: nameOf(source, 'ranker'),
    path,
    config,
    ...(await graph(path, 'ranker', temporary)),
  };
}

function nameOf(source: string, kind: string): string {
  const known: Record<string, string> = {
    vit_b: 'ViT-B/16',
    vit_l: 'ViT-L/16',
    vit_h14: 'ViT-H/14',
    vit_s: 'ViT-S/16',
  };
  if (source === 'tiny') return `embedded tiny ${kind} (trained)`;
  const name = known[source];
  return name === undefined ? `${source} (${kind})` : `${name} ${kind} (random weights)`;
}

async function modelFile(
  helper: Helper,
  source: string,
  kind: 'mae' | 'ranker',
  temporary: string,
): Promise<string> {
  if (source.startsWith('vit_')) {
    const path = join(modelFolder(), `${source}-${kind}-seed${modelSeed}.safetensors`);
    if (!existsSync(path)) {
      const unfinished = `${path}.${process.pid}.tmp`;
      const geometry = { geometry: source, path: unfinished };
      const model = kind === 'mae' ? { mae: geometry } : { ranker: geometry };
      await helper.generate(model, modelSeed);
      renameSync(unfinished, path);
    }
    return path;
  }
  // Everybody reads the same float32 numbers, also of a model that is stored in 16 bits.
  const path = join(temporary, `${kind}-${source.replace(/[^\w.-]+/g, '_')}.safetensors`);
  const embedded = join(root, 'models', `${source}-${kind}.safetensors`);
  await convertCheckpoint(existsSync(embedded) ? embedded : source, path, {
    kind,
    type: 'float32',
    overwrite: true,
  });
  return path;
}

/** The ONNX graph that the peers run: a teacher's decoder, or a whole ranker. */
async function graph(
  path: string,
  kind: 'mae' | 'ranker',
  temporary: string,
): Promise<{ onnx: string | undefined; onnxProblem: string | null }> {
  const target = join(temporary, `${kind}-${path.replace(/^.*\//, '').replace(/\.\w+$/, '')}.onnx`);
  try {
    await convertCheckpoint(path, target, {
      kind,
      to: 'onnx',
      overwrite: true,
      ...(kind === 'mae' ? { part: 'decoder' as const } : {}),
    });
    return { onnx: target, onnxProblem: null };
  } catch (error) {
    return { onnx: undefined, onnxProblem: (error as Error).message };
  }
}

/** The pictures that come with the project, in order of their names. */
export function pictureFiles(): string[] {
  const folder = join(root, 'demo', 'photos');
  return readdirSync(folder)
    .filter((name) => name.endsWith('.jpg'))
    .sort()
    .map((name) => join(folder, name));
}

/** `count` pictures of the given size; where that is more than there are, they come again (with other masks). */
export async function pictures(
  count: number,
  config: Pick<MaeConfig, 'mean' | 'std'>,
  size: readonly [height: number, width: number],
  path: string,
): Promise<TensorFile> {
  const files = pictureFiles();
  const sources = Array.from({ length: count }, (_, i) => files[i % files.length] as string);
  const { data, shape } = await readImages(sources, { size, mean: config.mean, std: config.std });
  return writeTensor(path, { data, shape });
}

/** Visible patches of each image, drawn from its number. */
export function masks(images: number, patches: number, visible: number): number[][] {
  return Array.from({ length: images }, (_, image) => drawAscending(patches, visible, 1 + image));
}

/** How many patches the method leaves visible: ⌊L · (1 − 0.9)⌋ in double precision. */
export function visibleCount(patches: number, maskRatio = 0.9): number {
  return Math.trunc(patches * (1 - maskRatio));
}
