/**
 * Any JavaScript value in any place of any public call is answered with a result or an `LtrpError` that names the argument,
 * never with another error. The functions are found by looking through what the package exports.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createContext, runInContext } from 'node:vm';
import test from 'ava';
import fc from 'fast-check';
import sharp from 'sharp';
import * as api from '../lib/index.js';
import {
  LtrpError,
  MaskedAutoencoder,
  PatchRanker,
  Trainer,
  VisionTransformer,
} from '../lib/index.js';
import { oneStep } from './support/lifecycle-models.js';
import { repository } from './support/paths.js';
import { encode, smallVit } from './support/small-vit.js';
import { readWeights, writeTensors } from './support/weights.js';

/** Inside the arguments of a call: the number of an argument, then keys. */
type Path = readonly (string | number)[];

interface Subject {
  /** Names of the arguments. */
  names: readonly string[];
  /** Arguments that are right, new ones at each call. */
  valid: () => unknown[];
  call: (...given: unknown[]) => unknown;
  /** Keys of the options, the last argument. */
  options?: readonly string[];
  /** Further places. */
  inside?: readonly Path[];
}

const folder = mkdtempSync(join(tmpdir(), 'ltrp-wrong-'));
const home = process.cwd();
const classifier = join(folder, 'classifier.safetensors');
const graph = join(folder, 'vit.onnx');
let mae: MaskedAutoencoder;
let ranker: PatchRanker;
let vit: VisionTransformer;
let trainer: Trainer;
let png: Uint8Array;

const stack = { dim: 8, depth: 1, heads: 2, mlpDim: 16 };
const run = {
  kind: 'pretrain',
  model: {
    imageHeight: 32,
    imageWidth: 32,
    patchSize: 16,
    encoder: stack,
    decoder: stack,
    layerNormEps: 1e-6,
    normalizedTarget: false,
    mean: [0.5, 0.5, 0.5],
    std: [0.5, 0.5, 0.5],
  },
  ...oneStep,
  steps: 1_000_000,
} as const;

test.before(async () => {
  // Names of files that are made up are those of this folder.
  process.chdir(folder);
  writeFileSync(graph, encode(smallVit()));
  png = await sharp({ create: { width: 32, height: 32, channels: 3, background: 'teal' } })
    .png()
    .toBuffer();
  mae = await MaskedAutoencoder.load('tiny');
  ranker = await PatchRanker.load('tiny');
  // A ViT with a head, which may as well be for one class.
  const path = join(repository, 'models', 'tiny-ranker.safetensors');
  await writeTensors(classifier, (await readWeights(path, 'ranker')).tensors);
  vit = await VisionTransformer.load(classifier);
  trainer = await Trainer.create({
    ...run,
    model: { ...run.model, mean: [0, 0, 0], std: [1, 1, 1] },
  });
});

test.after.always(() => {
  process.chdir(home);
  rmSync(folder, { recursive: true, force: true });
});

const side = 64;
const images = (): unknown => ({
  data: new Float32Array(3 * side * side).fill(0.5),
  shape: [1, 3, side, side],
});
const bytes = (): unknown => ({ data: new Uint8Array(3 * side * side), shape: [1, side, side, 3] });
const sixteen = (): Float32Array => Float32Array.from({ length: 16 }, (_, i) => (i * 7) % 16);
const picture = (): unknown => ({ pixels: new Uint8Array(40 * 40 * 3), height: 40, width: 40 });
const job = ['signal', 'onProgress'];
const masking = [...job, 'maskRatio', 'seed', 'noise', 'visible'];
const scoring = ['drop', 'metric', 'memoryBudget', 'tolerance'];
const batch: Path[] = [
  [0, 'data'],
  [0, 'shape'],
  [0, 'shape', 1],
];

const kept = [...job, 'keep', 'keepRatio', 'selector', 'selectorModel', 'seed'];

let registered = 0;

