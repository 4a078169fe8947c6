/** Ranks in network namespaces with addresses of their own and a bounded bandwidth: what they share is a link alone. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import anyTest, { type ExecutionContext } from 'ava';
import { built, ltrp, outcomeOf, type Outcome } from './support/command.js';
import { photosFor, readLog, small, steps, until } from './support/runs.js';

const ran = (command: string): boolean => spawnSync('sh', ['-ec', command]).status === 0;
const name = `ltrp${process.pid}`;
const spaces = [`${name}a`, `${name}b`] as const;

/** Two namespaces and a link of 100 Mbit/s between them. */
const made = ran(`
  ip netns add ${spaces[0]}
  ip netns add ${spaces[1]}
  ip link add va netns ${spaces[0]} type veth peer name va netns ${spaces[1]}
  for pair in ${spaces[0]}=1 ${spaces[1]}=2; do
    space=\${pair%=*}
    ip -n $space address add 10.77.0.\${pair#*=}/24 dev va
    ip -n $space link set lo up
    ip -n $space link set va up
    ip netns exec $space tc qdisc add dev va root tbf rate 100mbit burst 128kbit latency 400ms
  done`);
const test = made ? anyTest.serial : anyTest.serial.skip;

anyTest.after.always(() => {
  for (const space of spaces) ran(`ip netns delete ${space}`);
});

function startRanks(args: readonly string[]): { child: ChildProcess; outcome: Promise<Outcome> }[] {
  return spaces.map((space, rank) => {
    const child = spawn('ip', ['netns', 'exec', space, process.execPath, built, ...args], {
      env: {
        ...process.env,
        ...{ RANK: String(rank), WORLD_SIZE: '2', OMP_NUM_THREADS: '1' },
        ...{ MASTER_ADDR: '10.77.0.1', MASTER_PORT: '29500' },
      },
    });
    return { child, outcome: outcomeOf(child) };
  });
}

const losses = (out: string): number[] =>
  readLog(out).flatMap(({ loss }) => (loss === undefined ? [] : [Number(loss)]));

const skipped = made ? '' : ' (skipped: this process may not make network namespaces)';

test(`two ranks on two networks have the curve of one${skipped}`, async (t: ExecutionContext) => {
  t.timeout(120_000);
  const { folder, data, out } = await photosFor(t, 5);
  const args = ['pretrain', '--data', data, ...small.slice(2), '--batch-size', '5', '--steps', '4'];
  const outcomes = await Promise.all(
    startRanks([...args, '--out', out]).map(({ outcome }) => outcome),
  );
  for (const { code, stderr } of outcomes) t.is(code, 0, stderr);
  const one = join(folder, 'one');
  t.is((await ltrp([...args, '--out', one])).code, 0);
  t.is(losses(out).length, 4);
  for (const [i, loss] of losses(one).entries()) {
    t.true(Math.abs((losses(out)[i] ?? NaN) / loss - 1) < 2e-4, `step ${i + 1}: ${loss}`);
  }
});

test(`a link that is cut ends both, who name each other${skipped}`, async (t: ExecutionContext) => {
  t.timeout(120_000);
  const { data, out } = await photosFor(t, 5);
  const args = ['pretrain', '--data', data, '--out', out, ...small, '--steps', '100000'];
  const ranks = startRanks([...args, '--rank-timeout', '10']);
  t.teardown(() => {
    for (const { child } of ranks) child.kill('SIGKILL');
  });
  await until(() => steps(out).length >= 4);
  t.true(ran(`ip -n ${spaces[0]} link set va down`));
  const begin = performance.now();
  const [lead, other] = await Promise.all(ranks.map(({ outcome }) => outcome));
  t.true(performance.now() - begin < 20_000);
  t.is(lead?.code, 1);
  t.regex(lead?.stderr ?? '', /because rank 1 \(.*ERR_LTRP_RANK_LOST/);
  t.is(other?.code, 1);
  t.regex(other?.stderr ?? '', /because rank 0 (has not answered|\().*ERR_LTRP_RANK_LOST/);
});
