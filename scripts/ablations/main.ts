/**
 * `npm run ablations -- --photographs FOLDER`: what each choice behind the embedded ranker is worth. A finished row is a file
 * named by its settings and what it was measured on, so the same command goes on where it ended.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { program } from '../../bench/command-line.js';
import { pythonTorch } from '../../bench/machine.js';
import { measureWithPyTorch, needsPyTorch } from './convolutional.js';
import { aboutMaps, measureMaps } from './maps.js';
import { help, readOptions } from './options.js';
import { expectedSeconds, Pace } from './pace.js';
import { aboutRankers, measureRanker } from './rankers.js';
import { markdown, resultsOf } from './report.js';
import type { Row } from './rows.js';
import { digestOf, openStudy, type About, type Found, type Study } from './study.js';

await program('ablations', help, async (args) => {
  const study = await openStudy(readOptions(args), say);
  const { out } = study;
  const places = possible(study.rows.map((row) => placeOf(row, study)));
  const missing = places.filter(isMissing);
  const pace = new Pace(
    missing.map(({ row }) => row),
    expectedSeconds(study),
  );
  const { length } = places;
  say(`${length} rows, ${length - missing.length} of them finished; ${pace.left()}: ${out}`);
  const found: Found[] = [];
  for (const [i, place] of places.entries()) {
    const { row, file, about } = place;
    if (isMissing(place)) {
      say(`${row.name} (${i + 1} of ${length}) ...`);
      pace.begin(row);
      const result = await measure(row, study);
      writeFileSync(`${file}.part`, `${JSON.stringify({ row, about, ...result })}\n`);
      renameSync(`${file}.part`, file);
      say(`${row.name}: ${pace.end()}`);
    }
    found.push(JSON.parse(readFileSync(file, 'utf8')) as Found);
  }
  const { part, teacher, labelled, judged, training, steps } = study;
  const results = resultsOf(found, {
    command: `npm run ablations -- ${args.join(' ')}`,
    processor: `${cpus()[0]?.model ?? 'unknown processor'}, ${cpus().length} cores`,
    part,
    teacher,
    pictures: {
      coco: labelled.length,
      instances: labelled.reduce((count, { objects }) => count + objects.each.length, 0),
      imagenette: judged.length,
    },
    maps: training.length,
    steps,
  });
  const text = markdown(results);
  writeFileSync(join(out, 'results.json'), `${JSON.stringify(results, null, 2)}\n`);
  writeFileSync(join(out, 'results.md'), text);
  process.stdout.write(text);
  say(`results.json and results.md are in ${out}`);
});

interface Place {
  row: Row;
  about: About;
  file: string;
}

function isMissing({ file }: Place): boolean {
  return !existsSync(file);
}

/** Without those that are not finished and need a PyTorch that is not there. */
function possible(places: readonly Place[]): readonly Place[] {
  const needing = places.filter((place) => needsPyTorch(place.row) && isMissing(place));
  if (needing.length === 0 || pythonTorch() !== null) return places;
  const names = needing.map(({ row }) => row.name).join(' and ');
  say(`python3 has no torch here; ${names} ${needing.length === 1 ? 'is' : 'are'} skipped`);
  return places.filter((place) => !needing.includes(place));
}

function placeOf(row: Row, study: Study): Place {
  const about = row.half === 'maps' ? aboutMaps(row, study) : aboutRankers(study);
  const name = `${row.name.replace('/', '-')}-${digestOf(row.settings, about)}.json`;
  return { row, about, file: join(study.out, 'rows', name) };
}

function measure(row: Row, study: Study): Promise<Omit<Found, 'row' | 'about'>> {
  if (row.half === 'ranker')
    return needsPyTorch(row) ? measureWithPyTorch(row, study) : measureRanker(row, study);
  let shown = performance.now();
  return measureMaps(row, study, (done, total) => {
    if (performance.now() - shown < 30_000) return;
    shown = performance.now();
    say(`${row.name}: ${done} of ${total} pictures`);
  });
}

function say(text: string): void {
  process.stderr.write(`ablations: ${text}\n`);
}