/** Everything that can be called, by its name. */
const subjects: Record<string, Subject> = {
  'MaskedAutoencoder.load': loading((...given) => MaskedAutoencoder.load(...(given as ['tiny']))),
  'PatchRanker.load': loading((...given) => PatchRanker.load(...(given as ['tiny']))),
  'VisionTransformer.load': loading(
    (...given) => VisionTransformer.load(...(given as ['tiny'])),
    classifier,
  ),
  'VisionTransformer.prototype.classify': {
    ...onKept({ keep: [Int32Array.of(1, 2)] }, (...given) => vit.classify(...(given as [never]))),
    options: [...kept, 'topK'],
    inside: [...batch, [1, 'keep', 0]],
  },
  'VisionTransformer.prototype.embed': onKept({ keepRatio: 0.5 }, (...given) =>
    vit.embed(...(given as [never])),
  ),
  'MaskedAutoencoder.prototype.scorePatches': onImages(
    [...masking, ...scoring],
    images,
    (...given) => mae.scorePatches(...(given as [never])),
  ),
  'MaskedAutoencoder.prototype.scoreMap': onImages(
    [...job, 'maskRatio', 'seed', ...scoring, 'rounds', 'surprise'],
    bytes,
    (...given) => mae.scoreMap(...(given as [never])),
  ),
  'MaskedAutoencoder.prototype.reconstruct': onImages(masking, bytes, (...given) =>
    mae.reconstruct(...(given as [never])),
  ),
  'MaskedAutoencoder.prototype.encode': onImages(masking, images, (...given) =>
    mae.encode(...(given as [never])),
  ),
  'PatchRanker.prototype.rank': {
    names: ['images', 'options'],
    valid: () => [images(), {}],
    call: (...given) => ranker.rank(...(given as [never])),
    options: [...job, 'visible', 'prior'],
    inside: batch,
  },
  selectPatches: {
    names: ['images', 'logits', 'options'],
    valid: () => [bytes(), sixteen(), { keep: 4 }],
    call: (...given) => api.selectPatches(...(given as [never, never, never])),
    options: [
      ...job,
      'keep',
      'keepRatio',
      'scoreShare',
      'seed',
      'mode',
      'prior',
      'densityNoise',
      'memberNoise',
      'device',
      'patchSize',
      'mean',
      'std',
    ],
    inside: batch,
  },
  registerSelector: {
    names: ['name', 'selector'],
    valid: () => [`own-${registered++}`, api.selectors.variance],
    call: (...given) => api.registerSelector(...(given as [never, never])),
    inside: [[1, 'score']],
  },
  rankingLoss: {
    names: ['name', 'predicted', 'target', 'shape', 'options'],
    valid: () => ['listMle', sixteen(), sixteen(), [2, 8], {}],
    call: (...given) => api.rankingLoss(...(given as [never, never, never, never])),
    options: [...job, 'k', 'noise', 'seed'],
    inside: [[3, 0]],
  },
  rankAgreement: {
    names: ['predicted', 'target', 'shape', 'options'],
    valid: () => [sixteen(), sixteen(), [2, 8], {}],
    call: (...given) => api.rankAgreement(...(given as [never, never, never])),
    options: [...job, 'k'],
    inside: [[2, 1]],
  },
  asymmetricLoss: {
    names: ['logits', 'targets', 'shape', 'options'],
    valid: () => [sixteen(), new Float32Array(16), [2, 8], {}],
    call: (...given) => api.asymmetricLoss(...(given as [never, never, never])),
    options: [...job, 'gammaNegative', 'gammaPositive', 'margin'],
    inside: [[2, 0]],
  },
  meanAveragePrecision: {
    names: ['scores', 'targets', 'shape', 'options'],
    valid: () => [sixteen(), new Float32Array(16), [2, 8], {}],
    call: (...given) => api.meanAveragePrecision(...(given as [never, never, never])),
    options: job,
    inside: [[2, 1]],
  },
  keepFor: {
    names: ['ranking', 'target', 'options'],
    valid: () => [
      { logits: sixteen(), grid: { rows: 4, columns: 4 }, width: 64, height: 48 },
      { shape: [28, 28], patchSize: 14, pixelMask: new Uint8Array(784).fill(1) },
      { keep: 2 },
    ],
    call: (...given) => api.keepFor(...(given as [never, never, never])),
    options: [...job, 'keep', 'keepRatio'],
    inside: [
      ...['logits', 'grid', 'width', 'height', 'view'].map((key) => [0, key]),
      [0, 'grid', 'rows'],
      [0, 'view', 'shortSide'],
      [0, 'view', 'rounding'],
      ...['shape', 'patchSize', 'pixelMask', 'imageGridThw', 'merge', 'spatialShape'].map((key) => [
        1,
        key,
      ]),
      [1, 'tokens'],
      [1, 'view'],
      [1, 'shape', 1],
      [1, 'view', 'height'],
    ],
  },
  readImages: {
    names: ['sources', 'options'],
    valid: () => [[png.slice()], { size: 32 }],
    call: (...given) => api.readImages(...(given as [never, never])),
    options: ['size', 'fit', 'mean', 'std', 'signal'],
    inside: [
      [0, 0],
      [1, 'size', 0],
      [1, 'mean', 1],
      [1, 'std', 1],
    ],
  },
  rankFiles: {
    names: ['source', 'options'],
    valid: () => [[png.slice()], { ranker, grid: { rows: 4, columns: 4 } }],
    call: async (...given) => {
      for await (const result of api.rankFiles(...(given as [never, never]))) {
        if (!result.ok) throw result.error;
      }
    },
    options: [
      'ranker',
      'fit',
      'size',
      'patches',
      'grid',
      'keep',
      'keepRatio',
      'scoreShare',
      'prior',
      'seed',
      'batchSize',
      'decoders',
      'ahead',
      'signal',
      'device',
      'precision',
      'libtorch',
      'onProgress',
    ],
    inside: [
      [0, 0],
      [0, 0, 'picture'],
      [1, 'grid', 'rows'],
    ],
  },
  patchBoxes: {
    names: ['grid', 'width', 'height'],
    valid: () => [{ rows: 2, columns: 3 }, 40, 30],
    call: (...given) => api.patchBoxes(...(given as [never, never, never])),
    inside: [
      [0, 'rows'],
      [0, 'columns'],
    ],
  },
  convertCheckpoint: {
    names: ['input', 'output', 'options'],
    valid: () => ['tiny', join(folder, 'out.onnx'), { kind: 'ranker', overwrite: true }],
    call: (...given) => api.convertCheckpoint(...(given as [never, never, never])),
    options: [...job, 'kind', 'to', 'type', 'part', 'externalDataAbove', 'overwrite', 'libtorch'],
  },
  pruneOnnx: {
    names: ['input', 'output', 'options'],
    valid: () => [graph, join(folder, 'cut.onnx'), { overwrite: true }],
    call: (...given) => api.pruneOnnx(...(given as [never, never])),
    options: ['idsName', 'dataSuffix', 'overwrite', 'signal'],
  },
  denseRegions: {
    names: ['ranking', 'options'],
    valid: () => [
      { logits: sixteen(), grid: { rows: 4, columns: 4 }, width: 64, height: 48 },
      { keepRatio: 0.5 },
    ],
    call: (...given) => api.denseRegions(...(given as [never])),
    options: [...job, 'count', 'keepRatio', 'padding', 'aspect'],
    inside: ['logits', 'grid', 'width', 'height', 'view'].map((key) => [0, key]),
  },
  qualityMap: {
    names: ['ranking', 'options'],
    valid: () => [
      { logits: sixteen(), grid: { rows: 4, columns: 4 }, width: 64, height: 48 },
      { block: 8, pixels: true },
    ],
    call: (...given) => api.qualityMap(...(given as [never])),
    options: [...job, 'block', 'pixels'],
    inside: ['logits', 'grid', 'width', 'height', 'view'].map((key) => [0, key]),
  },
  squeezePicture: {
    names: ['source', 'options'],
    valid: () => [png.slice(), { ranker, patches: 4 }],
    call: (...given) => api.squeezePicture(...(given as [never])),
    options: ['keepRatio', 'fill', 'format', 'quality', 'ranker', 'patches', 'signal'],
  },
  planSavings: {
    names: ['model', 'options'],
    // Refused at the end, before anything is measured.
    valid: () => [join(folder, 'none.onnx'), {}],
    call: (...given) => api.planSavings(...(given as [never])),
    options: ['shares', 'ranker', 'batchSize', 'rounds', 'threads', 'size', 'patches', 'signal'],
    inside: [
      [1, 'shares', 0],
      [1, 'size', 0],
    ],
  },
  'Trainer.create': {
    names: ['options', 'trainer'],
    valid: () => [{ ...run }, {}],
    call: async (...given) => {
      (await Trainer.create(...(given as [never]))).dispose();
    },
    options: ['device', 'libtorch', 'signal'],
    inside: [
      ...Object.keys(run).map((key) => [0, key]),
      ...Object.keys(run.model).map((key) => [0, 'model', key]),
      [0, 'model', 'encoder', 'dim'],
      [0, 'model', 'mean', 2],
      [0, 'cropScale', 0],
    ],
  },
  'Trainer.resume': {
    names: ['path', 'trainer'],
    valid: () => [join(folder, 'nothing'), {}],
    call: (...given) => Trainer.resume(...(given as [never])),
    options: ['device', 'libtorch', 'signal'],
  },
  'Trainer.prototype.trainStep': pictures((...given) => trainer.trainStep(...(given as [never]))),
  'Trainer.prototype.evaluate': pictures((...given) => trainer.evaluate(...(given as [never]))),
  'Trainer.prototype.save': {
    names: ['path', 'options'],
    valid: () => [join(folder, 'saved'), {}],
    call: (...given) => trainer.save(...(given as [never])),
    options: job,
  },
  'Trainer.prototype.exportModel': {
    names: ['path', 'type', 'options'],
    valid: () => [join(folder, 'model.safetensors'), 'float32', {}],
    call: (...given) => trainer.exportModel(...(given as [never])),
    options: job,
  },
};

