/** The chart, drawn by Vega-Lite. */
import { writeFileSync } from 'node:fs';
import type { Curve, Results, ToleranceCurve } from '../results.js';

/** What this uses of vega and vega-lite. Their own types are not there until the benchmark installs them. */
interface Vega {
  parse(spec: unknown): unknown;
  View: new (
    runtime: unknown,
    options: { renderer: 'none' },
  ) => {
    toSVG(): Promise<string>;
    finalize(): void;
  };
}
interface VegaLite {
  compile(spec: unknown): { spec: unknown };
}

type Spec = Record<string, unknown>;

const colours = { ours: '#1f6feb', authors: '#d1752a', peer: '#8b8f94' };
/** The loop first, then ours by precision. */
const curveColours = ['#d1752a', '#8ab4f8', '#1f6feb', '#0b3d91'];
const groupNames = { ours: 'ltrp', authors: "authors' loop", peer: 'other backends' };

/** Colour by who made it, the same in every panel. */
const groupColour = {
  field: 'group',
  type: 'nominal',
  title: null,
  scale: { domain: Object.values(groupNames), range: Object.values(colours) },
  legend: { orient: 'bottom' },
};

export async function writeChart(results: Results, path: string): Promise<void> {
  const names = { vega: 'vega', lite: 'vega-lite' };
  const vega = (await import(names.vega)) as Vega;
  const lite = (await import(names.lite)) as VegaLite;
  const view = new vega.View(vega.parse(lite.compile(chart(results)).spec), { renderer: 'none' });
  const svg = await view.toSVG();
  view.finalize();
  writeFileSync(path, `${svg}\n`);
}

/** The whole chart: one row for each comparison, then the curves. */
export function chart(results: Results): Spec {
  const rows: Spec[] = results.comparisons
    .map((comparison) => ({
      ...comparison,
      rows: comparison.rows.filter(({ status }) => status === 'timed'),
    }))
    .filter(({ rows: timed }) => timed.length > 0)
    .map((comparison) => ({
      resolve: { scale: { color: 'shared' } },
      hconcat: [speed(comparison.title, comparison.rows), exactness(comparison.rows)],
    }));
  for (const panels of [results.curves.map(curvePanel), results.tolerance.map(tolerancePanel)]) {
    if (panels.length === 0) continue;
    rows.push({
      resolve: { scale: { color: 'shared', x: 'independent', y: 'independent' } },
      concat: panels,
      columns: 2,
    });
  }
  return {
    $schema: 'https://vega.github.io/schema/vega-lite/v6.json',
    background: 'white',
    padding: 12,
    config: {
      font: 'sans-serif',
      axis: { titleFontWeight: 'normal' },
      title: { anchor: 'start', fontSize: 13 },
      view: { stroke: null },
    },
    // Bars share their colours with each other, curves with each other.
    resolve: { scale: { color: 'independent' } },
    vconcat: rows.length > 0 ? rows : [{ mark: 'text', data: { values: [] } }],
  };
}

type TimedRow = Results['comparisons'][number]['rows'][number];

function values(rows: readonly TimedRow[]): Spec[] {
  return rows.flatMap((row) => {
    const { msPerImage } = row;
    if (msPerImage === null) return [];
    return [
      {
        label: row.label,
        group: groupNames[row.group],
        rate: 1000 / msPerImage.median,
        slow: 1000 / msPerImage.high,
        fast: 1000 / msPerImage.low,
        error: row.error,
      },
    ];
  });
}

/** Powers of ten that cover the values: a logarithmic axis with more lines than that is all grid. */
export function decades(numbers: readonly number[]): number[] {
  const positive = numbers.filter((value) => value > 0);
  if (positive.length === 0) return [1];
  const first = Math.floor(Math.log10(Math.min(...positive)));
  const last = Math.ceil(Math.log10(Math.max(...positive)));
  return Array.from({ length: last - first + 1 }, (_, index) => 10 ** (first + index));
}

