/** The report: one HTML file that needs no other file and no network. */
import { readFileSync } from 'node:fs';
import { heatStops } from './colours.js';

/** The page's own code or style: the build copies both files beside this one. */
const beside = (name: string): string => readFileSync(new URL(name, import.meta.url), 'utf8');

/** One way to order an image's patches. */
export interface ReportMap {
  /** Name in the choice of maps; maps of different images with the same name are shown together. */
  label: string;
  rows: number;
  columns: number;
  /** [rows * columns], larger is better. */
  scores: ArrayLike<number>;
  /** [rows * columns] in the scores' unit; NaN where unknown. */
  standardErrors?: ArrayLike<number> | undefined;
  /** Patches chosen by the command; they can be shown instead of the slider's. */
  selected?: ArrayLike<number> | undefined;
}

/** One image of a report. */
export interface ReportImage {
  name: string;
  /** Size of the source in pixels, after EXIF rotation. */
  width: number;
  height: number;
  /** The picture as a data URI. */
  source: string;
  /** At least one. */
  maps: readonly ReportMap[];
  /** What the picture is known by in other calls, see `output-mark.ts`. */
  id?: string | undefined;
  /** What its line of JSON is known by. */
  line?: string | undefined;
}

/** What a page shows. All texts are plain text. */
export interface Report {
  title: string;
  description: string;
  /** Where the slider stands at first, in (0, 1]. */
  keepRatio: number;
  images: readonly ReportImage[];
  /** Tables above the pictures. */
  tables?: readonly {
    caption: string;
    header: readonly string[];
    rows: readonly (readonly string[])[];
  }[];
  /** Sentences at the foot of the page: how it was made, whose the pictures are. */
  notes?: readonly string[];
  /** Which page of a report in parts this is, from 1, and the file names of others. */
  page?: { number: number; first?: string; previous?: string; next?: string };
}

const entities: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
};

