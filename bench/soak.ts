/**
 * `npm run soak`: 500 load/dispose cycles and 2,000 rankings, with resident memory at intervals. Prints the figures, writes
 * them into docs/start-and-size.md, and ends with 1 when memory grows.
 */
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MaskedAutoencoder, PatchRanker, readImages } from '../lib/index.js';
import { integer, parse, program } from './command-line.js';
import { root } from './contenders.js';
import { writeFigures, writeSection } from './report/section.js';
import { fixed, table } from './report/tables.js';
import { slope } from './statistics.js';

const help = `npm run soak -- [options]
  --cycles N      load/dispose cycles of ranker and teacher (default 500)
  --rankings N    rankings of one photo (default 2000)
  --no-write      print only, leave docs/start-and-size.md as it is
  --help
`;

const options = {
  cycles: { type: 'string', default: '500' },
  rankings: { type: 'string', default: '2000' },
  'no-write': { type: 'boolean', default: false },
} as const;

interface Phase {
  readonly name: string;
  readonly turns: number;
  /** Resident memory in MiB after each twentieth of the turns, the beginning first. */
  readonly resident: readonly number[];
  /** Least squares over what comes after the first fifth, in KiB a turn. */
  readonly slope: number;
  /** The slope over all turns, in MiB. */
  readonly growth: number;
}

/** More than this over a whole phase counts as growth: 16 KiB a load, 4 KiB a ranking. */
const limit = 8;
const points = 20;

async function phase(name: string, turns: number, turn: () => Promise<void>): Promise<Phase> {
  const resident = [await measure()];
  for (let point = 1; point <= points; point += 1) {
    const upTo = Math.round((turns * point) / points) - Math.round((turns * (point - 1)) / points);
    for (let i = 0; i < upTo; i += 1) await turn();
    resident.push(await measure());
  }
  // Allocators and the just-in-time compiler fill their pools first.
  const from = points / 5;
  const perTurn = slope(
    resident.slice(from).map((value, i) => [((from + i) * turns) / points, value]),
  );
  return { name, turns, resident, slope: perTurn * 1024, growth: perTurn * turns };
}

async function measure(): Promise<number> {
  globalThis.gc?.();
  await sleep(20);
  globalThis.gc?.();
  return process.memoryUsage().rss / 2 ** 20;
}

async function soak(cycles: number, rankings: number): Promise<Phase[]> {
  const load = async (): Promise<void> => {
    const ranker = await PatchRanker.load('tiny');
    const teacher = await MaskedAutoencoder.load('tiny');
    ranker.dispose();
    teacher.dispose();
  };
  const phases = [await phase('load and dispose, ranker and teacher', cycles, load)];
  const ranker = await PatchRanker.load('tiny');
  const photo = join(root, 'demo', 'photos', 'tiger.jpg');
  phases.push(
    await phase('read and rank one photo', rankings, async () => {
      await ranker.rank(await readImages([photo], { size: ranker.config.imageSize }));
    }),
  );
  ranker.dispose();
  return phases;
}

function report(phases: readonly Phase[]): string {
  const shown = [0, 1, 5, 10, 15, 20];
  const head = ['', 'turns', ...shown.map((i) => `${i * 5}%`), 'KiB a turn', 'MiB over all'];
  return table(
    head,
    phases.map(({ name, turns, resident, slope, growth }) => [
      name,
      turns.toLocaleString('en-US'),
      ...shown.map((i) => fixed(resident[i] ?? null, 1)),
      fixed(slope, 2),
      fixed(growth, 2),
    ]),
  );
}

await program('soak', help, async (args) => {
  const values = parse(args, options);
  const [cycles, rankings] = (['cycles', 'rankings'] as const).map((name) =>
    integer(name, values[name], points),
  ) as [number, number];
  if (globalThis.gc === undefined) throw new Error('Run it with `npm run soak` (--expose-gc).');
  const start = performance.now();
  const phases = await soak(cycles, rankings);
  const text = report(phases);
  const seconds = (performance.now() - start) / 1000;
  const grown = phases.filter(({ growth }) => growth > limit);
  const verdict =
    grown.length === 0
      ? `Resident memory is level: every phase grows by less than ${limit} MiB.`
      : `Resident memory grows by more than ${limit} MiB: ${grown.map(({ name }) => name).join(', ')}.`;
  console.log(`${text}\n\n${verdict} (${seconds.toFixed(0)} s)`);
  if (grown.length > 0) process.exitCode = 1;
  else if (!values['no-write']) {
    const section = `\`npm run soak\` wrote this: resident memory in MiB after shares of the turns, each after a garbage collection. The slopes are of a
least-squares line that leaves out the first fifth.

${text}

${verdict}`;
    await writeSection('start-and-size.md', 'soak', 'Memory over time', section);
    await writeFigures('start-and-size.json', 'soak', { phases });
  }
});
