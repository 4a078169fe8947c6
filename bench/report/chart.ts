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
  if (results.curves.length > 0) {
    rows.push({
      resolve: { scale: { color: 'shared', x: 'independent', y: 'independent' } },
      concat: results.curves.map(curvePanel),
      columns: 2,
    });
  }
  if (results.tolerance.length > 0) {
    rows.push({
      resolve: { scale: { color: 'shared', x: 'independent', y: 'independent' } },
      concat: results.tolerance.map(tolerancePanel),
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

/** Dots with quartiles, one line for each contender. */
function speed(title: string, rows: readonly TimedRow[]): Spec {
  const shown = values(rows);
  const ticks = decades(shown.flatMap(({ slow, fast }) => [slow as number, fast as number]));
  const y = {
    field: 'label',
    type: 'nominal',
    sort: null,
    title: null,
    axis: { labelLimit: 0, grid: true },
  };
  return {
    title,
    data: { values: shown },
    width: 340,
    height: { step: 20 },
    layer: [
      {
        mark: { type: 'point', filled: true, size: 70, opacity: 1 },
        encoding: {
          y,
          x: logarithmic('rate', 'images per second (quartiles)', ticks, '~g'),
          color: groupColour,
        },
      },
      {
        mark: 'rule',
        encoding: {
          y,
          x: { field: 'slow', type: 'quantitative' },
          x2: { field: 'fast' },
          color: groupColour,
        },
      },
    ],
  };
}

/** The same lines, without repeating their names: how far each is from float64. */
function exactness(rows: readonly TimedRow[]): Spec {
  const shown = values(rows);
  const ticks = decades(shown.map(({ error }) => (error as number | null) ?? 0));
  return {
    title: 'Error against float64',
    data: {
      values: shown.map((value) => ({
        ...value,
        error: value['error'] === 0 ? null : value['error'],
      })),
    },
    width: 260,
    height: { step: 20 },
    mark: { type: 'point', filled: true, size: 70, opacity: 1 },
    encoding: {
      y: {
        field: 'label',
        type: 'nominal',
        sort: null,
        title: null,
        axis: { labels: false, ticks: false, grid: true },
      },
      x: logarithmic('error', 'relative error (left is better)', ticks, '.0e'),
      color: groupColour,
    },
  };
}

/** Speed against order, a line for each precision from tolerance 0 on. */
function tolerancePanel({ model, points }: ToleranceCurve): Spec {
  const quantitative = { type: 'quantitative', scale: { zero: false, nice: true } };
  return {
    title: `Sparse deltas: ${model}`,
    data: {
      values: points.map(({ label, tolerance, speedUp, kendallTau }) => ({
        label,
        tolerance,
        speedUp,
        kendallTau,
      })),
    },
    width: 300,
    height: 200,
    mark: { type: 'line', point: true },
    encoding: {
      x: { ...quantitative, field: 'speedUp', title: 'speed against tolerance 0' },
      y: { ...quantitative, field: 'kendallTau', title: 'Kendall tau against float32' },
      order: { field: 'tolerance', type: 'quantitative' },
      color: {
        field: 'label',
        type: 'nominal',
        title: null,
        scale: {
          domain: [...new Set(points.map(({ label }) => label))],
          range: curveColours.slice(2),
        },
        legend: { orient: 'bottom', labelLimit: 0 },
      },
    },
  };
}

function curvePanel({ title, points }: Curve): Spec {
  const scale = { type: 'log', nice: false, padding: 12 };
  return {
    title,
    data: {
      values: points.flatMap(({ label, x, imagesPerSecond }) =>
        imagesPerSecond === null ? [] : [{ label, x, rate: imagesPerSecond.median }],
      ),
    },
    width: 300,
    height: 200,
    mark: { type: 'line', point: true },
    encoding: {
      x: {
        field: 'x',
        type: 'quantitative',
        scale,
        title: title.toLowerCase(),
        axis: { values: [...new Set(points.map(({ x }) => x))] },
      },
      y: {
        field: 'rate',
        type: 'quantitative',
        scale,
        title: 'images per second',
        axis: { tickCount: 4 },
      },
      color: {
        field: 'label',
        type: 'nominal',
        title: null,
        scale: { domain: [...new Set(points.map(({ label }) => label))], range: curveColours },
        legend: { orient: 'bottom', labelLimit: 0 },
      },
    },
  };
}
