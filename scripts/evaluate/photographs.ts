/** `npm run evaluate -- --photographs FOLDER`: rankers, teachers and plain arithmetic on real photographs. */
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { program, UsageError } from '../../bench/command-line.js';
import { PatchRanker } from '../../lib/index.js';
import { resolveModel } from '../../lib/models.js';
import { checkPatchSizes, provenance, sample, say, writeResults } from './command.js';
import { labelledPictures } from './instances.js';
import { hasRuntime, Judge, judges } from './judge.js';
import { allSelectors, usualSelectors } from './kept.js';
import { modelName, withCentre, type NamedRanker, type NamedTeacher } from './maps.js';
import { markdown, selectionMarkdown } from './markdown.js';
import { measureJudge, measureObjects, type MeasuredSet, type Plan } from './measure.js';
import { help, readOptions, type Options } from './options.js';
import { disagreementPage } from './page.js';
import { allPhotographsOf, partOf, photographsOf } from './parts.js';
import { reliabilityOf, type Results } from './results.js';
import { CachedTeacher, shortDigest } from './teacher-maps.js';

const size = 224;
const patch = 16;

/** The judge's sets, and how their pictures become squares: imagenette's are squares already. */
const judgeSets = [
  { name: 'imagenette', folder: 'imagenette/val', fit: 'stretch' },
  { name: 'in1k', folder: 'in1k', fit: 'crop' },
] as const;

await program('evaluate', help, async (args) => {
  const options = readOptions(args);
  const { photographs, part } = options;
  if (!existsSync(photographs)) throw new UsageError(`there is no folder ${photographs}`);
  if (options.list) {
    // Absolute, because a list's paths are relative to the folder it is kept in.
    const absolute = resolve(photographs);
    for (const path of allPhotographsOf(absolute, part)) process.stdout.write(`${path}\n`);
    return;
  }
  const judge = await findJudge(options);
  const rankers = await loadRankers(options.rankers);
  const references = referencesOf(rankers);
  const plan = {
    size,
    patch,
    objectFit: options.objectFit,
    rankers,
    selectors: options.selection ? allSelectors : usualSelectors,
    // Selection is chosen for rankers; a heuristic shows what depends on the map.
    ...(options.selection && { rows: [...references, 'variance + centre'] }),
  };
  const objects = await measuredObjects(options, plan);
  const judged = judge === null ? [] : await measuredByJudge(options, judge, plan);
  const sets = [...(objects.pictures.length > 0 ? [objects] : []), ...judged];
  if (sets.length === 0) {
    throw new UsageError(
      `${photographs} has neither coco nor imagenette/val nor in1k with pictures of this part`,
    );
  }
  const instances = objects.pictures.reduce(
    (count, { objects: { each } }) => count + each.length,
    0,
  );
  const figures = sets.flatMap(({ table }) => table.figures());
  const results: Results = {
    ...provenance(args),
    part,
    size,
    patch,
    objectFit: options.objectFit,
    models: await Promise.all([
      ...rankers.map(({ name, source }) => model(name, source, 'ranker')),
      ...options.teachers.map((source) => model(`teacher ${modelName(source)}`, source, 'mae')),
    ]),
    teacherSettings: options.teacherSettings,
    judge: judge === null ? null : basename(judges[options.judge as 'v1' | 'v2'], '.onnx'),
    sets: sets.map((set) => ({
      name: set.table.set,
      pictures: set.names,
      ...(set === objects && { instances }),
    })),
    selectors: plan.selectors.map(({ name }) => name),
    rows: [...new Set(figures.map(({ row }) => row))],
    figures,
    differences: sets.flatMap(({ table }) => table.differences(references)),
    reliability: sets.flatMap(reliabilityOf),
  };
  await write(results, objects.pictures, references, options);
  for (const { ranker } of rankers) ranker.dispose();
});

type SharedPlan = Omit<Plan, 'onProgress' | 'teachers'>;

async function measuredObjects(options: Options, plan: SharedPlan) {
  const labelled = (await labelledPictures(join(options.photographs, 'coco')))
    .filter(({ name }) => partOf('coco/images', name) === options.part)
    .slice(0, options.objectPictures);
  return withTeachers(options, options.rounds, (teachers) =>
    measureObjects(labelled, { ...plan, teachers, onProgress: progress('coco') }),
  );
}

