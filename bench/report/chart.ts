/** The chart, drawn by Vega-Lite. */
import { writeFileSync } from 'node:fs';
import type { Curve, Results } from '../results.js';

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
      hconcat:
        comparison.kind === 'scores'
          ? [speed(comparison.title, comparison.rows), errorAgainstSpeed(comparison.rows)]
          : [speed(comparison.title, comparison.rows)],
    }));
  if (results.curves.length > 0) {
    rows.push({
      resolve: { scale: { color: 'shared', x: 'independent', y: 'independent' } },
      concat: results.curves.map(curvePanel),
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

function speed(title: string, rows: readonly TimedRow[]): Spec {
  const y = { field: 'label', type: 'nominal', sort: null, title: null, axis: { labelLimit: 300 } };
  const scale = { type: 'log' };
  return {
    title,
    data: { values: values(rows) },
    width: 380,
    height: { step: 20 },
    layer: [
      {
        mark: { type: 'point', filled: true, size: 70, opacity: 1 },
        encoding: {
          y,
          x: { field: 'rate', type: 'quantitative', scale, title: 'images per second (quartiles)' },
          color: groupColour,
        },
      },
      {
        mark: 'rule',
        encoding: {
          y,
          x: { field: 'slow', type: 'quantitative', scale },
          x2: { field: 'fast' },
          color: groupColour,
        },
      },
    ],
  };
}

function errorAgainstSpeed(rows: readonly TimedRow[]): Spec {
  const scale = { type: 'log' };
  const x = { field: 'rate', type: 'quantitative', scale, title: 'images per second' };
  const y = {
    field: 'error',
    type: 'quantitative',
    scale,
    title: 'relative error against float64',
    axis: { format: '.0e' },
  };
  const shown = values(rows).filter(({ error }) => typeof error === 'number' && error > 0);
  return {
    title: 'Exactness and speed',
    data: { values: shown },
    width: 380,
    height: 260,
    layer: [
      {
        mark: { type: 'point', filled: true, size: 70, opacity: 1 },
        encoding: { x, y, color: groupColour },
      },
      {
        mark: { type: 'text', align: 'left', dx: 7, fontSize: 9 },
        encoding: { x, y, text: { field: 'label', type: 'nominal' } },
      },
    ],
  };
}

function curvePanel({ title, points }: Curve): Spec {
  const scale = { type: 'log' };
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
      y: { field: 'rate', type: 'quantitative', scale, title: 'images per second' },
      color: {
        field: 'label',
        type: 'nominal',
        title: null,
        scale: { domain: [...new Set(points.map(({ label }) => label))], range: curveColours },
        legend: { orient: 'bottom' },
      },
    },
  };
}
