/** The report for people. */
import { vitBaseFlops } from '../flops.js';
import type { Comparison, Curve, Results, Row } from '../results.js';
import { memory, metrics, profile, tolerance, training } from './engine.js';
import { counting, procedure } from './prose.js';
import { digits, fixed, percent, ratePerSecond, quartiles, table, times, tiny } from './tables.js';

export function markdown(results: Results): string {
  const parts = [
    '# Benchmarks',
    `Written by \`npm run bench${results.mode === 'quick' ? ' -- --quick' : ''}\`. ` +
      '[benchmarks.json](benchmarks.json) has the same numbers and more.',
    '![Speed and error of every contender, and the scaling curves](benchmarks.svg)',
    machine(results),
    peaks(results),
    ...groups(results.comparisons).map(comparison),
    files(results),
    curves(results.curves),
    tolerance(results.tolerance),
    metrics(results.metrics),
    memory(results.memory),
    kernels(results),
    training(results.training),
    profile(results),
    procedure(),
    counting(),
  ];
  return `${parts.filter((part) => part !== '').join('\n\n')}\n`;
}

function machine({ machine: found, ...results }: Results): string {
  const versions = Object.entries(found.versions).map(
    ([name, version]) => `${name} ${/\d+(\.\d+)+\S*/.exec(version)?.[0] ?? version}`,
  );
  const lines = [
    `- ${found.cpu}; ${found.cores} cores, ${found.memoryGiB} GiB; ${found.features.join(', ')}`,
    `- ${found.system}; Node ${found.node}; ${versions.join('; ')}`,
    `- ltrp ${results.ltrp}${results.commit === null ? '' : `, commit ${results.commit}`}; ${results.date}; ` +
      `${results.threads} threads; the run took ${(results.seconds / 60).toFixed(1)} minutes`,
    ...[...new Set(results.notes)].map((note) => `- ${note}`),
    ...results.failures.map((failure) => `- **Broke off:** ${failure}`),
  ];
  return `## The machine\n${lines.join('\n')}`;
}

function peaks({ peaks: found, bandwidth }: Results): string {
  const body = found.map(({ precision, gflops, shape, how }) => [
    precision,
    gflops === null ? 'none' : digits(gflops),
    shape.join('×'),
    how,
  ]);
  const memory =
    bandwidth === null
      ? ''
      : `\n\nMemory bandwidth: ${digits(bandwidth.gbPerSecond)} GB/s (${bandwidth.how}).`;
  return `## What the machine can do
The fastest matrix product of this run at any shape.

${table(['precision', 'GFLOP/s', 'M×N×K', 'how'], body)}${memory}`;
}

/** Rankers of one model stand in one table, whatever their batch. */
function groups(comparisons: readonly Comparison[]): Comparison[][] {
  const found = new Map<string, Comparison[]>();
  for (const each of comparisons) {
    const key = `${each.kind} ${each.model}`;
    found.set(key, [...(found.get(key) ?? []), each]);
  }
  return [...found.values()];
}

function ratio({ rows, baseline }: Comparison, row: Row): number | null {
  const base = rows.find(({ contender }) => contender === baseline)?.msPerImage ?? null;
  return base === null || row.msPerImage === null ? null : base.median / row.msPerImage.median;
}

