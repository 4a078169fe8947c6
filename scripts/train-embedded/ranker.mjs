/** The ranker: learns a teacher's maps of photographs. */
import { join } from 'node:path';
import { buildProgram } from '../../dist/cli/program.js';
import { keptAs } from '../../dist/cli/score.js';
import { writeList } from './photographs.mjs';
import { ltrp, shortDigest, train, words } from './runs.mjs';

const crops = words('--crop-scale 0.6,1 --seed 1');

/** Refuses what `ltrp score` would refuse only after the teacher's hours. */
export function checkScoring(scoring) {
  const command = buildProgram().commands.find((each) => each.name() === 'score');
  command.configureOutput({ writeOut: () => {}, writeErr: () => {} }).action(() => {});
  const precision = 'float32';
  try {
    command.parse(['list', ...scoreArgs({ store: 'maps', teacher: 'tiny', precision }, scoring)], {
      from: 'user',
    });
    keptAs(command, command.opts().store);
  } catch (error) {
    throw new Error(`--scoring: ${error.message.replace(/^error: /, '')}`, { cause: error });
  }
}

const scoreArgs = ({ store, teacher, precision }, scoring) => [
  ...['--store', store, '--model', teacher, '--precision', precision],
  ...words(scoring),
  ...crops,
];

/** Returns the file of a ranker that has learned from the teacher's maps of all photographs. */
export function trainRanker({ teacher, photographs, runs, scoring, steps, precision }) {
  const list = writeList(runs, photographs);
  const mapsKey = shortDigest([teacher.digest, list.digest, words(scoring), crops, precision]);
  const maps = join(runs, `maps-${mapsKey}`);
  ltrp([
    'score',
    list.file,
    ...scoreArgs({ store: maps, teacher: teacher.path, precision }, scoring),
  ]);
  const recipe = words(`
    --model tiny --loss listMle --smoothing 0.7 --warmup ${Math.ceil(steps / 20)}
    --val-every ${Math.ceil(steps / 6)} --batch-size 32 --micro-batch-size 32 --precision ${precision}
    --learning-rate 0.001 --checkpoint-every 2m`);
  const ranker = join(runs, `ranker-${shortDigest([mapsKey, recipe, steps])}`);
  return train('train', ranker, steps, ['--scores', maps, ...recipe]);
}