async function measuredByJudge(
  options: Options,
  judge: Judge,
  plan: SharedPlan,
): Promise<MeasuredSet[]> {
  return withTeachers(options, options.judgeRounds, async (teachers) => {
    const sets: MeasuredSet[] = [];
    for (const { name, folder, fit } of judgeSets) {
      const all = photographsOf(options.photographs, folder, options.part);
      const paths = sample(all, options.pictures, 'sample');
      if (paths.length === 0) continue;
      const own = { ...plan, teachers, onProgress: progress(name) };
      sets.push(await measureJudge(name, { paths, fit }, judge, own));
    }
    return sets;
  });
}

async function withTeachers<Result>(
  { teachers: sources, teacherSettings }: Options,
  rounds: readonly number[],
  work: (teachers: NamedTeacher[]) => Promise<Result>,
): Promise<Result> {
  checkNames(sources);
  const teachers = await Promise.all(
    sources.map(async (source) => ({
      name: `teacher ${modelName(source)}`,
      teacher: await CachedTeacher.open(source, rounds, teacherSettings),
    })),
  );
  const result = await work(teachers);
  for (const { name, teacher } of teachers) {
    const { rounds: computed, seconds } = teacher.spent;
    if (computed > 0) say(`${name}: ${computed} rounds computed in ${seconds.toFixed(0)} s`);
    await teacher.dispose();
  }
  return result;
}

async function write(
  results: Results,
  pictures: Parameters<typeof disagreementPage>[0],
  references: readonly string[],
  { selection, out, part }: Options,
): Promise<void> {
  const text = selection ? selectionMarkdown(results) : markdown(results, references);
  const [ranker] = references;
  const hasPage = !selection && ranker !== undefined && pictures.length > 0;
  writeResults(out, 'results', results, text, {
    ...(hasPage && {
      'page.html': await disagreementPage(pictures, ranker, `Real photographs, ${part} part`),
    }),
  });
  say(`results.json, results.md and the page are in ${out}`);
}

/** Rows that everything is compared with. */
function referencesOf(rankers: readonly NamedRanker[]): string[] {
  return rankers.flatMap(({ name }) => [name, withCentre(name)]);
}

async function findJudge({ judge, photographs }: Options): Promise<Judge | null> {
  if (judge === 'none') return null;
  const file = join(photographs, 'judge', judges[judge]);
  if (!existsSync(file)) {
    say(`there is no ${file}; nothing is judged`);
    return null;
  }
  if (!hasRuntime()) {
    throw new UsageError(
      'the judge needs onnxruntime-node: run npm ci --prefix bench --ignore-scripts, or give --judge none',
    );
  }
  return Judge.open(file);
}

/** Rows have the names of their models, so two of one name would be one row. */
function checkNames(sources: readonly string[]): void {
  const names = sources.map(modelName);
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice !== undefined)
    throw new UsageError(`two models are called ${twice}; rename the file or folder of one`);
}

async function loadRankers(
  sources: readonly string[],
): Promise<(NamedRanker & { source: string })[]> {
  checkNames(sources);
  const rankers = [];
  for (const source of sources) {
    const ranker = await PatchRanker.load(source);
    checkPatchSizes(patch, { [source]: ranker });
    rankers.push({ name: `ranker ${modelName(source)}`, source, ranker });
  }
  return rankers;
}

async function model(
  row: string,
  source: string,
  kind: 'ranker' | 'mae',
): Promise<Results['models'][number]> {
  return { row, source, digest: await shortDigest(resolveModel(source, kind)) };
}

/** A line on the terminal, or now and then in a log. */
function progress(name: string): Plan['onProgress'] {
  const start = performance.now();
  let shown = start;
  return (done, total) => {
    const now = performance.now();
    const every = process.stderr.isTTY ? 200 : 30_000;
    if (now - shown < every) return;
    shown = now;
    const left =
      done === 0
        ? ''
        : `, ${((((now - start) / done) * (total - done)) / 60_000).toFixed(1)} minutes left`;
    const text = `evaluate: ${name}, ${done} of ${total} pictures${left}`;
    process.stderr.write(process.stderr.isTTY ? `\r${text}\x1b[K` : `${text}\n`);
  };
}
