/**
 * Ranks in network namespaces, one of which is killed, stopped or cut off at a random moment, again and again. Each time all others
 * must end in time and name it, and the run that another number of ranks resumes must have the curve of one rank. Needs root.
 *
 *   node --import=tsx bench/rank-faults.ts [--times 20] [--seed N]
 */
import { spawn, type ChildProcess, type StdioOptions } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { makeNetworks, type Networks } from './networks.js';
import { mulberry32 } from '../lib/evaluation/random.js';

const { values } = parseArgs({
  options: {
    times: { type: 'string', default: '20' },
    seed: { type: 'string', default: String(Date.now() % 1e6) },
  },
});
const main = resolve(import.meta.dirname, '..', 'dist', 'cli', 'main.js');
const folder = mkdtempSync(join(tmpdir(), 'ltrp-faults-'));
const photos = join(folder, 'photos');
const random = mulberry32(Number(values.seed));
const below = (n: number): number => Math.floor(n * random());

const mostRanks = 4;
/** Steps after the newest checkpoint that the resumed run takes. */
const more = 10;
/** Within which all have ended, in seconds. */
const limit = 60;
/** Of a loss against that of one rank: float32 sums in another order, enlarged by some hundred steps of training. */
const bound = 2e-3;

const training = [
  ...['--data', photos, '--image-size', '32', '--dim', '32', '--depth', '1', '--heads', '1'],
  ...['--decoder-dim', '16', '--decoder-depth', '1', '--decoder-heads', '1', '--threads', '1'],
  ...['--batch-size', '5', '--schedule', 'wsd', '--decay', '0', '--warmup', '0'],
  ...['--learning-rate', '0.0003', '--export-type', 'float32', '--checkpoint-every', '5'],
];

interface Rank {
  child: ChildProcess;
  ended: Promise<{ code: number | null; stderr: string; at: number }>;
}

const quiet: StdioOptions = ['ignore', 'ignore', 'pipe'];
const commandOf = (args: readonly string[]): string[] => [
  ...[process.execPath, main, 'pretrain', ...training],
  ...args,
];

function watched(child: ChildProcess): Rank {
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  const ended = new Promise<Awaited<Rank['ended']>>((done) => {
    child.once('close', (code) => {
      done({ code, stderr, at: performance.now() });
    });
  });
  return { child, ended };
}

function startAlone(args: readonly string[]): Rank {
  const [program = '', ...rest] = commandOf(args);
  return watched(spawn(program, rest, { stdio: quiet }));
}

const startRanks = (networks: Networks, size: number, args: readonly string[]): Rank[] =>
  Array.from({ length: size }, (_, rank) =>
    watched(networks.start(rank, size, commandOf(args), { stdio: quiet })),
  );

/** Losses by step; of a step that a resumed run took again, the later. */
function losses(out: string): Map<number, number> {
  const file = join(out, 'log.jsonl');
  const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(0, -1) : [];
  const entries = lines.map((line) => JSON.parse(line) as { step: number; loss?: number | string });
  return new Map(
    entries.flatMap(({ step, loss }) =>
      loss === undefined ? [] : [[step, Number(loss)] as [number, number]],
    ),
  );
}

const newestCheckpoint = (out: string): number => {
  const names = existsSync(out) ? readdirSync(out) : [];
  const steps = names.flatMap((name) => /^checkpoint-(\d+)\.safetensors$/.exec(name)?.[1] ?? []);
  return Math.max(0, ...steps.map(Number));
};

const faults = {
  SIGKILL: ({ child }: Rank) => child.kill('SIGKILL'),
  SIGSTOP: ({ child }: Rank) => child.kill('SIGSTOP'),
  'link down': (_: Rank, networks: Networks, rank: number) => {
    networks.link(rank, 'down');
  },
};

interface Outcome {
  wrong: string[];
  out: string;
  goal: number;
  words: string;
}