function comparison(group: readonly Comparison[]): string {
  const [first] = group as [Comparison];
  const scores = first.kind === 'scores';
  const several = group.length > 1;
  const against = scores ? "against the authors' loop" : 'against onnxruntime-node';
  const speeds = ['images/s (quartiles)', against, 'of peak', ...(scores ? ['own, of peak'] : [])];
  const place = ({ batch }: Comparison): string => (several ? `${batch ?? 0} at a time: ` : '');
  const head = [
    'contender',
    ...group.flatMap((each) =>
      speeds.map((name, index) => (index === 0 ? place(each) : '') + name),
    ),
    'error',
    'Kendall tau',
    'peak memory, MB (beyond weights)',
    'event loop, ms',
  ];
  const speed = (found: Comparison, row: Row): string[] => [
    ratePerSecond(row.msPerImage),
    times(ratio(found, row)),
    percent(row.loopPeakShare),
    ...(scores ? [percent(row.peakShare)] : []),
  ];
  const body = first.rows.flatMap(({ contender, label }) => {
    const rows = group.map((each) => each.rows.find((row) => row.contender === contender));
    const last = rows.filter((row) => row?.status === 'timed').at(-1);
    if (last === undefined) return [];
    const { error, kendallTau, memory: used, eventLoopWorst } = last;
    return [
      [
        label,
        ...rows.flatMap((row, index) =>
          row?.status === 'timed' ? speed(group[index] as Comparison, row) : speeds.map(() => '–'),
        ),
        tiny(error),
        fixed(kendallTau, 3),
        used === null ? '–' : `${used.beyondProcess.toFixed(0)} (${used.beyondLoad.toFixed(0)})`,
        fixed(eventLoopWorst, 1),
      ],
    ];
  });
  const remarks = group.flatMap((each) =>
    each.rows.flatMap((row) => remark(each, row, place(each))),
  );
  const about = scores
    ? `${first.patches} patches, ${first.visible ?? 0} visible; ${digits(first.gflopPerImage)} GFLOP an image.`
    : `${digits(first.gflopPerImage)} GFLOP an image, ${percent((first.gflopPerImage * 1e9) / vitBaseFlops())} of a ViT-B/16 classifier's ` +
      `${digits(vitBaseFlops() / 1e9)}.`;
  const rounds = [...new Set(group.map((each) => each.rounds))].join(' and ');
  const larger = several ? ' The last four columns are of the larger batch timed.' : '';
  const title = several ? `Ranking: ${first.model}` : first.title;
  return `## ${title}\n${about} Rounds: ${rounds}.${larger}\n\n${table(head, body)}${
    remarks.length === 0 ? '' : `\n\n${remarks.join('\n')}`
  }`;
}

/** What the table cannot say of a contender. */
function remark(found: Comparison, row: Row, place: string): string[] {
  const { label, status, reason, variants } = row;
  if (status !== 'timed') {
    return [
      `- ${place}${label}: ${status === 'failed' ? '**failed**' : 'not available'}: ${reason ?? ''}`,
    ];
  }
  const wanted = found.visible ?? 0;
  return (variants ?? wanted) < wanted
    ? [`- ${label} ran ${variants ?? 0} of ${wanted} variants.`]
    : [];
}

function files({ files: rows }: Results): string {
  if (rows.length === 0) return '';
  const body = rows.map((row) => [
    row.label,
    row.model,
    quartiles(row.imagesPerSecond),
    quartiles(row.decodeImagesPerSecond),
    fixed(row.eventLoopWorst, 1),
  ]);
  const [first] = rows;
  return `## From files to kept patches
${first?.images ?? 0} JPEG files in the page cache, ${first?.batch ?? 0} at a time: read, decode, resize, normalise, rank, select half of the patches.

${table(['contender', 'ranker', 'images/s', 'decoding alone, images/s', 'event loop, ms'], body)}`;
}

function curves(found: readonly Curve[]): string {
  return found
    .map((curve) => {
      const values = [...new Set(curve.points.map(({ x }) => x))];
      const contenders = [...new Set(curve.points.map(({ label }) => label))];
      const body = contenders.map((label) => [
        label,
        ...values.map((x) => {
          const point = curve.points.find((other) => other.label === label && other.x === x);
          if (!point?.imagesPerSecond) return point?.reason ? 'not available' : '–';
          return `${digits(point.imagesPerSecond.median)} (${digits(point.gflops ?? NaN)})`;
        }),
      ]);
      return `## Scaling: ${curve.title.toLowerCase()}
${curve.model}; images/s, in brackets GFLOP/s by the loop's count.

${table([curve.title, ...values.map(String)], body)}`;
    })
    .join('\n\n');
}

function kernels({ kernels: found, bandwidth }: Results): string {
  if (found.length === 0) return '';
  const share = (bytes: number, ms: number): string =>
    bandwidth === null ? '–' : percent(bytes / (ms * 1e6) / bandwidth.gbPerSecond);
  const body = found.map((kernel) => [
    kernel.name,
    kernel.shape.join('×'),
    kernel.precision,
    digits(kernel.oursMs),
    times(kernel.plainMs / kernel.oursMs),
    share(kernel.oursBytes, kernel.oursMs),
    kernel.flops === 0 ? '–' : digits(kernel.flops / (kernel.oursMs * 1e6)),
    tiny(kernel.disagreement),
  ]);
  return `## Kernels
Each kernel against the LibTorch calls that it replaces. "Of bandwidth" counts the bytes that must move; shapes in cache can exceed 100%.
"Difference" is the largest difference over the largest value.

${table(['kernel', 'shape', 'precision', 'ms', 'faster by', 'of bandwidth', 'GFLOP/s', 'difference'], body)}`;
}
