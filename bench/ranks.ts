/**
 * What several processes of one machine cost: seconds a step against one process, bytes sent, waiting that nothing hides.
 *
 *   npm run bench:ranks -- [--ranks 1,2] [--steps 12] [--batch-size 16] [--model tiny] [--size 224] [--mbit N]
 *
 * Ranks of one machine share its cores, so this says what the ranks add, not how they scale. In a network namespace of its own
 * (root, or a system that lets users have them) the bytes are counted by the kernel. With `--mbit` each rank has a network of its own
 * with a link of so many Mbit/s (root only), for which loopback is too fast: the wait with and without overlap is what is hidden.
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { makeNetworks, type Networks } from './networks.js';

const { values } = parseArgs({
  options: {
    ranks: { type: 'string', default: '1,2' },
    steps: { type: 'string', default: '12' },
    'batch-size': { type: 'string', default: '16' },
    model: { type: 'string', default: 'tiny' },
    size: { type: 'string', default: '224' },
    mbit: { type: 'string' },
  },
});
const main = resolve(import.meta.dirname, '..', 'dist', 'cli', 'main.js');
const folder = mkdtempSync(join(tmpdir(), 'ltrp-ranks-'));
const photos = join(folder, 'photos');
const warm = 3; // steps that are not counted

const median = (numbers: number[]): number =>
  numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? NaN;

/** Bytes of the namespace's loopback so far: what all ranks have sent. */
const sentBytes = (text: string): number[] =>
  [...text.matchAll(/^\s*lo:\s*(\d+)/gm)].map(([, bytes]) => Number(bytes));

interface Measured {
  seconds: number;
  waiting: number;
  bytes: number | null;
}

/** All ranks under `ltrp launch`; returns the bytes that they have sent, null where nobody counts them. */
function launch(ranks: number, command: readonly string[]): number | null {
  const inside = 'ip link set lo up; cat /proc/net/dev; "$@" >&2 && cat /proc/net/dev';
  const own = spawnSync('unshare', ['-n', 'true']).status === 0 ? ['unshare', '-n'] : [];
  const launcher = [process.execPath, main, 'launch', '-n', String(ranks)];
  const [file = '', ...args] = [...own, 'sh', '-c', inside, 'sh', ...launcher, ...command];
  const { status, stdout, stderr } = spawnSync(file, args, { encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  const [before, after] = sentBytes(stdout);
  return own.length === 0 ? null : (after ?? NaN) - (before ?? NaN);
}

async function onNetworks(
  networks: Networks,
  ranks: number,
  command: readonly string[],
): Promise<null> {
  const threads = Math.max(1, Math.floor(availableParallelism() / ranks));
  const ended = Array.from({ length: ranks }, async (_, rank) => {
    const child = networks.start(rank, ranks, [process.execPath, main, ...command], {
      threads,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    let stderr = '';
    child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    const [code] = (await once(child, 'close')) as [number | null];
    if (code !== 0) throw new Error(stderr);
  });
  await Promise.all(ended);
  return null;
}

async function measure(
  ranks: number,
  more: string[] = [],
  steps = Number(values.steps),
): Promise<Measured> {
  const out = join(folder, `run-${ranks}-${steps}-${more.join('')}`);
  const command = [
    ...['pretrain', '--data', photos, '--out', out, '--model', values.model],
    ...['--image-size', values.size, '--batch-size', values['batch-size']],
    ...['--steps', String(steps), '--micro-batch-size', '8', ...more],
  ];
  const bytes =
    networks === null ? launch(ranks, command) : await onNetworks(networks, ranks, command);
  const log = readFileSync(join(out, 'log.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { seconds?: number; sumSeconds?: number })
    .filter(({ seconds }) => seconds !== undefined)
    .slice(warm);
  return {
    seconds: median(log.map(({ seconds = NaN }) => seconds)),
    waiting: median(log.map(({ sumSeconds = 0 }) => sumSeconds)),
    bytes,
  };
}

const counts = values.ranks.split(',').map(Number);
const networks =
  values.mbit === undefined ? null : makeNetworks(Math.max(...counts), Number(values.mbit));
if (values.mbit !== undefined && networks === null)
  throw new Error('--mbit needs network namespaces, which this process may not make');
try {
  mkdirSync(photos);
  for (let i = 0; i < 32; i++) {
    const noise = Buffer.from(
      Array.from({ length: 48 * 48 * 3 }, (_, j) => (i * 7919 + j * 104729) % 251),
    );
    await sharp(noise, { raw: { width: 48, height: 48, channels: 3 } })
      .resize(256, 256)
      .jpeg()
      .toFile(join(photos, `${i}.jpg`));
  }
  console.log('ranks  sums      s a step  waiting  MB sent a step');
  for (const ranks of counts) {
    for (const reduce of ranks === 1 ? ['float32'] : ['float32', 'bfloat16']) {
      // One bucket leaves nothing to send before the end of the backward pass.
      for (const [name, bucket] of ranks === 1
        ? [['', '4MiB']]
        : [
            ['', '4MiB'],
            [' at the end', '1TiB'],
          ]) {
        const more = ['--reduce', reduce, '--bucket-size', bucket as string];
        const { seconds, waiting, bytes } = await measure(ranks, more);
        // What the start costs is in a short run too.
        const short = bytes === null ? null : (await measure(ranks, more, 2)).bytes;
        const each =
          bytes === null || short === null ? NaN : (bytes - short) / (Number(values.steps) - 2);
        console.log(
          `${String(ranks).padEnd(6)} ${(ranks === 1 ? '-' : reduce).padEnd(9)} ${seconds.toFixed(3).padStart(8)} ` +
            `${waiting.toFixed(3).padStart(8)}  ${Number.isNaN(each) || ranks === 1 ? '-' : (each / 1e6).toFixed(1)}${name}`,
        );
      }
    }
  }
} finally {
  networks?.close();
  rmSync(folder, { recursive: true, force: true });
}
