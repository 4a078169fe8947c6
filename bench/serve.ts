/**
 * `npm run bench:serve`: `ltrp serve` under load on this machine, against `rankFiles` on the same pictures in the same run.
 *
 * Requests arrive at random moments (a Poisson process), whether earlier ones are answered or not, and times count from the moment
 * of arrival. Then 20,000 requests, bad ones among them, with the memory of the service. Client and service share the processors.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import { Pool } from 'undici';
import { PatchRanker, rankFiles } from '../lib/index.js';
import { quantile } from '../lib/quantile.js';
import { integer, parse, program } from './command-line.js';
import { root } from './contenders.js';
import { busy } from './machine.js';
import { pictureFiles } from './material.js';
import { writeSection } from './report/section.js';
import { fixed, table } from './report/tables.js';
import { residentOf } from './resident.js';
import { mulberry32 } from '../lib/evaluation/random.js';
import { slope, spread, type Spread } from './statistics.js';

const help = `npm run bench:serve -- [options]
  --pictures N    of each throughput (default 400)
  --rounds N      of each throughput (default 5)
  --seconds N     of each rate of arrivals (default 20)
  --requests N    of the memory over time (default 20000)
  --max-wait MS   of the service (default: its own)
  --no-write      print only, leave docs/serve.md as it is
  --help
`;

const options = {
  pictures: { type: 'string', default: '400' },
  rounds: { type: 'string', default: '5' },
  seconds: { type: 'string', default: '20' },
  requests: { type: 'string', default: '20000' },
  'max-wait': { type: 'string' },
  'no-write': { type: 'boolean', default: false },
} as const;

/** Connections of the client, and with that requests in flight at most. */
const connections = 48;
const path = '/rank?keepRatio=0.5';
/** Resident memory may grow by this over all requests, in MiB. */
const limit = 32;

interface Server {
  child: ChildProcess;
  pool: Pool;
  resident: () => number;
}