/** What takes no argument of the caller's. */
const withoutArguments = [
  'MaskedAutoencoder.prototype.dispose',
  'MaskedAutoencoder.prototype.asyncDispose',
  'PatchRanker.prototype.dispose',
  'PatchRanker.prototype.asyncDispose',
  'VisionTransformer.prototype.dispose',
  'VisionTransformer.prototype.asyncDispose',
  'Trainer.prototype.dispose',
  'Trainer.prototype.asyncDispose',
];

function loading(call: Subject['call'], source = 'tiny'): Subject {
  return {
    names: ['source', 'options'],
    valid: () => [source, {}],
    call: async (...given) => {
      ((await call(...given)) as PatchRanker).dispose();
    },
    options: ['device', 'precision', 'libtorch', 'signal', 'onProgress'],
  };
}

function onImages(options: string[], given: () => unknown, call: Subject['call']): Subject {
  return {
    names: ['images', 'options'],
    valid: () => [given(), { maskRatio: 0.75 }],
    call,
    options,
    inside: batch,
  };
}

function onKept(options: object, call: Subject['call']): Subject {
  return {
    names: ['images', 'options'],
    valid: () => [bytes(), options],
    call,
    options: kept,
    inside: batch,
  };
}

function pictures(call: Subject['call']): Subject {
  return {
    names: ['pictures', 'options'],
    valid: () => [[picture()], {}],
    call,
    options: job,
    inside: [
      [0, 0],
      [0, 0, 'pixels'],
      [0, 0, 'height'],
      [0, 0, 'width'],
      [0, 0, 'label'],
      [0, 0, 'labels'],
    ],
  };
}

