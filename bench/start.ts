/** `npm run bench:start`: from `import` to the first result of one photo, and sizes on disk, beside the nearest peers. */
import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { mkdtemp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { convertCheckpoint } from '../lib/index.js';
import { loadedCore } from '../lib/native/loader.js';
import { modelType } from '../lib/onnx/schema.js';
import { integer, parse, program } from './command-line.js';
import { root } from './contenders.js';
import { busy } from './machine.js';
import { writeFigures, writeSection } from './report/section.js';
import { table } from './report/tables.js';
import { spread, type Spread } from './statistics.js';

const help = `npm run bench:start -- [options]
  --rounds N      starts of each contender, interleaved (default 9; one more before them is not counted)
  --no-write      print only, leave docs/start-and-size.md as it is
  --help
`;

const options = {
  rounds: { type: 'string', default: '9' },
  'no-write': { type: 'boolean', default: false },
} as const;

const contenders = ['ltrp', 'onnxruntime-node', 'transformers'] as const;
type Contender = (typeof contenders)[number];
/** Where the peers are installed. */
const modules = join(root, 'bench');

/** The embedded ranker as ONNX, in a folder as transformers.js expects it: input named pixel_values, a configuration. */
async function writeModel(folder: string): Promise<void> {
  await mkdir(join(folder, 'onnx'), { recursive: true });
  const file = join(folder, 'onnx', 'model.onnx');
  await convertCheckpoint('tiny', file, { kind: 'ranker', overwrite: true });
  await writeFile(file, renameInput(await readFile(file)));
  const mean = [0.485, 0.456, 0.406];
  const std = [0.229, 0.224, 0.225];
  const processor = {
    image_processor_type: 'ViTImageProcessor',
    do_resize: true,
    do_rescale: true,
    do_normalize: true,
    rescale_factor: 1 / 255,
    resample: 3,
    size: { height: 224, width: 224 },
    image_mean: mean,
    image_std: std,
  };
  await writeFile(join(folder, 'preprocessor_config.json'), JSON.stringify(processor));
  await writeFile(join(folder, 'config.json'), JSON.stringify({ model_type: 'vit' }));
}

function renameInput(bytes: Uint8Array): Uint8Array {
  const model = modelType.decode(bytes) as unknown as {
    graph: { input: { name: string }[]; node: { input: string[] }[] };
  };
  const [input] = model.graph.input;
  if (input === undefined) throw new Error('The graph has no input.');
  for (const node of model.graph.node) {
    node.input = node.input.map((name) => (name === input.name ? 'pixel_values' : name));
  }
  input.name = 'pixel_values';
  return modelType.encode(modelType.fromObject(model)).finish();
}

interface Start {
  milliseconds: number;
  sinceStart: number;
}

function start(contender: Contender, model: string): Start {
  const photo = join(root, 'demo', 'photos', 'tiger.jpg');
  const child = join(root, 'bench', 'start', 'child.mjs');
  const args = [child, contender, modules, photo, model];
  const lines = execFileSync(process.execPath, args, { encoding: 'utf8' }).trim().split('\n');
  return JSON.parse(lines.at(-1) ?? '') as Start;
}

/** Bytes of files below a folder, links not followed. */
function bytesOf(folder: string): number {
  const info = lstatSync(folder);
  if (!info.isDirectory()) return info.isFile() ? info.size : 0;
  return readdirSync(folder).reduce((sum, name) => sum + bytesOf(join(folder, name)), 0);
}

/** A package and all that it depends on, as installed in a node_modules folder. */
function closure(folder: string, names: readonly string[]): Set<string> {
  const found = new Set<string>();
  const visit = (name: string, parent: string): void => {
    const place = [join(parent, 'node_modules', name), join(folder, 'node_modules', name)].find(
      (candidate) => existsSync(join(candidate, 'package.json')),
    );
    if (place === undefined || found.has(place)) return; // optional, for another platform
    found.add(place);
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(
      readFileSync(join(place, 'package.json'), 'utf8'),
    ) as Record<string, Record<string, string> | undefined>;
    for (const next of Object.keys({ ...dependencies, ...optionalDependencies }))
      visit(next, place);
  };
  for (const name of names) visit(name, folder);
  return found;
}

const sum = (places: Iterable<string>): number =>
  [...places].reduce((total, place) => total + bytesOf(place), 0);

function sizes(): { rows: [string, number, number][]; libtorch: number; packed: number | null } {
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    version: string;
    dependencies: Record<string, string>;
  };
  const tarball = join(root, 'build', 'packages', `ltrp-${manifest.version}.tgz`);
  const packed = existsSync(tarball) ? statSync(tarball).size : null;
  const own =
    packed === null
      ? sum(['dist', 'models', 'build/Release'].map((name) => join(root, name)))
      : Number(
          execFileSync('sh', ['-c', 'gzip -dc "$1" | wc -c', 'sh', tarball], { encoding: 'utf8' }),
        );
  const ours = sum(closure(root, Object.keys(manifest.dependencies)));
  const libFolder = loadedCore()?.libtorch.libFolder;
  const peer = (name: string, more: readonly string[] = []): [string, number, number] => [
    name,
    bytesOf(realpathSync(join(modules, 'node_modules', name))),
    sum(closure(modules, [name, ...more])),
  ];
  return {
    rows: [
      ['ltrp', own, own + ours],
      peer('onnxruntime-node', ['sharp']),
      peer('@huggingface/transformers'),
    ],
    libtorch: libFolder === undefined ? 0 : bytesOf(libFolder),
    packed,
  };
}