async function startServer(maxWait: string | undefined): Promise<Server> {
  const main = join(root, 'dist', 'cli', 'main.js');
  const args = ['serve', '--port', '0', '--teacher', 'none', '--log-level', 'error'];
  if (maxWait !== undefined) args.push('--max-wait', maxWait);
  const child = spawn(process.execPath, [main, ...args], { stdio: ['ignore', 'inherit', 'pipe'] });
  const url = await new Promise<string>((resolve, reject) => {
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => {
      said += chunk.toString();
      const found = /serving on (\S+);/.exec(said)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.once('close', () => {
      reject(new Error(`ltrp serve ended: ${said}`));
    });
  });
  const resident = (): number => (residentOf(child.pid)?.now ?? NaN) / 2 ** 20;
  return { child, pool: new Pool(url, { connections, pipelining: 1 }), resident };
}

async function send(pool: Pool, to: string, body: Uint8Array): Promise<number> {
  const { statusCode, body: answer } = await pool.request({ method: 'POST', path: to, body });
  await answer.dump();
  return statusCode;
}

/** Pictures a second, as many requests in flight as there are connections. */
async function saturated(
  pool: Pool,
  pictures: readonly Uint8Array[],
  count: number,
): Promise<number> {
  let next = 0;
  const start = performance.now();
  const client = async (): Promise<void> => {
    while (next < count) {
      const picture = pictures[next++ % pictures.length] as Uint8Array;
      const status = await send(pool, path, picture);
      if (status !== 200) throw new Error(`answered ${status}`);
    }
  };
  await Promise.all(Array.from({ length: connections }, client));
  return (1000 * count) / (performance.now() - start);
}

async function direct(
  ranker: PatchRanker,
  pictures: readonly Uint8Array[],
  count: number,
): Promise<number> {
  const source = Array.from(
    { length: count },
    (_, i) => pictures[i % pictures.length] as Uint8Array,
  );
  const start = performance.now();
  for await (const result of rankFiles(source, { ranker, keepRatio: 0.5 })) {
    if (!result.ok) throw result.error;
  }
  return (1000 * count) / (performance.now() - start);
}

interface Arrivals {
  rate: number;
  share: number;
  sent: number;
  refused: number;
  /** Milliseconds from arrival to answer. */
  times: number[];
}

/** Requests at random moments, `rate` a second on average, for so many seconds. */
async function arrivals(
  pool: Pool,
  pictures: readonly Uint8Array[],
  rate: number,
  share: number,
  seconds: number,
): Promise<Arrivals> {
  const random = mulberry32(1);
  const times: number[] = [];
  let refused = 0;
  const pending: Promise<void>[] = [];
  const start = performance.now();
  let at = 0;
  for (let i = 0; ; i++) {
    at += (-Math.log(1 - random()) / rate) * 1000;
    if (at > seconds * 1000) break;
    const arrival = start + at;
    await sleep(Math.max(0, arrival - performance.now()));
    const picture = pictures[i % pictures.length] as Uint8Array;
    pending.push(
      send(pool, path, picture).then((status) => {
        if (status === 200) times.push(performance.now() - arrival);
        else refused++;
      }),
    );
  }
  await Promise.all(pending);
  return { rate, share, sent: pending.length, refused, times };
}

/** Bad requests among good ones: what is wrong, and what is answered. */
async function badRequests(
  photo: Uint8Array,
): Promise<{ to: string; body: Uint8Array; status: number }[]> {
  const text = Buffer.from('no picture');
  const side = 8000; // more pixels than --max-megapixels, in some kilobytes
  const bomb = await sharp({
    create: { width: side, height: side, channels: 3, background: 'teal' },
    limitInputPixels: false,
  })
    .png()
    .toBuffer();
  return [
    { to: '/rank', body: text, status: 415 },
    { to: '/rank', body: photo.subarray(0, photo.length / 2), status: 415 },
    { to: '/rank', body: bomb, status: 413 },
    { to: '/rank?keepRatio=7', body: photo, status: 400 },
    { to: '/rank', body: Buffer.alloc(21 * 2 ** 20), status: 413 },
  ];
}

interface Memory {
  requests: number;
  answers: Map<number, number>;
  /** MiB at each twentieth, the beginning first. */
  resident: number[];
  /** Least squares over what comes after the first fifth, over all requests, in MiB. */
  growth: number;
}

async function memory(
  { pool, resident }: Server,
  pictures: readonly Uint8Array[],
  requests: number,
): Promise<Memory> {
  const random = mulberry32(2);
  const bad = await badRequests(pictures[0] as Uint8Array);
  const answers = new Map<number, number>();
  const found = [resident()];
  let next = 0;
  const upTo = async (end: number): Promise<void> => {
    const client = async (): Promise<void> => {
      while (next < end) {
        const i = next++;
        const chance = random();
        const wrong = bad[i % bad.length];
        let [to, body]: [string, Uint8Array] = [path, pictures[i % pictures.length] as Uint8Array];
        let expected = 200;
        if (chance < 0.05) [to, body, expected] = [`/made-up-${i}`, Buffer.from('x'), 404];
        else if (chance < 0.15 && wrong !== undefined) {
          [to, body, expected] = [wrong.to, wrong.body, wrong.status];
        }
        // A connection that the service closes after a refusal counts as one.
        const status = await send(pool, to, body).catch(() => 0);
        answers.set(status, (answers.get(status) ?? 0) + 1);
        if (status !== expected && status !== 0 && status !== 429) {
          throw new Error(`${to}: ${status} instead of ${expected}`);
        }
      }
    };
    await Promise.all(Array.from({ length: 16 }, client));
  };
  for (let point = 1; point <= 20; point++) {
    await upTo(Math.round((requests * point) / 20));
    found.push(resident());
  }
  const perRequest = slope(found.slice(4).map((value, i) => [((4 + i) * requests) / 20, value]));
  return { requests, answers, resident: found, growth: perRequest * requests };
}

function report(
  throughput: { direct: Spread; serve: Spread },
  rates: readonly Arrivals[],
  { requests, answers, resident, growth }: Memory,
): string {
  const text = ({ median, low, high }: Spread): string =>
    `${fixed(median, 1)} (${fixed(low, 1)} to ${fixed(high, 1)})`;
  const share = throughput.serve.median / throughput.direct.median;
  const rows = rates.map(({ rate, share: of, sent, refused, times }) => [
    `${fixed(rate, 0)} a second, ${fixed(100 * of, 0)}% of the throughput`,
    String(sent),
    ...[0.5, 0.9, 0.99].map((q) => fixed(quantile(times, q), 1)),
    String(refused),
  ]);
  const counts = [...answers].sort(([a], [b]) => a - b);
  const shown = [0, 1, 5, 10, 15, 20];
  return `| pictures a second | median and quartiles |
| --- | --: |
| \`rankFiles\` | ${text(throughput.direct)} |
| \`ltrp serve\`, ${connections} requests at a time | ${text(throughput.serve)} |

The service has ${fixed(100 * share, 0)}% of the throughput of \`rankFiles\`, on processors that it shares with its client.

${table(['arrivals', 'requests', 'p50, ms', 'p90, ms', 'p99, ms', 'refused'], rows)}

${requests.toLocaleString('en-US')} requests, 16 at a time, one in seven of them bad: ${counts
    .map(([status, count]) => `${count} times ${status === 0 ? 'a closed connection' : status}`)
    .join(', ')}.

${table(
  ['', ...shown.map((i) => `${i * 5}%`), 'slope over all'],
  [['resident memory, MiB', ...shown.map((i) => fixed(resident[i] ?? null, 0)), fixed(growth, 1)]],
)}`;
}

async function main(args: readonly string[]): Promise<void> {
  const values = parse(args, options);
  const [count, rounds, seconds, requests] = (
    ['pictures', 'rounds', 'seconds', 'requests'] as const
  ).map((name) => integer(name, values[name], 1)) as [number, number, number, number];
  const { 'max-wait': maxWait } = values;
  const pictures = pictureFiles().map((file) => readFileSync(file));
  const crowded = busy();
  if (crowded !== null) console.error(crowded);
  const ranker = await PatchRanker.load('tiny');
  const server = await startServer(maxWait);
  const ended = new Promise<number | null>((resolve) => server.child.once('close', resolve));
  try {
    const { pool } = server;
    await direct(ranker, pictures, 50);
    await saturated(pool, pictures, 50);
    const rates: { direct: number[]; serve: number[] } = { direct: [], serve: [] };
    for (let round = 0; round < rounds; round++) {
      rates.direct.push(await direct(ranker, pictures, count));
      rates.serve.push(await saturated(pool, pictures, count));
    }
    const throughput = {
      direct: spread(rates.direct) as Spread,
      serve: spread(rates.serve) as Spread,
    };
    const found: Arrivals[] = [];
    for (const share of [0.25, 0.5, 0.75]) {
      const rate = share * throughput.serve.median;
      found.push(await arrivals(pool, pictures, rate, share, seconds));
    }
    const over = await memory(server, pictures, requests);
    const text = report(throughput, found, over);
    console.log(text);
    await pool.close();
    server.child.kill('SIGTERM');
    const code = await ended;
    console.log(`\nSIGTERM: exit code ${String(code)}.`);
    if (over.growth > limit || code !== 0) process.exitCode = 1;
    if (values['no-write']) return;
    const section = `\`npm run bench:serve\` wrote this. Throughput: ${rounds} rounds of ${count} pictures, in turns. Arrivals: a Poisson process for ${seconds} s each, which does not
wait for answers; times count from the arrival. The pictures are those of demo/photos, the ranker is the embedded one, \`--max-wait\` is ${maxWait === undefined ? 'the default' : `${maxWait} ms`}.${crowded === null ? '' : ` ${crowded}`}

${text}`;
    await writeSection('serve.md', 'load', 'Under load', section);
  } finally {
    server.child.kill('SIGKILL');
    ranker.dispose();
  }
}

await program('bench:serve', help, main);