/** All places of a call that a value can be put into. */
function placesOf({ names, options = [], inside = [] }: Subject): Path[] {
  const last = names.length - 1;
  return [...names.map((_, i) => [i]), ...options.map((key) => [last, key]), ...inside];
}

/** `given` with something else at `path`; what is on the way is copied. */
function replaced(
  given: unknown,
  [key, ...rest]: Path,
  change: (at: object, key: string | number) => void,
): unknown {
  const copy = (
    Array.isArray(given) ? [...(given as unknown[])] : { ...(given as object) }
  ) as Record<string | number, unknown>;
  if (key === undefined) return given;
  if (rest.length === 0) change(copy, key);
  else copy[key] = replaced(copy[key] ?? {}, rest, change);
  return copy;
}

const put =
  (value: unknown) =>
  (at: object, key: string | number): void => {
    Object.defineProperty(at, key, { value, enumerable: true, configurable: true, writable: true });
  };

/** What a call came to: null, or what is wrong with its error. */
async function problem(subject: Subject, path: Path, given: unknown[]): Promise<string | null> {
  let error: unknown;
  try {
    await subject.call(...given);
    return null;
  } catch (thrown) {
    error = thrown;
  }
  // What a source, or a promise in it, throws is what the iteration ends with.
  const ofSource = subject === subjects['rankFiles'] && path[0] === 0;
  // What onProgress throws is what the call rejects with.
  const ofProgress = path.at(-1) === 'onProgress';
  if ((ofSource || ofProgress) && error === callers) return null;
  if (!(error instanceof LtrpError)) return `another error: ${String(error)}`;
  const said = `${error.code}: ${error.message}`;
  if (error.code === 'ERR_LTRP_INTERNAL') return said;
  if (error.message.length > 700) return `too long: ${said}`;
  if (error.code !== 'ERR_LTRP_INVALID_ARGUMENT') return null;
  const words = path.filter((key) => typeof key === 'string');
  const whole = path.length === 1 && path[0] === subject.names.length - 1;
  // Of options that are replaced as a whole, any one may be what is missing.
  const names = [
    subject.names[path[0] as number] ?? '',
    ...words,
    ...(whole ? (subject.options ?? []) : []),
  ];
  const named = names.some((name) => error.message.toLowerCase().includes(name.toLowerCase()));
  return named ? null : `does not name ${names.join(' or ')}: ${said}`;
}

