/** Rankers that learned from the same stored maps with one thing changed. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { sum } from '../../lib/evaluation/masks.js';
import { known } from '../../lib/evaluation/teacher-reference.js';
import { PatchRanker } from '../../lib/index.js';
import { rankerFlops } from '../../lib/plan/flops.js';
import { agreementWith } from '../evaluate/agreement.js';
import { keptPatches, topK } from '../evaluate/kept.js';
import { ltrp } from '../evaluate/ltrp.js';
import type { Picture } from '../evaluate/pictures.js';
import { keeps } from '../evaluate/shares.js';
import { Table } from '../evaluate/table.js';
import { mapBase, type RankerRow } from './rows.js';
import { addRecall, digestOf, patch, size, type About, type Found, type Study } from './study.js';
import { TimedTeacher } from './timed-teacher.js';

export const batchSize = 32;

/** Peak learning rate of every ranker, and the steps in which it is reached. */
export const learningRate = 0.001;
export const warmupOf = (steps: number): number => Math.ceil(steps / 20);

/** Rounds of the base's maps that every ranker's order is compared with. */
export const targetRounds = 4;

export function aboutRankers(study: Study): About {
  const { part, teacher, labelled, judged, judge, training, maps, steps } = study;
  return {
    part,
    teacher: teacher.digest,
    pictures: labelled.length,
    picturesDigest: digestOf(...labelled.map(({ picture }) => picture.digest)),
    judged: judge === null ? null : judged.length,
    judgedDigest: digestOf(...judged.map(({ digest }) => digest)),
    objectsDigest: digestOf(
      ...labelled.map(({ objects: { any, each } }) => [any, ...each].map((pixels) => [...pixels])),
    ),
    judge: judge?.name ?? null,
    maps: Math.min(maps, training.length),
    mapsDigest: digestOf(...training.map((path) => basename(path))),
    steps,
    recipe: digestOf(mapArguments, trainArguments(steps), targetRounds),
  };
}

export async function measureRanker(
  row: RankerRow,
  study: Study,
): Promise<Omit<Found, 'row' | 'about'>> {
  const scores = storedMaps(row.settings.rounds, study);
  const run = train(row, scores, study);
  const model = join(run, 'model.safetensors');
  await using ranker = await PatchRanker.load(model);
  const mapOf = async (picture: Picture): Promise<Float64Array> =>
    Float64Array.from((await ranker.rank(picture.images)).logits);
  return {
    ...(await onPictures(row, mapOf, study)),
    cost: {
      trainingSeconds: trainingSeconds(join(run, 'log.jsonl')),
      gigaflops: rankerFlops(ranker.config, (size / patch) ** 2) / 1e9,
      megabytes: statSync(model).size / 1e6,
    },
  };
}

type MapOf = (picture: Picture) => Promise<Float64Array>;

/** What a ranker's maps of the study's pictures are worth. */
export async function onPictures(
  { name }: RankerRow,
  mapOf: MapOf,
  study: Study,
): Promise<Pick<Found, 'samples' | 'judged' | 'halves'>> {
  return {
    samples: await onObjects(name, mapOf, study),
    judged: await byJudge(name, mapOf, study),
    halves: [],
  };
}

async function onObjects(row: string, mapOf: MapOf, study: Study): Promise<Found['samples']> {
  await using teacher = await TimedTeacher.open({ ...mapBase, rounds: targetRounds }, study);
  const table = new Table('coco');
  for (const labelled of study.labelled) {
    const map = await mapOf(labelled.picture);
    await addRecall(table, row, labelled, map);
    const target = (await teacher.maps(labelled.picture)).map;
    for (const { tau } of await agreementWith(new Map([[row, map]]), target)) {
      const cell = { row, selector: null, keep: null };
      table.add({ ...cell, measure: 'tau' }, known(tau));
    }
  }
  return table.samples();
}

async function byJudge(row: string, mapOf: MapOf, study: Study): Promise<Found['judged']> {
  const { judge, judged } = study;
  if (judge === null) return [];
  const table = new Table('imagenette');
  for (const picture of judged) {
    const map = await mapOf(picture);
    const kept = await Promise.all(keeps.map((keep) => keptPatches(picture, map, keep, topK)));
    const views = kept.map((ids) => ({ kept: ids, fill: 'mean' }) as const);
    const [whole, ...answers] = await judge.answers(picture, ['whole', ...views]);
    for (const [i, keep] of keeps.entries()) {
      const cell = { row, measure: 'judge', selector: topK.name, keep };
      table.add(cell, { value: answers[i] === whole ? 1 : 0, weight: 1 });
    }
  }
  return table.samples();
}

const { maskRatio, metric, surprise, drop, precision } = mapBase;
const mapArguments: readonly string[] = [
  ...['--precision', precision, '--metric', metric, ...(surprise ? ['--surprise'] : [])],
  ...['--drop', drop, '--mask-ratio', String(maskRatio), '--crop-scale', '0.6,1', '--seed', '1'],
];

/** What the trainings of all rankers have in common. No validation: they are compared on the same pictures afterwards. */
const trainArguments = (steps: number): readonly string[] => [
  ...['--val-share', '0', '--model', 'tiny', '--steps', String(steps), '--precision', 'bfloat16'],
  ...['--batch-size', String(batchSize), '--micro-batch-size', String(batchSize)],
  ...['--learning-rate', String(learningRate), '--warmup', String(warmupOf(steps))],
  ...['--checkpoint-every', '1m'],
];

/** Stores that are whole, which `ltrp score` would load the teacher to find. */
const whole = new Set<string>();

/** The folder of the maps that rankers learn from; made, or continued, where there is need. */
export function storedMaps(rounds: number, { training, teacher, out }: Study): string {
  const about = digestOf(teacher.digest, training, mapArguments);
  const list = join(out, `photographs-${about}.txt`);
  writeFileSync(list, `${training.join('\n')}\n`);
  const folder = join(out, `scores-${rounds}-${about}`);
  if (whole.has(folder)) return folder;
  const made = ['--store', folder, '--model', teacher.source, '--rounds', String(rounds)];
  ltrp(['score', list, ...made, ...mapArguments]);
  whole.add(folder);
  return folder;
}

/** Begins or continues a training. Returns its folder. */
function train({ settings, name }: RankerRow, scores: string, { steps, out }: Study): string {
  const { loss, lossK, smoothing, dim } = settings;
  const args = [
    ...['train', '--scores', scores, ...trainArguments(steps), '--dim', String(dim)],
    ...['--loss', loss, ...(lossK === null ? [] : ['--loss-k', String(lossK)])],
    ...['--smoothing', String(smoothing)],
  ];
  const run = join(out, 'runs', `${name.replace('/', '-')}-${digestOf(args)}`);
  ltrp([...args, '--out', run, '--resume']);
  return run;
}

/** Of all steps, in whichever run of the command. */
function trainingSeconds(log: string): number {
  const entries = readFileSync(log, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as { seconds?: number });
  return sum(entries.map(({ seconds = 0 }) => seconds));
}