const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
const one = (value: Spread | null): string =>
  value === null
    ? '–'
    : `${value.median.toFixed(0)} (${value.low.toFixed(0)} to ${value.high.toFixed(0)})`;

async function main(args: readonly string[]): Promise<void> {
  const values = parse(args, options);
  const rounds = integer('rounds', values.rounds, 1);
  const warning = busy();
  const folder = await mkdtemp(join(tmpdir(), 'ltrp-start-'));
  const times = new Map<Contender, Start[]>(contenders.map((name) => [name, []]));
  try {
    const model = join(folder, 'ranker');
    await writeModel(model);
    for (let round = 0; round <= rounds; round += 1) {
      for (const name of contenders) {
        const time = start(name, model);
        if (round > 0) times.get(name)?.push(time); // the first brings files into the page cache
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
  const figures = contenders.map((name) => ({
    name,
    milliseconds: spread((times.get(name) ?? []).map((time) => time.milliseconds)),
    sinceStart: spread((times.get(name) ?? []).map((time) => time.sinceStart)),
  }));
  const { rows, libtorch, packed } = sizes();
  const text = [
    table(
      ['', '`import` to first result, ms', 'start of the process to first result, ms'],
      figures.map(({ name, milliseconds, sinceStart }) => [
        name,
        one(milliseconds),
        one(sinceStart),
      ]),
    ),
    table(
      ['on disk, MB', 'the package', 'with everything it depends on'],
      rows.map(([name, own, all]) => [name, megabytes(own), megabytes(all)]),
    ),
    `ltrp also needs LibTorch: ${megabytes(libtorch)} MB of libraries, shared with other programs.${packed === null ? ' The tarball was not there, so its own size is that of the built working tree.' : ` Its tarball is ${megabytes(packed)} MB.`}`,
  ].join('\n\n');
  console.log(text);
  if (warning !== null) console.log(warning);
  if (values['no-write']) return;
  const section = `\`npm run bench:start\` wrote this: median and quartiles of ${rounds} starts of each, in turns, files in the page cache. All rank the same
photo with the embedded ranker, the peers from float32 ONNX (onnxruntime-node with sharp). They resize differently: compare only times.

${text}${warning === null ? '' : `\n\n${warning}`}`;
  await writeSection('start-and-size.md', 'start', 'Start and size', section);
  const json = { figures, sizes: rows, libtorch, packed };
  await writeFigures('start-and-size.json', 'start', json);
}

await program('bench:start', help, main);