const detached = <Buffer extends { buffer: ArrayBufferLike }>(array: Buffer): Buffer => {
  structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
  return array;
};
const callers = new RangeError('thrown by the caller');
const thrower = (): never => {
  throw callers;
};
const otherRealm = createContext({});
/** A Float32Array whose buffer has become too short for it. */
function shrunk(): Float32Array {
  type Resizable = ArrayBuffer & { resize: (bytes: number) => void };
  const Constructor = ArrayBuffer as unknown as new (bytes: number, options: object) => Resizable;
  const buffer = new Constructor(64, { maxByteLength: 128 });
  const array = new Float32Array(buffer, 0, 16);
  buffer.resize(8);
  return array;
}

/** Values that are more than data, made anew for each use. */
const hostile: readonly (() => unknown)[] = [
  () => Symbol('symbol'),
  () => 10n ** 300n,
  () => -0,
  () => 2 ** 53,
  () => 2 ** 31,
  () => 1e-45,
  () => '',
  () => 'a\0b',
  () => '\ud800',
  () => 'x'.repeat(100_000),
  () => thrower,

  () => Promise.resolve({}),
  () => Object.freeze({}),
  () => Object.create(null) as object,
  () => new Date(Number.NaN),
  () => new Map(),
  () =>
    new (class Instance {
      get data(): never {
        return thrower();
      }
    })(),
  () => ({ toString: thrower, valueOf: thrower, [Symbol.toPrimitive]: thrower }),
  () => ({
    get [Symbol.toStringTag]() {
      return thrower();
    },
  }),
  () => ({ then: thrower }),
  () => ({
    get then() {
      return thrower();
    },
  }),
  () => ({ [Symbol.iterator]: 5 }),
  () => ({ [Symbol.iterator]: () => 5 }),
  () => ({ [Symbol.iterator]: () => ({ next: () => 5 }) }),
  () => ({ [Symbol.iterator]: () => ({}) }),
  () => ({ [Symbol.asyncIterator]: null, [Symbol.iterator]: undefined }),
  () => ({
    get href() {
      return thrower();
    },
    protocol: 'file:',
  }),
  () => ({ href: { toString: thrower }, protocol: 'file:' }),
  () => ({ href: 'file://%00', protocol: 'file:' }),
  () => ({ aborted: false }),
  () => ({
    aborted: false,
    throwIfAborted: () => undefined,
    addEventListener: thrower,
    removeEventListener: thrower,
  }),
  () => new Proxy({}, Object.fromEntries(Reflect.ownKeys(Reflect).map((trap) => [trap, thrower]))),
  () => {
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    return proxy;
  },
  () => {
    const { proxy, revoke } = Proxy.revocable([], {});
    revoke();
    return proxy;
  },
  () => new Proxy([1, 2, 3, 4], { get: thrower }),
  () => Object.defineProperty([1, 2, 3, 4], 1, { get: thrower }),
  () => Object.assign([1, 2, 3, 4], { every: thrower, [Symbol.iterator]: thrower }),
  () => Object.assign([1, 2], { [Symbol.iterator]: thrower }),
  () => [1n, Symbol('element'), 3, {}],
  () => [Symbol('element'), 1, 2],
  () => new Array<unknown>(2 ** 32 - 1),
  () => [, 1, , 2], // eslint-disable-line no-sparse-arrays
  () => ({ length: 2 ** 53 - 1 }),
  () => detached(new Float32Array(16)),
  () => detached(new Uint8Array(16)),
  () => detached(new Int32Array(16)),
  () => shrunk(),
  () => new Float32Array(new SharedArrayBuffer(64)),
  () => Object.defineProperty(new Float32Array(4), 'length', { value: 16 }),
  () => Object.defineProperty(new Float32Array(16), 'length', { get: thrower }),
  () =>
    new (class extends Float32Array {
      static get [Symbol.species](): never {
        return thrower();
      }
    })(16),
  () => new Float64Array(16),
  () => new Uint8ClampedArray(3 * side * side),
  () => new DataView(new ArrayBuffer(8)),
  () => new ArrayBuffer(8),
  () => runInContext('({ get data() { throw 1 } })', otherRealm) as unknown,
  () => runInContext('[1, 2, 3, 4]', otherRealm) as unknown,
  () => runInContext('new Float32Array(16).fill(NaN)', otherRealm) as unknown,
  () =>
    (function* () {
      yield thrower;
    })(),
];

