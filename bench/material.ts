/** Models, pictures and masks of a run. */
import { existsSync, mkdirSync, readdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { convertCheckpoint, readImages } from '../lib/index.js';
import { cacheFolder } from '../lib/libtorch/folders.js';
import { root, type Material } from './contenders.js';
import type { Helper } from './helper.js';
import { drawAscending } from './statistics.js';
import { readConfig, writeTensor, type StoredConfig, type TensorFile } from './workers/tensors.js';

/** Weights of models with random ones; part of their file names, so that another seed is another file. */
const modelSeed = 1;

export type ModelKind = 'mae' | 'ranker';

/** A model as the contenders get it: float32 safetensors. This process does not load it, nor its memory count. */
export interface Model {
  name: string;
  kind: ModelKind;
  path: string;
  config: StoredConfig;
}

/**
 * A teacher (`vit_b`, `vit_l`, `vit_h14`: random weights, made once) or a ranker (`vit_s`: likewise); of both `tiny` is the
 * embedded one, and anything else a file.
 */
export async function findModel(
  helper: Helper,
  kind: ModelKind,
  source: string,
  temporary: string,
): Promise<Model> {
  const path = await modelFile(helper, source, kind, temporary);
  const name = nameOf(source, kind === 'mae' ? 'teacher' : 'ranker');
  return { name, kind, path, config: readConfig(path) };
}

/** Rows times columns of patches of the model's own image size. */
export function patchCount({ imageHeight, imageWidth, patchSize }: StoredConfig): number {
  return (imageHeight / patchSize) * (imageWidth / patchSize);
}

/** Where models with random weights are kept between runs. */
function modelFolder(): string {
  const folder = join(cacheFolder(), 'bench');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** `count` pictures at the size the teacher was made for, with masks, for contenders to load. */
export async function scoringMaterial(
  { path, config }: Model,
  count: number,
  temporary: string,
): Promise<{ material: Material; patches: number; visible: number }> {
  const { imageHeight, imageWidth } = config;
  const patches = patchCount(config);
  const visible = visibleCount(patches);
  const file = join(temporary, 'images.f32');
  const material = {
    mae: path,
    images: await pictures(count, config, [imageHeight, imageWidth], file),
    visible: masks(count, patches, visible),
  };
  return { material, patches, visible };
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
  kind: ModelKind,
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

/** Writes the ONNX graph that the peers run, a teacher's decoder or a whole ranker; throws where there can be none. */
export async function writeGraph({ kind, path }: Model, temporary: string): Promise<string> {
  const target = join(temporary, `${kind}-${path.replace(/^.*\//, '').replace(/\.\w+$/, '')}.onnx`);
  const part = kind === 'mae' ? { part: 'decoder' as const } : {};
  await convertCheckpoint(path, target, { kind, to: 'onnx', overwrite: true, ...part });
  return target;
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
  config: Pick<StoredConfig, 'mean' | 'std'>,
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
