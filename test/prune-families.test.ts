/**
 * `pruneOnnx` on what exporters write: vision transformers of transformers and timm with random weights, made by
 * test/support/make_vits.py. It needs a Python with torch, transformers, timm, onnx, onnxscript and onnxruntime: `LTRP_TEST_PYTHON`,
 * or python3. `LTRP_VITS=FOLDER` keeps the models there; `LTRP_VITS_ONLY=vit* clip.legacy` takes some of them.
 *
 * The result for all patches is compared with the model before, and for kept ones with PyTorch, in onnxruntime-web and, where
 * `npm run bench:start` has installed it, in onnxruntime-node.
 */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, readdir } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { pruneOnnx } from '../lib/index.js';
import { openTyped, type TypedFeeds, type TypedModel } from './support/onnx.js';
import { repository, temporaryFolder } from './support/paths.js';

const python = process.env.LTRP_TEST_PYTHON ?? 'python3';
const needed =
  'import torch, transformers, onnx, onnxscript, onnxruntime, importlib.util as u; assert u.find_spec("timm")';
const hasPython = ((): boolean => {
  try {
    execFileSync(python, ['-c', needed], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

const maker = join(repository, 'test', 'support', 'make_vits.py');
const folder = process.env.LTRP_VITS ?? join(tmpdir(), 'ltrp-vits');
/** Some of each kind; the maker's --list names all. */
const usual = `vit.legacy vit.dynamo deit-distilled.dynamo clip.legacy siglip.legacy dinov2.legacy dinov2-registers.dynamo timm-eva.legacy
  beit.dynamo vitmae.legacy.input vitmae.dynamo timm-mean.dynamo clip-two-towers.legacy vit.legacy.int8 vit.dynamo.half vit.legacy.sizes
  timm-unfused.legacy.opset12 vit.legacy.fused vit-masked-image.legacy swin.dynamo`;
const only = (process.env.LTRP_VITS_ONLY ?? usual).split(/\s+/);

interface Stored {
  file: string;
  type: 'float32' | 'int64';
  shape: number[];
}

interface Case {
  patches: number;
  half: boolean;
  int8: boolean;
  draws?: boolean;
  refused?: boolean;
  outputs: string[];
  pixels: Stored;
  ids: Stored;
  others?: Record<string, Stored>;
  full: Stored[];
  reference: Stored[];
}

type Run = (model: string) => Promise<TypedModel>;

/** onnxruntime-node is no dependency of ours; the benchmarks install it. */
const native = ((): Run | undefined => {
  try {
    const ort = createRequire(join(repository, 'bench', 'package.json'))(
      'onnxruntime-node',
    ) as typeof import('onnxruntime-web');
    return (model) => openTyped(ort, model);
  } catch {
    return undefined;
  }
})();

const runtimes: [string, Run][] = [
  ['onnxruntime-web', (model) => openTyped(undefined, model)],
  ...(native === undefined ? [] : [['onnxruntime-node', native] as [string, Run]]),
];

async function read(at: string, { file, type, shape }: Stored): Promise<TypedFeeds[string]> {
  const bytes = await readFile(join(at, file));
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
  return {
    type,
    data: type === 'int64' ? new BigInt64Array(buffer) : new Float32Array(buffer),
    shape,
  };
}

const conditional = hasPython ? test.serial : test.serial.skip;
const why = hasPython
  ? ''
  : ` (${python} has no torch, transformers, timm, onnx, onnxscript, onnxruntime)`;

conditional(`models of transformers and timm, by both exporters${why}`, async (t) => {
  t.timeout(3_600_000);
  await promisify(execFile)(python, [maker, folder, '--only', ...only], { maxBuffer: 2 ** 28 });
  const listed = await promisify(execFile)(python, [maker, folder, '--list', '--only', ...only]);
  const out = await temporaryFolder(t);
  let passed = 0;
  for (const name of listed.stdout.trim().split('\n')) {
    const at = join(folder, name);
    if (!existsSync(join(at, 'case.json'))) {
      t.log(`${name}: ${(await readFile(join(at, 'failed.txt'), 'utf8')).split('\n')[0] ?? ''}`);
      continue;
    }
    const output = join(out, `${name}.onnx`);
    if ((await caseOf(at)).refused === true) {
      const error = await t.throwsAsync(pruneOnnx(join(at, 'model.onnx'), output), {
        code: 'ERR_LTRP_UNSUPPORTED',
      });
      t.log(`${name}: refused: ${error.message}`);
      continue;
    }
    const { files, notes } = await pruneOnnx(join(at, 'model.onnx'), output);
    const results: string[] = [];
    for (const [runtime, run] of runtimes) {
      results.push(`${runtime} ${await compared(t, name, at, files[0] as string, run)}`);
    }
    t.log(
      `${name}: ${results.join('; ')}${notes.length === 0 ? '' : `; ${String(notes.length)} notes`}`,
    );
    passed++;
  }
  t.true(passed > 0);
  t.true((await readdir(out)).length >= passed);
});

const caseOf = async (at: string): Promise<Case> =>
  JSON.parse(await readFile(join(at, 'case.json'), 'utf8')) as Case;

async function compared(
  t: ExecutionContext,
  name: string,
  at: string,
  cut: string,
  run: Run,
): Promise<string> {
  const what = await caseOf(at);
  const feeds: TypedFeeds = { pixel_values: await read(at, what.pixels) };
  if (what.half)
    feeds.pixel_values = { ...(feeds.pixel_values as TypedFeeds[string]), type: 'float16' };
  for (const [input, stored] of Object.entries(what.others ?? {}))
    feeds[input] = await read(at, stored);
  // Of float16: one rounding of the last bit, where two runtimes' graphs round at different places.
  const tolerance = (scale: number): number => (what.half ? 2 ** -9 * scale : 1e-5);
  const texts: string[] = [];
  const check = (actual: Float32Array, expected: Float32Array, where: string): void => {
    t.is(actual.length, expected.length, `${name}, ${where}`);
    let [most, scale] = [0, 1];
    expected.forEach((value, index) => {
      const difference = Math.abs(value - (actual[index] as number));
      most = difference <= most ? most : difference;
      scale = Math.max(scale, Math.abs(value));
    });
    t.true(
      most <= tolerance(scale),
      `${name}, ${where}: off by ${String(most)} of ${String(scale)}`,
    );
    texts.push(`${where} ${most.toExponential(1)}`);
  };
  const model = await run(cut);
  if (what.draws !== true) {
    const [images = 1] = what.pixels.shape;
    const all = BigInt64Array.from({ length: images * what.patches }, (_, index) =>
      BigInt(index % what.patches),
    );
    const keep = { type: 'int64' as const, data: all, shape: [images, what.patches] };
    const before = await run(join(at, 'model.onnx'));
    const [actual, expected] = [await model.run({ ...feeds, keep }), await before.run(feeds)];
    for (const output of what.outputs)
      check(actual[output] as Float32Array, expected[output] as Float32Array, `all ${output}`);
    await before.release();
  }
  const ids = await read(at, what.ids);
  const actual = await model.run({ ...feeds, keep: ids });
  // Runtimes differ in int8: there the same graph, cut by hand before it was quantised, is run in the same one.
  const hand = what.int8 ? await run(join(at, 'hand.onnx')) : undefined;
  const byHand = await hand?.run({ ...feeds, ids });
  await hand?.release();
  for (const [index, output] of what.outputs.entries()) {
    const found = actual[output];
    // A model that drew its own patches no longer says which.
    if (found === undefined && what.draws === true && index > 0) continue;
    const expected = byHand?.[output] ?? (await read(at, what.reference[index] as Stored)).data;
    check(found as Float32Array, expected as Float32Array, `kept ${output}`);
  }
  await model.release();
  return texts.join(', ');
}