/** Nothing is written outside of the folder, and no model is made that fills the memory. */
const harmless = (value: unknown): boolean =>
  !(typeof value === 'string' && value.includes('/')) &&
  !(typeof value === 'number' && value > 1000 && value < 2 ** 31);

const anything = fc
  .anything({
    withBigInt: true,
    withBoxedValues: true,
    withDate: true,
    withMap: true,
    withNullPrototype: true,
    withObjectString: true,
    withSet: true,
    withSparseArray: true,
    withTypedArray: true,
    maxDepth: 2,
  })
  .filter(harmless);

test('what can be called is known to this file', (t) => {
  const found: string[] = [];
  for (const [name, value] of Object.entries(api)) {
    if (typeof value !== 'function') continue;
    if ((value as unknown) === LtrpError) continue; // what is thrown, made by the package alone
    if (!/^[A-Z]/.test(name)) {
      found.push(name);
      continue;
    }
    const { prototype } = value as unknown as { prototype: object };
    for (const [prefix, owner] of [
      [name, value],
      [`${name}.prototype`, prototype],
    ] as const) {
      for (const key of Reflect.ownKeys(owner)) {
        if (key === 'constructor' || key === 'prototype') continue;
        const member: unknown = Object.getOwnPropertyDescriptor(owner, key)?.value;
        const called = typeof key === 'symbol' ? 'asyncDispose' : key;
        if (typeof member === 'function') found.push(`${prefix}.${called}`);
      }
    }
  }
  t.deepEqual(found.sort(), [...Object.keys(subjects), ...withoutArguments].sort());
});

