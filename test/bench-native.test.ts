// The benchmark's native helper (bench/native), where it was built: `node scripts/setup.mjs bench-native`.
import { spawn } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import test from 'ava';
import { repository, temporaryFolder } from './support/paths.js';

const helper = path.join(repository, 'build', 'ltrp_bench');
const available = existsSync(helper);
const run = available ? test : test.skip;
const title = (text: string) =>
  available ? text : `${text} (skipped: build/ltrp_bench was not built)`;

interface Reply {
  id?: number;
  ok: boolean;
  code?: string;
  message?: string;
  ms?: number;
  scores?: number[][];
  logits?: number[][];
  shape?: number[];
  gflops?: number;
  meanRelativeError?: { float32: number; bfloat16: number };
  kernels?: { name: string; oursMs: number; plainMs: number; disagreement: number }[];
}

/** Sends the requests, all at once, and gives the replies once the helper has ended. */
async function talk(requests: (object | string)[]): Promise<Reply[]> {
  const child = spawn(helper, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', resolve);
  });
  for (const request of requests) {
    child.stdin.write(`${typeof request === 'string' ? request : JSON.stringify(request)}\n`);
  }
  child.stdin.end();
  const replies: Reply[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    replies.push(JSON.parse(line) as Reply);
  }
  const status = await ended;
  if (status !== 0) throw new Error(`The helper ended with status ${status}.`);
  return replies;
}

const worstRelative = (found: number[][], exact: number[][]) =>
  Math.max(
    ...found.flatMap((row, i) =>
      row.map((x, j) => Math.abs(x / ((exact[i] as number[])[j] as number) - 1)),
    ),
  );

run(title('scores, logits and tokens of generated models agree with float64'), async (t) => {
  const created = await temporaryFolder(t);
  const file = (name: string) => path.join(created, name);
  const visible = [
    [0, 3, 5, 6, 9, 12],
    [1, 2, 4, 10, 13, 15],
  ];
  const images = { path: file('images.f32'), shape: [2, 3, 32, 32] };
  const replies = await talk([
    { id: 1, op: 'hello', threads: 1 },
    {
      op: 'generate',
      seed: 3,
      mae: { geometry: 'tiny', path: file('mae.safetensors') },
      ranker: { geometry: 'tiny', head: 'token', path: file('ranker.safetensors') },
      images: { count: 2, height: 32, width: 32, path: images.path },
    },
    {
      op: 'load',
      mae: file('mae.safetensors'),
      ranker: file('ranker.safetensors'),
      images,
      visible,
    },
    { op: 'scores', images: 2, precision: 'float32' },
    { op: 'scores', images: 2, batch: 2, variants: 4, precision: 'float32' },
    { op: 'scores', images: 2, precision: 'bfloat16' },
    { op: 'reference', images: 2, rankerImages: 2 },
    { op: 'rank', images: 2, batch: 1 },
    { op: 'tokens', path: file('tokens.f32') },
  ]);
  t.deepEqual(
    replies.filter((reply) => !reply.ok),
    [],
  );
  t.is(replies[0]?.id, 1);
  const [loop, batched, half, exact, ranked, tokens] = replies.slice(3) as [
    Reply,
    Reply,
    Reply,
    Reply,
    Reply,
    Reply,
  ];
  t.true((loop.ms ?? 0) > 0);
  t.is(exact.scores?.length, 2);
  t.is(exact.scores?.[1]?.length, 6);
  t.true(worstRelative(loop.scores!, exact.scores!) < 1e-4);
  t.is(batched.scores?.[0]?.length, 4);
  t.true(worstRelative(batched.scores!, exact.scores!) < 1e-4);
  // The authors' mixed precision loses most of a small difference; it must not be float32 by accident.
  const halfError = worstRelative(half.scores!, exact.scores!);
  t.true(halfError > 1e-4 && halfError < 1, String(halfError));
  t.deepEqual(
    ranked.logits?.map((row) => row.length),
    [16, 16],
  );
  t.true(worstRelative(ranked.logits!, exact.logits!) < 1e-3);
  t.deepEqual(tokens.shape, [2, 17, 32]);
  t.is(statSync(file('tokens.f32')).size, 2 * 17 * 32 * 4);
});

run(title('the self-check, a peak and the micro-benchmarks'), async (t) => {
  const [check, peak, kernels] = (await talk([
    { op: 'check' },
    { op: 'peak', precision: 'float32', seconds: 0.05, shapes: [[64, 48, 80]] },
    { op: 'kernels', seconds: 0.05 },
  ])) as [Reply, Reply, Reply];
  t.true(check.ok, check.message);
  t.true((check.meanRelativeError?.float32 ?? 1) < 1e-4);
  t.true(peak.ok, peak.message);
  t.true((peak.gflops ?? 0) > 0);
  t.deepEqual(peak.shape, [64, 80, 48]);
  t.true(kernels.ok, kernels.message);
  t.true((kernels.kernels?.length ?? 0) > 0);
});

run(title('bad requests are refused one by one, and the helper goes on'), async (t) => {
  const replies = await talk([
    'not JSON',
    { op: 'fly' },
    { op: 'scores', images: 1 },
    { op: 'load', mae: '/nowhere/mae.safetensors' },
    { op: 'load', images: { path: '/nowhere/images.f32', shape: [1, 3, 32, 32] } },
    { op: 'generate', mae: { geometry: 'vit_q', path: '/nowhere/x' } },
    { op: 'peak', precision: 'float8' },
    { op: 'peak', precision: 'float32', shapes: [[0, 1, 1]] },
    { op: 'kernels', simd: 'abacus' },
    { op: 'hello', threads: 0 },
    { id: 'last', op: 'hello' },
  ]);
  t.deepEqual(
    replies.map((reply) => reply.code),
    [
      'ERR_LTRP_INVALID_ARGUMENT',
      'ERR_LTRP_INVALID_ARGUMENT',
      'ERR_LTRP_INVALID_ARGUMENT',
      'ERR_LTRP_FILE_NOT_FOUND',
      'ERR_LTRP_FILE_NOT_FOUND',
      'ERR_LTRP_INVALID_ARGUMENT',
      'ERR_LTRP_INVALID_ARGUMENT',
      'ERR_LTRP_INVALID_ARGUMENT',
      'ERR_LTRP_UNSUPPORTED',
      'ERR_LTRP_INVALID_ARGUMENT',
      undefined,
    ],
  );
  t.like(replies.at(-1), { id: 'last', ok: true });
});
