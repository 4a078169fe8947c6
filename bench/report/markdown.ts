/** The report for people. */
import { vitBaseFlops } from '../flops.js';
import type { Comparison, Curve, Results, Row } from '../results.js';
import { memory, profile, tolerance } from './engine.js';
import { counting, procedure } from './prose.js';
import { digits, fixed, percent, ratePerSecond, rateSpread, table, times, tiny } from './tables.js';

export function markdown(results: Results): string {
  const parts = [
    '# Benchmarks',
    `Written by \`npm run bench${results.mode === 'quick' ? ' -- --quick' : ''}\`; the same numbers for programs are in ` +
      '[benchmarks.json](benchmarks.json). Nothing here is written by hand.',
    '![Speed and error of every contender, and the scaling curves](benchmarks.svg)',
    machine(results),
    peaks(results),
    ...results.comparisons.map(comparison),
    files(results),
    curves(results.curves),
    tolerance(results.tolerance),
    memory(results.memory),
    kernels(results),
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
    ...results.notes.map((note) => `- ${note}`),
    ...results.failures.map((failure) => `- **Broke off:** ${failure}`),
  ];
  return `## The machine\n${lines.join('\n')}`;
}

function peaks({ peaks: found, bandwidth }: Results): string {
  const body = found.map(({ precision, gflops, shape, how }) => [
    precision,
    gflops === null ? 'none' : digits(gflops),
    shape.join(' x '),
    how,
  ]);
  const memory =
    bandwidth === null
      ? ''
      : `\n\nMemory bandwidth: ${digits(bandwidth.gbPerSecond)} GB/s (${bandwidth.how}).`;
  return `## What the machine can do
The fastest matrix products found in this run, by LibTorch's own libraries or by ours, at shapes of their liking.

${table(['precision', 'GFLOP/s', 'M x N x K', 'how'], body)}${memory}`;
}

function baselineMs({ rows, baseline }: Comparison): number | null {
  return rows.find(({ contender }) => contender === baseline)?.msPerImage?.median ?? null;
}

function ratio(comparison: Comparison, row: Row): number | null {
  const base = baselineMs(comparison);
  return base === null || row.msPerImage === null ? null : base / row.msPerImage.median;
}

function comparison(found: Comparison): string {
  const scores = found.kind === 'scores';
  const timed = found.rows.filter(({ status }) => status === 'timed');
  const head = [
    'contender',
    'images/s (quartiles)',
    scores ? "against the authors' loop" : 'against onnxruntime-node',
    'GFLOP/s',
    'of peak',
    'own GFLOP/s',
    'own, of peak',
    scores ? 'relative error' : 'error',
    'Kendall tau',
    'peak memory, MB (beyond weights)',
    'event loop, ms',
    ...(scores ? ['variants run'] : []),
  ];
  const body = timed.map((row) => [
    row.label,
    ratePerSecond(row.msPerImage),
    times(ratio(found, row)),
    row.gflops === null ? '–' : digits(row.gflops),
    percent(row.loopPeakShare),
    row.ownGflops === null ? '–' : digits(row.ownGflops),
    percent(row.peakShare),
    tiny(row.error),
    fixed(row.kendallTau, 3),
    row.memory === null
      ? '–'
      : `${row.memory.beyondProcess.toFixed(0)} (${row.memory.beyondLoad.toFixed(0)})`,
    fixed(row.eventLoopWorst, 1),
    ...(scores ? [`${row.variants ?? 0} of ${found.visible ?? 0}, ${row.images} images`] : []),
  ]);
  const left = found.rows
    .filter(({ status }) => status !== 'timed')
    .map(
      ({ label, status, reason }) =>
        `- ${label}: ${status === 'failed' ? '**failed**' : 'not available'}: ${reason ?? ''}`,
    );
  const about = scores
    ? `${found.patches} patches, ${found.visible ?? 0} visible; ${digits(found.gflopPerImage)} GFLOP an image. ${found.rounds} rounds.`
    : `${digits(found.gflopPerImage)} GFLOP an image, ${percent((found.gflopPerImage * 1e9) / vitBaseFlops())} of a ViT-B/16 classifier's ` +
      `${digits(vitBaseFlops() / 1e9)}. ${found.rounds} rounds.`;
  const missing = left.length === 0 ? '' : `\n\nNot timed:\n${left.join('\n')}`;
  return `## ${found.title}\n${about}\n\n${table(head, body)}${missing}`;
}

function files({ files: rows }: Results): string {
  if (rows.length === 0) return '';
  const body = rows.map((row) => [
    row.label,
    row.model,
    rateSpread(row.imagesPerSecond),
    rateSpread(row.decodeImagesPerSecond),
    fixed(row.eventLoopWorst, 1),
  ]);
  const [first] = rows;
  return `## From files to kept patches
${first?.images ?? 0} JPEG files (the project's own photographs, in turn; in the page cache), ${first?.batch ?? 0} at a time: read, decoded, resized,
normalised, ranked, and half of the patches selected. While a batch is ranked the next is decoded.

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
    kernel.shape.join(' x '),
    kernel.precision,
    digits(kernel.oursMs),
    digits(kernel.plainMs),
    times(kernel.plainMs / kernel.oursMs),
    digits(kernel.oursBytes / 1e6),
    digits(kernel.plainBytes / 1e6),
    share(kernel.oursBytes, kernel.oursMs),
    kernel.flops === 0 ? '–' : digits(kernel.flops / (kernel.oursMs * 1e6)),
    tiny(kernel.disagreement),
  ]);
  return `## Kernels
Each kernel of ours beside the LibTorch calls that it replaces, on the same data. Bytes are those that have to move at least; small shapes stay in
the caches, which is why a share of the memory's bandwidth can be above 100%. The difference is the largest one between the two, over the largest value.

${table(['kernel', 'shape', 'precision', 'ours, ms', 'LibTorch, ms', 'faster by', 'ours, MB', 'LibTorch, MB', 'of bandwidth', 'GFLOP/s', 'difference'], body)}`;
}