test('models have no public constructor', (t) => {
  for (const Model of [MaskedAutoencoder, PatchRanker, Trainer, VisionTransformer]) {
    const Public = Model as unknown as new (...given: unknown[]) => unknown;
    for (const given of [[], [{}], [Symbol('made'), {}, {}], hostile.map((make) => make())]) {
      const error = t.throws(() => new Public(...given), { instanceOf: LtrpError });
      t.regex(
        error.message,
        new RegExp(`^${Model.name} has no public constructor; use ${Model.name}\\.`),
      );
    }
  }
});

for (const [name, subject] of Object.entries(subjects)) {
  test.serial(`${name} answers any value`, async (t) => {
    const problems: string[] = [];
    for (const path of placesOf(subject)) {
      const check = async (value: unknown): Promise<string | null> =>
        problem(subject, path, replaced(subject.valid(), path, put(value)) as unknown[]);
      for (const make of hostile) {
        const found = await check(make());
        if (found !== null) problems.push(`${path.join('.')} = ${String(make)}: ${found}`);
      }
      const details = await fc.check(
        fc.asyncProperty(anything, async (value) => {
          const found = await check(value);
          if (found !== null) throw new Error(found);
        }),
        { numRuns: 10 },
      );
      if (details.failed) {
        problems.push(
          `${path.join('.')} = ${fc.stringify(details.counterexample)}: ${String(details.errorInstance)}`,
        );
      }
    }
    t.deepEqual(problems, []);
  });

  test.serial(`${name} answers getters that throw`, async (t) => {
    for (const path of placesOf(subject)) {
      if (typeof path.at(-1) !== 'string') continue;
      const given = replaced(subject.valid(), path, (at, key) => {
        Object.defineProperty(at, key, { get: thrower, enumerable: true });
      }) as unknown[];
      const called = subject.call;
      const error = (await Promise.resolve()
        .then(() => called(...given))
        .then(
          () => new Error('no error'),
          (thrown: unknown) => thrown,
        )) as LtrpError;
      const where = path.join('.');
      t.true(error instanceof LtrpError, `${where}: ${String(error)}`);
      t.is(error.code, 'ERR_LTRP_INVALID_ARGUMENT', where);
      t.regex(
        error.message,
        new RegExp(`${String(path.at(-1))} cannot be read: that threw thrown by the caller`),
        where,
      );
    }
  });
}

test('options may be proxies and instances of classes', async (t) => {
  class Settings {
    readonly #share = 0.75;
    get maskRatio(): number {
      return this.#share;
    }
  }
  const expected = await mae.scorePatches(images() as never, { maskRatio: 0.75 });
  const wrapped = new Proxy(images() as object, {});
  t.deepEqual(await mae.scorePatches(wrapped as never, new Settings()), expected);
  t.deepEqual(
    await mae.scorePatches(wrapped as never, new Proxy({ maskRatio: 0.75 }, {})),
    expected,
  );
});