async function once(networks: Networks, time: number): Promise<Outcome> {
  const wrong: string[] = [];
  const out = join(folder, `run-${time}`);
  const size = 2 + below(mostRanks - 1);
  const victim = below(size);
  const name = (['SIGKILL', 'SIGSTOP', 'link down'] as const)[below(3)] ?? 'SIGKILL';
  const ranks = startRanks(networks, size, [
    ...['--out', out, '--steps', '100000', '--rank-timeout', '10', '--join-timeout', '10'],
  ]);
  if (time % 3 === 0) await sleep(2500 * random());
  else {
    while (losses(out).size === 0 && ranks.every(({ child }) => child.exitCode === null))
      await sleep(20);
    await sleep(2000 * random());
  }
  const step = Math.max(0, ...losses(out).keys());
  const begin = performance.now();
  faults[name](ranks[victim] as Rank, networks, victim);
  let latest = 0;
  for (const [rank, { child, ended }] of ranks.entries()) {
    if (rank === victim && name !== 'link down') continue;
    const timer = setTimeout(() => child.kill('SIGKILL'), 1000 * limit);
    const { code, stderr, at } = await ended;
    clearTimeout(timer);
    latest = Math.max(latest, at - begin);
    const named = rank === victim ? /\brank \d/ : new RegExp(`\\brank ${victim}\\b`);
    if (code === null) wrong.push(`rank ${rank} had not ended after ${limit} s`);
    else if (code === 0) wrong.push(`rank ${rank} ended with exit code 0`);
    else if (!named.test(stderr)) wrong.push(`rank ${rank} names no rank: ${stderr.slice(-300)}`);
  }
  ranks[victim]?.child.kill('SIGKILL');
  await ranks[victim]?.ended;
  if (name === 'link down') networks.link(victim, 'up');
  const from = newestCheckpoint(out);
  const goal = from + more;
  const resumedOn = 1 + below(mostRanks);
  const args = ['--out', out, '--steps', String(goal), '--resume'];
  const resumed = resumedOn === 1 ? [startAlone(args)] : startRanks(networks, resumedOn, args);
  for (const { ended } of resumed) {
    const { code, stderr } = await ended;
    if (code !== 0 || stderr.includes('passing over')) wrong.push(`resumed: ${stderr.slice(-300)}`);
  }
  const words = [
    `${name} of rank ${victim} of ${size} ${step === 0 ? 'before the first step' : `after step ${step}`}`,
    `all ended after ${(latest / 1000).toFixed(1)} s`,
    `resumed at step ${from} on ${resumedOn}`,
  ];
  return { wrong, out, goal, words: words.join('; ') };
}

async function run(networks: Networks): Promise<void> {
  mkdirSync(photos);
  for (let i = 0; i < 12; i++) {
    const noise = Uint8Array.from({ length: 96 * 96 * 3 }, () => below(256));
    await sharp(noise, { raw: { width: 96, height: 96, channels: 3 } })
      .blur(1 + i)
      .png()
      .toFile(join(photos, `${i}.png`));
  }
  process.stdout.write(`seed ${values.seed}\n`);
  const outcomes: Outcome[] = [];
  for (let time = 0; time < Number(values.times); time++) {
    const outcome = await once(networks, time);
    outcomes.push(outcome);
    process.stdout.write(`${time + 1}. ${[outcome.words, ...outcome.wrong].join('; ')}\n`);
  }
  const reference = join(folder, 'one');
  const longest = Math.max(...outcomes.map(({ goal }) => goal));
  const { code, stderr } = await startAlone(['--out', reference, '--steps', String(longest)]).ended;
  if (code !== 0) throw new Error(stderr);
  const expected = losses(reference);
  let largest = 0;
  for (const { out, goal, wrong } of outcomes) {
    const seen = losses(out);
    for (let step = 1; step <= goal; step++) {
      const difference = Math.abs((seen.get(step) ?? NaN) / (expected.get(step) ?? NaN) - 1);
      largest = Math.max(largest, difference);
      if (!(difference < bound)) wrong.push(`step ${step} of ${goal} is off by ${difference}`);
    }
  }
  const failed = outcomes.filter(({ wrong }) => wrong.length > 0);
  for (const { out, wrong } of failed) process.stdout.write(`${out}: ${wrong[0]}\n`);
  process.stdout.write(
    `${outcomes.length} faults, ${failed.length} went wrong; ${longest} steps at most, no loss further than ${largest.toExponential(1)} from one rank's\n`,
  );
  process.exitCode = failed.length > 0 ? 1 : 0;
}

const networks = makeNetworks(mostRanks);
if (networks === null) throw new Error('this process may not make network namespaces');
try {
  await run(networks);
} finally {
  networks.close();
  rmSync(folder, { recursive: true, force: true });
}
