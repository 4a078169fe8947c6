/** Measures by share of the patches, as a page of one file: charts with a line for each selector, which the pointer brings forward. */
import { usesLabels } from './asked.js';
import { bestFirst, measuresByShare } from './report.js';
import type { SelectorName } from '../selectors.js';
import type { Measure } from './figures.js';
import type { StudyResults } from './study.js';

const [width, height] = [860, 520];
const plot = { left: 56, right: 620, top: 20, bottom: 460 };
const lineHeight = 26;

export interface CurvePage {
  results: StudyResults;
  keeps: readonly number[];
  /** Its line is drawn last. */
  reference: SelectorName;
  /** What was measured on. */
  about: string;
  /** What the figures came from. */
  source: string;
}

/** A line of a chart: points from left to right. */
interface Line {
  selector: SelectorName;
  /** `at`: share of the patches. `range`: the 95% interval; null where there is none. */
  points: { at: number; value: number; range: readonly [low: number, high: number] | null }[];
}

interface Chart {
  title: string;
  /** What the share is of. */
  axis: string;
  /** Shares that the axis names. */
  ticks: readonly number[];
  /** The best first. */
  lines: readonly Line[];
}

/** A chart for each measure by share, and the curves of insertion and deletion. */
export function curvePage({ results, keeps, reference, about, source }: CurvePage): string {
  const charts = [
    ...measuresByShare(results).map((measure) => byShare(results, measure, keeps)),
    ...(['insertion', 'deletion'] as const).map((which) => removal(results, which)),
  ].filter(({ lines }) => lines.length > 0);
  const title = charts[0]?.title ?? 'On kept patches';
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>
  :root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
  body { max-width: ${width}px; margin: 2rem auto; padding: 0 1rem; }
  svg { width: 100%; height: auto; overflow: visible; }
  svg text { font-size: 13px; fill: currentColor; }
  .grid line { stroke: currentColor; opacity: .15; }
  .row { color: #8a8a8a; outline: none; cursor: default; }
  .row.labels { color: #c2621b; }
  .row.reference { color: #1a6fd0; }
  .row polyline { fill: none; stroke: currentColor; stroke-width: 1.5; opacity: .6; pointer-events: stroke; }
  .row.reference polyline { stroke-width: 3; opacity: 1; }
  .row circle { fill: currentColor; opacity: .6; }
  .row.reference circle { opacity: 1; }
  svg:hover .row:not(:hover), svg:focus-within .row:not(:focus) { opacity: .3; }
  svg .row:hover, svg .row:focus { opacity: 1; }
  .row:hover polyline, .row:focus polyline { stroke-width: 4; opacity: 1; }
  .row:hover text, .row:focus text { font-weight: 600; }
</style>
<h1>${title}</h1>
<p>${escaped(about)}; by share of the patches. Blue: ${reference}. Orange: selectors that were trained with
labels. Grey: all others. The pointer on a line, a point or a name brings it forward; a point tells its figure and the 95% interval.</p>
${charts.map((chart, i) => (i === 0 ? '' : `<h2>${chart.title}</h2>\n`) + drawn(chart, reference)).join('\n')}
<p>${escaped(source)}</p>
</html>
`;
}

/** Of measures whose names say too little. */
const titles: Readonly<Record<string, string>> = { judge: 'Answers of the judge that stay' };

function byShare(results: StudyResults, measure: Measure, keeps: readonly number[]): Chart {
  const figures = results.figures.filter((each) => each.measure === measure);
  const lines = bestFirst(figures, measure, keeps[0] ?? 1).map((selector) => ({
    selector,
    points: keeps.flatMap((at) => {
      const found = figures.find((each) => each.selector === selector && each.keep === at);
      // Without a positive there is no precision.
      if (found === undefined || Number.isNaN(found.value)) return [];
      return [{ at, value: found.value, range: [found.low, found.high] as const }];
    }),
  }));
  const [what = '', group] = measure.split(', ');
  const name =
    titles[what] ?? (what.startsWith('mAP') ? what : what.charAt(0).toUpperCase() + what.slice(1));
  return {
    title: `${name} on kept patches${group === undefined ? '' : `, ${group} categories`}`,
    axis: 'patches kept',
    ticks: keeps,
    lines: lines.filter(({ points }) => points.length > 0),
  };
}

function removal({ figures, curves }: StudyResults, which: 'insertion' | 'deletion'): Chart {
  // Of insertion the largest area is best, of deletion the smallest.
  const order = bestFirst(figures, `${which} area`, null);
  if (which === 'deletion') order.reverse();
  const lines = order.flatMap((selector) => {
    const found = curves.find((each) => each.selector === selector);
    if (found === undefined) return [];
    const all = found.steps.at(-1) ?? 1;
    const points = found.steps.map((step, i) => ({
      ...{ at: step / all, value: found[which][i] ?? NaN, range: null },
    }));
    return [{ selector, points }];
  });
  return {
    title:
      which === 'insertion'
        ? 'Insertion: probability of the true class with the best patches alone'
        : 'Deletion: probability of the true class without the best patches',
    axis: which === 'insertion' ? 'patches there' : 'patches missing',
    ticks: [0, 0.25, 0.5, 0.75, 1],
    lines,
  };
}

function drawn({ title, axis, ticks, lines }: Chart, reference: SelectorName): string {
  const ranges = lines.flatMap(({ points }) =>
    points.map(({ value, range }) => range ?? [value, value]),
  );
  const high = Math.ceil(10 * Math.max(...ranges.map(([, most]) => most))) / 10;
  const least = Math.floor(10 * Math.min(...ranges.map(([few]) => few))) / 10;
  const low = least < high ? least : high - 0.1;
  const x = (share: number): number => plot.left + share * (plot.right - plot.left);
  const y = (value: number): number =>
    plot.bottom - ((value - low) / (high - low)) * (plot.bottom - plot.top);
  const rows = lines.map(({ selector, points }, place) => {
    const path = points.map(({ at, value }) => `${round(x(at))},${round(y(value))}`).join(' ');
    const marks = points.map(
      ({ at, value, range }) =>
        `<circle cx="${round(x(at))}" cy="${round(y(value))}" r="4"><title>${escaped(selector)}, ${percent(at)} ${axis.replace('patches ', '')}: ` +
        `${percent(value)}${range === null ? '' : ` [${range.map(percent).join(', ')}]`}</title></circle>`,
    );
    const kind = usesLabels(selector) ? 'labels' : 'free';
    const text = `<text x="${plot.right + 30}" y="${plot.top + 10 + place * lineHeight}">${escaped(selector)}</text>`;
    return `<g class="row ${kind}${selector === reference ? ' reference' : ''}" tabindex="0"><polyline points="${path}"/>${marks.join('')}${text}</g>`;
  });
  // What is drawn last lies on top.
  const place = lines.findIndex(({ selector }) => selector === reference);
  if (place >= 0) rows.push(...rows.splice(place, 1));
  const steps = Math.round((high - low) * 10);
  const grid = Array.from({ length: steps + 1 }, (_, i) => low + i / 10).map(
    (value) =>
      `<line x1="${plot.left}" x2="${plot.right}" y1="${round(y(value))}" y2="${round(y(value))}"/>` +
      `<text x="${plot.left - 8}" y="${round(y(value) + 4)}" text-anchor="end">${percent(value)}</text>`,
  );
  const names = ticks.map(
    (share) =>
      `<text x="${round(x(share))}" y="${plot.bottom + 22}" text-anchor="middle">${percent(share)}</text>`,
  );
  return `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${title}">
<g class="grid">${grid.join('')}${names.join('')}
<text x="${(plot.left + plot.right) / 2}" y="${plot.bottom + 46}" text-anchor="middle">${axis}</text></g>
${rows.join('\n')}
</svg>`;
}

const round = (value: number): number => Math.round(10 * value) / 10;
const percent = (value: number): string => `${Math.round(1000 * value) / 10}%`;
const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
