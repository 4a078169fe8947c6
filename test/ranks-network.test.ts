/** Ranks in network namespaces with addresses of their own and a bounded bandwidth: what they share is a link alone. */
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import anyTest, { type ExecutionContext } from 'ava';
import { makeNetworks } from '../bench/networks.js';
import { built, ltrp, outcomeOf, type Outcome } from './support/command.js';
import { photosFor, readLog, small, steps, until } from './support/runs.js';

const networks = makeNetworks(4);
const test = networks === null ? anyTest.serial.skip : anyTest.serial;
const skipped = networks === null ? ' (skipped: this process may not make network namespaces)' : '';

anyTest.after.always(() => networks?.close());

/** `size` ranks, each in a namespace of its own. */
function startRanks(
  size: number,
  args: readonly string[],
): { child: ChildProcess; outcome: Promise<Outcome> }[] {
  if (networks === null) throw new Error('there are no namespaces');
  return Array.from({ length: size }, (_, rank) => {
    const child = networks.start(rank, size, [process.execPath, built, ...args]);
    return { child, outcome: outcomeOf(child) };
  });
}

const losses = (out: string): number[] =>
  readLog(out).flatMap(({ loss }) => (loss === undefined ? [] : [Number(loss)]));

test(`two and four ranks on networks of their own have the curve of one${skipped}`, async (t: ExecutionContext) => {
  t.timeout(240_000);
  const { folder, data } = await photosFor(t, 5);
  const args = ['pretrain', '--data', data, ...small.slice(2), '--batch-size', '5', '--steps', '4'];
  const one = join(folder, 'one');
  t.is((await ltrp([...args, '--out', one])).code, 0);
  for (const size of [2, 4]) {
    const out = join(folder, `of-${size}`);
    const outcomes = startRanks(size, [...args, '--out', out]).map(({ outcome }) => outcome);
    for (const { code, stderr } of await Promise.all(outcomes)) t.is(code, 0, stderr);
    t.is(losses(out).length, 4);
    for (const [i, loss] of losses(one).entries()) {
      const seen = losses(out)[i] ?? NaN;
      t.true(Math.abs(seen / loss - 1) < 2e-4, `step ${i + 1} of ${size} ranks: ${seen}, ${loss}`);
    }
  }
});

test(`a link that is cut ends both, who name each other${skipped}`, async (t: ExecutionContext) => {
  t.timeout(120_000);
  const { data, out } = await photosFor(t, 5);
  const args = ['pretrain', '--data', data, '--out', out, ...small, '--steps', '100000'];
  const ranks = startRanks(2, [...args, '--rank-timeout', '10']);
  t.teardown(() => {
    for (const { child } of ranks) child.kill('SIGKILL');
  });
  await until(() => steps(out).length >= 4);
  networks?.link(0, 'down');
  const begin = performance.now();
  const [lead, other] = await Promise.all(ranks.map(({ outcome }) => outcome));
  t.true(performance.now() - begin < 20_000);
  t.is(lead?.code, 1);
  t.regex(lead?.stderr ?? '', /because rank 1 \(.*ERR_LTRP_RANK_LOST/);
  t.is(other?.code, 1);
  t.regex(other?.stderr ?? '', /because rank 0 (has not answered|\().*ERR_LTRP_RANK_LOST/);
});
