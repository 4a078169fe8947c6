// `npm run demo`: the committed photographs, ranked by the embedded ranker and scored by the embedded teacher. Prints a
// table and writes a page to look at. Arguments: --out DIR (default demo/out), --rounds N (default 4).
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { MaskedAutoencoder, PatchRanker, rankAgreement, selectPatches } from 'ltrp';
import { alignedRows } from '../dist/cli/numbers.js';
import { OutputFolder } from '../dist/cli/output-folder.js';
import { ReportPages } from '../dist/cli/report/pages.js';
import { heatMapPicture, keptPicture } from '../dist/cli/report/pictures.js';
import { drawn } from '../dist/cli/results.js';
import { sourceId } from '../dist/output-mark.js';
import { readWholePicture } from '../dist/whole-picture.js';

const root = fileURLToPath(new URL('../', import.meta.url));
const { values } = parseArgs({
  options: {
    out: { type: 'string', default: join(root, 'demo', 'out') },
    rounds: { type: 'string', default: '4' },
  },
});
const rounds = Number(values.rounds);
// As the maps that the ranker learned from.
const scoring = { rounds, maskRatio: 0.75, metric: 'reach', surprise: true };
const keepRatio = 0.5;
const signal = new AbortController().signal;

const milliseconds = (start) => performance.now() - start;
const time = (ms) => (ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`);

console.log('Loading the embedded models ...');
const loadStart = performance.now();
const [ranker, teacher] = await Promise.all([
  PatchRanker.load('tiny'),
  MaskedAutoencoder.load('tiny'),
]);
console.log(`  ranker and teacher loaded in ${time(milliseconds(loadStart))}`);

const folder = join(root, 'demo', 'photos');
const photos = (await readdir(folder)).filter((name) => name.endsWith('.jpg')).sort();
const out = new OutputFolder(values.out);
const pages = new ReportPages(
  {
    title: 'Which patches matter',
    description:
      'Photographs ranked by the embedded ranker, beside the opinion of the embedded teacher it learned from; no labels anywhere.',
    keepRatio,
    notes: [
      'Sources and licences of the photographs: demo/photos/CREDITS.md. They were among the training photographs of the ' +
        'embedded models; figures on held-out pictures are in models/README.md.',
    ],
  },
  out,
);

const rows = [['photo', 'patches', 'kept', 'tau', 'read', 'rank', 'select', 'teacher']];
const taus = [];
for (const name of photos) {
  console.log(`${name}: ranking, then scoring with the teacher (${rounds} rounds of masks) ...`);
  const file = join(folder, name);
  let start = performance.now();
  const { images, grid, width, height } = await readWholePicture(file, ranker.config, {}, signal);
  const readTime = milliseconds(start);
  const patches = grid.rows * grid.columns;

  start = performance.now();
  const { logits } = await ranker.rank(images);
  const rankTime = milliseconds(start);

  start = performance.now();
  const { indices } = await selectPatches(images, logits, {
    keepRatio,
    patchSize: ranker.config.patchSize,
  });
  const selectTime = milliseconds(start);

  start = performance.now();
  const map = await teacher.scoreMap(images, scoring);
  const teacherTime = milliseconds(start);

  const { kendallTau } = await rankAgreement(logits, map.mean, [1, patches]);
  taus.push(kendallTau[0]);
  rows.push([
    name,
    `${grid.rows} x ${grid.columns}`,
    `${indices.length} of ${patches}`,
    kendallTau[0].toFixed(2),
    time(readTime),
    time(rankTime),
    time(selectTime),
    time(teacherTime),
  ]);
  const output = { name: name.replace(/\.jpg$/, ''), id: sourceId(file) };
  const image = await drawn(
    { file, output, signal },
    { width, height },
    out,
    {
      '-heat.png': (shown) => heatMapPicture(shown, grid, logits),
      '-kept.png': (shown) => keptPicture(shown, grid, indices),
    },
    { label: 'Ranker', ...grid, scores: logits, selected: indices },
    { label: 'Teacher', ...grid, scores: map.mean, standardErrors: map.standardError },
  );
  await pages.add({ ...image, name });
}
ranker.dispose();
teacher.dispose();

console.log(`\n${alignedRows(rows)}\n`);
console.log(
  "tau: Kendall's rank correlation between the ranker's order and the teacher's map (1: the same order).",
);
console.log(
  `mean tau ${(taus.reduce((a, b) => a + b, 0) / taus.length).toFixed(2)}; kept: share ${keepRatio}.`,
);
console.log(`\nOpen ${(await pages.finish()).page}`);
