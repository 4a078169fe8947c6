/** The teacher: one run at the peak learning rate, and for each length a copy of it in which the rate falls. */
import { cpSync, existsSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { heldOut, writeList } from './photographs.mjs';
import { hasBegun, shortDigest, train, words } from './runs.mjs';

/**
 * Returns the file of a masked autoencoder that has learned from the photographs for so many steps and a tenth more. It begins from
 * `init`, or from random weights of a size.
 */
export function trainTeacher({ photographs, runs, steps, precision, size, init }) {
  const parts = heldOut(photographs);
  const [training, held] = [writeList(runs, parts.training), writeList(runs, parts.held)];
  const recipe = words(`
    --schedule wsd --batch-size 64 --micro-batch-size 32 --precision ${precision} --learning-rate 0.001
    --crop-scale 0.3,1 --decode-size 256 --cache-memory 4GiB --val-every 250 --val-count 128 --checkpoint-every 4m`);
  const stable = join(
    runs,
    `teacher-${shortDigest([recipe, training.digest, held.digest, init?.digest ?? size])}`,
  );
  const decayed = `${stable}-${steps}`;
  const run = (out, length, decay, begin) =>
    train('pretrain', out, length, [
      ...['--data', training.file, '--val', held.file, ...recipe, ...begin],
      ...words(`--warmup ${Math.min(100, steps)} --decay ${decay}`),
    ]);

  if (!existsSync(decayed)) {
    const done = stepsDone(stable);
    if (done > steps)
      throw new Error(`--teacher-steps must be ${done} or more, which are done; got ${steps}.`);
    const begin = init === undefined ? ['--model', size] : ['--init', init.path];
    // A run that goes on has its weights, wherever those that it began from are now.
    run(stable, steps, 0, hasBegun(stable) ? [] : begin);
    copyRun(stable, decayed);
  }
  const decay = Math.ceil(steps / 10);
  return run(decayed, steps + decay, decay, []);
}

function stepsDone(out) {
  if (!existsSync(out)) return 0;
  const numbers = readdirSync(out).map((name) => /^checkpoint-(\d+)\.safetensors$/.exec(name)?.[1]);
  return Math.max(0, ...numbers.map((digits) => Number(digits ?? 0)));
}

/** What a run resumes from. Under its own name only once it is whole. */
function copyRun(from, to) {
  const part = `${to}.part`;
  const needed = /^(run\.json|log\.jsonl|checkpoint-\d+\.safetensors)$/;
  rmSync(part, { recursive: true, force: true });
  cpSync(from, part, {
    recursive: true,
    filter: (path) => path === from || needed.test(basename(path)),
  });
  renameSync(part, to);
}