function logarithmic(field: string, title: string, ticks: readonly number[], format: string): Spec {
  const scale = { type: 'log', domain: [ticks[0], ticks.at(-1)], nice: false };
  return { field, type: 'quantitative', scale, title, axis: { values: ticks, format } };
}

/** A line for each contender. */
function lines(axis: Spec): Spec {
  return {
    field: 'label',
    type: 'nominal',
    sort: null,
    title: null,
    axis: { ...axis, grid: true },
  };
}

const height = { step: 20 };
const dots = { type: 'point', filled: true, size: 70, opacity: 1 };

/** Dots with quartiles. */
function speed(title: string, rows: readonly TimedRow[]): Spec {
  const shown = values(rows);
  const ticks = decades(shown.flatMap(({ slow, fast }) => [slow as number, fast as number]));
  const y = lines({ labelLimit: 0 });
  const x = logarithmic('rate', 'images per second (quartiles)', ticks, '~g');
  const range = { x: { field: 'slow', type: 'quantitative' }, x2: { field: 'fast' } };
  return {
    title,
    data: { values: shown },
    width: 340,
    height,
    layer: [
      { mark: dots, encoding: { y, x, color: groupColour } },
      { mark: 'rule', encoding: { y, ...range, color: groupColour } },
    ],
  };
}

/** The same lines, without repeating their names: how far each is from float64. */
function exactness(rows: readonly TimedRow[]): Spec {
  const shown = values(rows).map((value) => ({
    ...value,
    error: value['error'] === 0 ? null : value['error'],
  }));
  const ticks = decades(shown.map(({ error }) => (error as number | null) ?? 0));
  const y = lines({ labels: false, ticks: false });
  const x = logarithmic('error', 'relative error (left is better)', ticks, '.0e');
  return {
    title: 'Error against float64',
    data: { values: shown },
    width: 260,
    height,
    mark: dots,
    encoding: { y, x, color: groupColour },
  };
}

/** `shown` joined by a line for each label of `points`, shown or not: a label has the same colour everywhere. */
function panel(
  title: string,
  points: readonly { label: string }[],
  shown: readonly object[],
  encoding: Spec,
  range: readonly string[],
): Spec {
  const domain = [...new Set(points.map(({ label }) => label))];
  const legend = { orient: 'bottom', labelLimit: 0 };
  const scale = { domain, range };
  return {
    title,
    data: { values: shown },
    width: 300,
    height: 200,
    mark: { type: 'line', point: true },
    encoding: {
      ...encoding,
      color: { field: 'label', type: 'nominal', title: null, scale, legend },
    },
  };
}

/** Speed against order, a line for each precision from tolerance 0 on. */
function tolerancePanel({ model, points }: ToleranceCurve): Spec {
  const shown = points.map(({ label, tolerance, speedUp, kendallTau }) => ({
    ...{ label, tolerance, speedUp, kendallTau },
  }));
  const axis = { type: 'quantitative', scale: { zero: false, nice: true } };
  const encoding = {
    x: { ...axis, field: 'speedUp', title: 'speed against tolerance 0' },
    y: { ...axis, field: 'kendallTau', title: 'Kendall tau against float32' },
    order: { field: 'tolerance', type: 'quantitative' },
  };
  return panel(`Sparse deltas: ${model}`, points, shown, encoding, curveColours.slice(2));
}

function curvePanel({ title, points }: Curve): Spec {
  const shown = points.flatMap(({ label, x, imagesPerSecond }) =>
    imagesPerSecond === null ? [] : [{ label, x, rate: imagesPerSecond.median }],
  );
  const axis = { type: 'quantitative', scale: { type: 'log', nice: false, padding: 12 } };
  const ticks = [...new Set(points.map(({ x }) => x))];
  const encoding = {
    x: { ...axis, field: 'x', title: title.toLowerCase(), axis: { values: ticks } },
    y: { ...axis, field: 'rate', title: 'images per second', axis: { tickCount: 4 } },
  };
  return panel(title, points, shown, encoding, curveColours);
}
