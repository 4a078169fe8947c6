/**
 * Workers that are terminated while one of the two binaries registers itself, in a process of its own:
 * `terminations.mjs bootstrap|core FILE SECONDS COUNT`. Stops at COUNT or after SECONDS, and prints how many there were. A
 * termination that ends the process is seen from outside.
 */
import { Worker } from 'node:worker_threads';

const [, , file = '', seconds = '10', count = '10000', span = '0.7'] = process.argv;
const program = `
  const { workerData: { flag, file } } = require('node:worker_threads');
  Atomics.store(flag, 0, 1);
  Atomics.notify(flag, 0);
  const module = { exports: {} };
  process.dlopen(module, file, 2);
  // Of the core: calls that are made, cancelled and settled until the end.
  for (const { Job, normalizeImages } = module.exports; Job; ) {
    const job = new Job(() => undefined);
    normalizeImages(
      job,
      { data: new Uint8Array(3), shape: [1, 1, 1, 3] },
      { mean: [0, 0, 0], std: [1, 1, 1] },
    ).catch(() => undefined);
    job.cancel();
  }`;
const until = performance.now() + 1000 * Number(seconds);
let terminated = 0;

async function one() {
  const flag = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(program, {
    eval: true,
    workerData: { flag, file },
    env: {},
    execArgv: [],
    trackUnmanagedFds: false,
  });
  worker.on('error', () => undefined);
  const end = new Promise((resolve) => worker.on('exit', resolve));
  await Atomics.waitAsync(flag, 0, 0).value;
  const moment = performance.now() + Number(span) * Math.random();
  while (performance.now() < moment);
  void worker.terminate();
  await end;
  terminated += 1;
}

async function many() {
  while (terminated < Number(count) && performance.now() < until) await one();
}

if (process.env.LTRP_OPEN_FIRST) {
  // The core finds the LibTorch that is open already.
  const { PatchRanker } = await import(process.env.LTRP_OPEN_FIRST);
  (await PatchRanker.load('tiny')).dispose();
}
await Promise.all([many(), many(), many()]);
console.log(terminated);
