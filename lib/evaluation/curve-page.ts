/** A measure by share of the kept patches, as a page of one file: a line for each selector, which the pointer brings forward. */
import { usesLabels } from './asked.js';
import { bestFirst, measuresByShare } from './report.js';
import type { SelectorName } from '../selectors.js';
import type { StudyFigure } from './figures.js';
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

/** Of the first measure by share. */
export function curvePage({ results, keeps, reference, about, source }: CurvePage): string {
  const [measure = 'accuracy'] = measuresByShare(results);
  const title = measure === 'accuracy' ? 'Accuracy on kept patches' : 'mAP on kept patches';
  const figures = results.figures.filter((each) => each.measure === measure);
  const at = (row: SelectorName, keep: number): StudyFigure | undefined =>
    figures.find((each) => each.selector === row && each.keep === keep);
  const high = Math.ceil(10 * Math.max(...figures.map((each) => each.high))) / 10;
  const least = Math.floor(10 * Math.min(...figures.map((each) => each.low))) / 10;
  const low = least < high ? least : high - 0.1;
  const x = (keep: number): number => plot.left + keep * (plot.right - plot.left);
  const y = (value: number): number =>
    plot.bottom - ((value - low) / (high - low)) * (plot.bottom - plot.top);
  const sorted = bestFirst(figures, measure, keeps[0] ?? 1);
  const lines = sorted.map((row, place) => {
    const points = keeps.flatMap((keep) => {
      const figure = at(row, keep);
      return figure === undefined ? [] : [{ ...figure, keep }];
    });
    const path = points.map(({ keep, value }) => `${round(x(keep))},${round(y(value))}`).join(' ');
    const marks = points.map(
      ({ keep, value, low, high }) =>
        `<circle cx="${round(x(keep))}" cy="${round(y(value))}" r="4"><title>${escaped(row)}, ${percent(keep)} kept: ` +
        `${percent(value)} [${percent(low)}, ${percent(high)}]</title></circle>`,
    );
    const kind = usesLabels(row) ? 'labels' : 'free';
    const text = `<text x="${plot.right + 30}" y="${plot.top + 10 + place * lineHeight}">${escaped(row)}</text>`;
    return `<g class="row ${kind}${row === reference ? ' reference' : ''}" tabindex="0"><polyline points="${path}"/>${marks.join('')}${text}</g>`;
  });
  // What is drawn last lies on top.
  const place = sorted.indexOf(reference);
  if (place >= 0) lines.push(...lines.splice(place, 1));
  const steps = Math.round((high - low) * 10);
  const grid = Array.from({ length: steps + 1 }, (_, i) => low + i / 10).map(
    (value) =>
      `<line x1="${plot.left}" x2="${plot.right}" y1="${round(y(value))}" y2="${round(y(value))}"/>` +
      `<text x="${plot.left - 8}" y="${round(y(value) + 4)}" text-anchor="end">${percent(value)}</text>`,
  );
  const ticks = keeps.map(
    (keep) =>
      `<text x="${round(x(keep))}" y="${plot.bottom + 22}" text-anchor="middle">${percent(keep)}</text>`,
  );
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
<p>${escaped(about)}; by share of the patches that the classifier receives. Blue: ${reference}. Orange: selectors that were trained with
labels. Grey: all others. The pointer on a line, a point or a name brings it forward; a point tells its figure and the 95% interval.</p>
<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="${title}">
<g class="grid">${grid.join('')}${ticks.join('')}
<text x="${(plot.left + plot.right) / 2}" y="${plot.bottom + 46}" text-anchor="middle">patches kept</text></g>
${lines.join('\n')}
</svg>
<p>${escaped(source)}</p>
</html>
`;
}

const round = (value: number): number => Math.round(10 * value) / 10;
const percent = (value: number): string => `${Math.round(1000 * value) / 10}%`;
const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;');