function escape(text: string): string {
  return text.replace(/[&<>"']/g, (character) => entities[character] ?? character);
}

function unescape(html: string): string {
  return Object.entries(entities).reduceRight(
    (text, [character, entity]) => text.replaceAll(entity, character),
    html,
  );
}

/** JSON that can stand in a script element: no `<` and no line separators of JavaScript's own. */
function scriptJson(value: unknown): string {
  return JSON.stringify(value).replace(
    /[<\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function numbers(values: ArrayLike<number>): (number | null)[] {
  return Array.from(values, (value) =>
    Number.isFinite(value) ? Number(value.toPrecision(6)) : null,
  );
}

function tableHtml({ caption, header, rows }: NonNullable<Report['tables']>[number]): string {
  const head = header.map((cell) => `<th scope="col">${escape(cell)}</th>`).join('');
  const body = rows
    .map((row) => `<tr>${row.map((cell) => `<td>${escape(cell)}</td>`).join('')}</tr>`)
    .join('\n');
  return `<div class="scroll"><table><caption>${escape(caption)}</caption><thead><tr>${head}</tr></thead>
<tbody>${body}</tbody></table></div>`;
}

function figureHtml(image: ReportImage): string {
  const name = escape(image.name);
  const size = `${image.width} × ${image.height} pixels`;
  return `<figure>
<div class="picture" style="aspect-ratio: ${image.width} / ${image.height}"><img src="${image.source}" alt="${name}"><canvas role="img" aria-label="${name}"></canvas></div>
<figcaption><strong>${name}</strong><span data-count aria-live="off"></span><span data-patch>${size}</span></figcaption>
</figure>`;
}

function mapChoice(labels: readonly string[]): string {
  if (labels.length < 2) return '';
  const choices = labels
    .map(
      (label, index) =>
        `<label><input type="radio" name="map" value="${escape(label)}"${index === 0 ? ' checked' : ''}>${escape(label)}</label>`,
    )
    .join('');
  return `<fieldset aria-label="Whose order">${choices}</fieldset>`;
}

function pageLinks({ number, first, previous, next }: NonNullable<Report['page']>): string {
  const link = (name: string | undefined, rel: string, text: string): string[] =>
    name === undefined ? [] : [`<a href="${escape(name)}"${rel}>${text}</a>`];
  const links = [
    ...link(previous === first ? undefined : first, '', 'First page'),
    ...link(previous, ' rel="prev"', 'Previous page'),
    ...link(next, ' rel="next"', 'Next page'),
  ];
  if (links.length === 0) return '';
  return `<nav aria-label="Pages">Page ${number} ${links.join(' ')}</nav>`;
}

/** An image as it stands in a page; its texts are outside the JavaScript heap, for there may be a hundred of them. */
export interface PageImage {
  figure: Buffer;
  /** For the page's script. */
  data: Buffer;
  labels: readonly string[];
  hasSelection: boolean;
  id?: string | undefined;
  line?: string | undefined;
}

/** What the page's script reads of an image, and later calls of the command. */
type ImageData = Pick<ReportImage, 'name' | 'id' | 'line'> & {
  maps: { label: string; selected?: unknown }[];
};

function partsOf(figure: string, data: ImageData): PageImage {
  return {
    figure: Buffer.from(figure),
    data: Buffer.from(scriptJson(data)),
    labels: data.maps.map(({ label }) => label),
    hasSelection: data.maps.some(({ selected }) => selected !== undefined),
    id: data.id,
    line: data.line,
  };
}

export function pageImageParts(image: ReportImage): PageImage {
  const data = {
    name: image.name,
    id: image.id,
    line: image.line,
    maps: image.maps.map((map) => ({
      label: map.label,
      rows: map.rows,
      columns: map.columns,
      scores: numbers(map.scores),
      standardErrors: map.standardErrors && numbers(map.standardErrors),
      selected: map.selected && Array.from(map.selected),
    })),
  };
  return partsOf(`${figureHtml(image)}\n`, data);
}

const figuresBegin = 'aria-label="Images">\n';
const figuresEnd = '</section>\n</main>';
const dataBegin = '<script type="application/json" id="report">';

/** The title, the description and the images of a page that was written before; undefined for other texts. */
export function parsePage(
  html: string,
): (Pick<Report, 'title' | 'description'> & { images: PageImage[] }) | undefined {
  const between = (start: string, end: string): string | undefined => {
    const from = html.indexOf(start);
    const to = from < 0 ? -1 : html.indexOf(end, from);
    return to < 0 ? undefined : html.slice(from + start.length, to);
  };
  const [title, description, figures, data] = [
    between('<div><h1>', '</h1>'),
    between('</h1><p>', '</p>'),
    between(figuresBegin, figuresEnd),
    between(dataBegin, '</script>'),
  ];
  if (title === undefined || description === undefined || data === undefined) return undefined;
  const parts = figures?.split(/(?<=<\/figure>\n)/) ?? [];
  try {
    const { images } = JSON.parse(data) as { images: ImageData[] };
    if (images.length !== parts.length) return undefined;
    return {
      title: unescape(title),
      description: unescape(description),
      images: images.map((image, index) => partsOf(parts[index] as string, image)),
    };
  } catch {
    return undefined;
  }
}

/** The page as one string. */
export function reportPage(report: Report): string {
  return Buffer.concat([...pageChunks(report, report.images.map(pageImageParts))]).toString();
}

/** The page in pieces, one after the other. */
export function* pageChunks(
  report: Omit<Report, 'images'>,
  images: readonly PageImage[],
): Generator<Buffer, void, undefined> {
  yield Buffer.from(pageHead(report, images));
  for (const { figure } of images) yield figure;
  yield Buffer.from(pageFoot(report));
  for (const [index, { data }] of images.entries()) {
    if (index > 0) yield Buffer.from(',');
    yield data;
  }
  yield Buffer.from(`]}</script>
<script>${beside('page-script.js')}</script>
</body>
</html>
`);
}

function pageHead(report: Omit<Report, 'images'>, images: readonly PageImage[]): string {
  const labels = [...new Set(images.flatMap((image) => image.labels))];
  const anySelected = images.some(({ hasSelection }) => hasSelection);
  const percent = Math.min(100, Math.max(1, Math.round(report.keepRatio * 100)));
  const gradient = heatStops.map((colour) => `rgb(${colour.join(' ')})`).join(', ');
  const chosenSwitch = anySelected
    ? '<label class="switch"><input type="checkbox" name="chosen">As chosen by the command</label>'
    : '';
  const chosenNote = anySelected
    ? ' “As chosen by the command” shows what the command kept, by its options.'
    : '';
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'">
<title>${escape(report.title)}</title>
<style>${beside('page-style.css')}</style>
</head>
<body>
<header>
<div><h1>${escape(report.title)}</h1><p>${escape(report.description)}</p></div>
<button type="button" id="theme">Dark page</button>
</header>
<div class="controls">
<div class="keep"><label for="keep">Keep</label><input id="keep" name="keep" form="controls" type="range" min="1" max="100" step="1" value="${percent}"><output name="keepOutput" form="controls" for="keep">${percent}%</output></div>
<form id="controls" name="controls" aria-label="What is shown">
${mapChoice(labels)}
<label class="switch"><input type="checkbox" name="dim" checked>Fade dropped patches</label>
<label class="switch"><input type="checkbox" name="heat">Heat map</label>
${chosenSwitch}
<div class="legend"><span>last</span><span class="bar" style="background: linear-gradient(to right, ${gradient})"></span><span>first</span></div>
</form></div>
<main>
<p class="note">The slider keeps the patches with the highest scores.${chosenNote} Colours are places within one image, not scores.
Keys: <kbd>←</kbd> <kbd>→</kbd> keep less or more, <kbd>PgDn</kbd> <kbd>PgUp</kbd> in tens, <kbd>h</kbd> heat map, <kbd>d</kbd> fading. Point at a patch for its score.</p>
${(report.tables ?? []).map(tableHtml).join('\n')}
<section class="images${images.length === 1 ? ' single' : ''}" ${figuresBegin}`;
}

/** From the end of the pictures to where the script's data begin. */
function pageFoot({ page, notes = [] }: Omit<Report, 'images'>): string {
  return `${figuresEnd}
<footer>${page === undefined ? '' : pageLinks(page)}${notes.map((note) => `<p>${escape(note)}</p>`).join('\n')}</footer>
${dataBegin}{"heatStops":${scriptJson(heatStops)},"images":[`;
}
