/**
 * Ranks many synthetic pictures into a store by several processes, one of which is killed again and again, and checks that every
 * picture is there once. First the same without kills, for the throughput. Prints a line of JSON; ends with 1 when a picture is
 * missing or comes twice, or memory grows.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, statSync } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { pack } from 'tar-stream';
import { ResultStore } from '../lib/store/manifest.js';
import { verifyStore } from '../lib/store/verify.js';
import { residentOf } from './resident.js';

const help = `node --import=tsx bench/store-soak.ts [options]
  --pictures N    pictures (default 200000)
  --shards N      tar files that they lie in (default 64)
  --parts N       parts of the results (default 64)
  --processes N   at a time (default 4)
  --kill-every S  seconds between kills, about (default 30)
  --kills N       of them, at most (default: as many as there is time for)
  --plain         also without kills, for the throughput
  --help`;

const text = (fallback: string) => ({ type: 'string', default: fallback }) as const;
const { values } = parseArgs({
  options: {
    pictures: text('200000'),
    shards: text('64'),
    parts: text('64'),
    processes: text('4'),
    'kill-every': text('30'),
    kills: text('Infinity'),
    plain: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
const command = fileURLToPath(new URL('../dist/cli/main.js', import.meta.url));

/** Small pictures: 32 x 32, of 256 kinds, each under a key of its own. */
async function writeShards(folder: string, pictures: number, shards: number): Promise<void> {
  await mkdir(folder);
  const kinds = await Promise.all(
    Array.from({ length: 256 }, (_, kind) =>
      sharp({
        create: {
          width: 32,
          height: 32,
          channels: 3,
          background: { r: kind, g: 255 - kind, b: (7 * kind) % 256 },
        },
      })
        .jpeg()
        .toBuffer(),
    ),
  );
  for (let shard = 0; shard < shards; shard++) {
    const file = await open(join(folder, `${String(shard).padStart(5, '0')}.tar`), 'w');
    const tar = pack();
    const written = (async () => {
      for await (const chunk of tar) await file.write(chunk);
    })();
    for (let i = shard; i < pictures; i += shards) {
      tar.entry({ name: `${String(i).padStart(9, '0')}.jpg` }, kinds[i % 256]);
    }
    tar.finalize();
    await written;
    await file.close();
  }
}

/** Seconds since a process began the part that it is at. */
function secondsOfPart(store: string, { pid }: ChildProcess): number {
  const name = readdirSync(store).find((each) => each.includes(`.${String(pid)}.`));
  return name === undefined ? 0 : (Date.now() - statSync(join(store, name)).birthtimeMs) / 1000;
}

interface Work {
  seconds: number;
  /** Until nine tenths of the parts were there: at the end, some processes have none left to take. */
  mostSeconds: number;
  kills: number;
  /** Of one process, from the beginning of the part that it was killed in; and of those before `mostSeconds`. */
  lostSeconds: number;
  mostLostSeconds: number;
  /** MiB of a process: the median of its first half and of its second, the largest of all. */
  memory: { early: number; late: number; most: number };
}

async function work(data: string, store: string, killEvery: number): Promise<Work> {
  const begin = performance.now();
  const done = async (): Promise<number> =>
    (await readdir(store).catch(() => [])).filter((name) => name.endsWith('.parquet')).length;
  const memory: number[] = [];
  const result = { mostSeconds: 0, kills: 0, lostSeconds: 0, mostLostSeconds: 0 };
  let finished = 0;
  const running = new Set<ChildProcess>();
  const start = (): void => {
    const args = ['rank', data, '--store', store, '--parts', values.parts, '--grid', '2x2'];
    const child = spawn(process.execPath, [command, ...args, '--json'], {
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    running.add(child);
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-2000)));
    child.once('exit', (code, signal) => {
      running.delete(child);
      if (code === 0) finished++;
      else if (signal !== 'SIGKILL')
        throw new Error(`a process ended with ${String(code)}: ${said}`);
    });
  };
  const processes = Number(values.processes);
  for (let i = 0; i < processes; i++) start();
  let next = performance.now() + 1000 * killEvery * (0.5 + Math.random());
  while (finished < processes) {
    await sleep(100);
    for (const child of running) memory.push((residentOf(child.pid)?.now ?? 0) / 2 ** 20);
    const parts = await done();
    if (parts >= 0.9 * Number(values.parts) && result.mostSeconds === 0)
      result.mostSeconds = (performance.now() - begin) / 1000;
    const isOver = parts >= Number(values.parts) || result.kills >= Number(values.kills);
    if (performance.now() < next || isOver) continue;
    next = performance.now() + 1000 * killEvery * (0.5 + Math.random());
    const victims = [...running];
    const victim = victims[Math.floor(Math.random() * victims.length)];
    if (victim === undefined) continue;
    victim.kill('SIGKILL');
    result.kills++;
    const lost = secondsOfPart(store, victim);
    result.lostSeconds += lost;
    if (result.mostSeconds === 0) result.mostLostSeconds += lost;
    await sleep(50);
    start();
  }
  const seconds = (performance.now() - begin) / 1000;
  const known = memory.filter((value) => value > 0);
  const median = (part: number[]): number => part.sort((a, b) => a - b)[part.length >> 1] ?? 0;
  const half = known.length >> 1;
  return {
    ...result,
    seconds,
    memory: {
      early: median(known.slice(half >> 1, half)),
      late: median(known.slice(half)),
      most: Math.max(...known),
    },
  };
}

async function main(): Promise<void> {
  if (values.help) {
    process.stdout.write(`${help}\n`);
    return;
  }
  const pictures = Number(values.pictures);
  const folder = await mkdtemp(join(tmpdir(), 'ltrp-soak-'));
  try {
    const data = join(folder, 'shards');
    await writeShards(data, pictures, Number(values.shards));
    const plain = values.plain ? await work(data, join(folder, 'plain'), Infinity) : undefined;
    const store = join(folder, 'store');
    const killed = await work(data, store, Number(values['kill-every']));
    const images = new Set<string>();
    const verdict = await verifyStore(
      await ResultStore.open(store),
      new AbortController().signal,
      async ({ image }) => {
        images.add(image);
        return Promise.resolve();
      },
    );
    // What is left of the throughput when the lost work and its processes' share of the machine are taken off.
    const lost = killed.mostLostSeconds / Number(values.processes);
    const throughput = plain && plain.mostSeconds / (killed.mostSeconds - lost);
    const leftovers = (await readdir(store)).filter((name) => name.endsWith('.partial')).length;
    process.stdout.write(
      `${JSON.stringify({ pictures, rows: verdict.images, different: images.size, missing: verdict.missing, damaged: verdict.damaged, leftovers, plain, killed, throughput })}\n`,
    );
    const exact = verdict.images === pictures && images.size === pictures;
    // In less than a minute, memory is that of processes which start.
    const grows = killed.seconds > 60 && killed.memory.late > 1.2 * killed.memory.early + 20;
    process.exitCode = exact && !grows ? 0 : 1;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

await main();
