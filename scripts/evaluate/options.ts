/** What is asked of `npm run evaluate -- --photographs`. */
import { join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse, UsageError } from '../../bench/command-line.js';
import { drops, metrics, precisions } from '../../lib/types.js';
import { choice } from './command.js';
import { parts } from './parts.js';
import { evaluateCache } from './teacher-maps.js';

export const help = `npm run evaluate -- --photographs FOLDER [options]

Measures rankers, teachers and plain arithmetic on real photographs: the share of object pixels in kept patches (coco), how
often a classifier that sees kept patches alone keeps its answer (imagenette, in1k), agreement with the teacher, and the
teacher's own reliability. Writes results.json, results.md and page.html; the tables also go to standard output.

  --part <name>        test (default; for published figures), validation (for choosing anything)
  --ranker <file>      a ranker, or 'tiny' (default); several times for several
  --teacher <file>     a teacher, or 'tiny' (default); several times for several; 'none' for none
  --rounds <list>      rounds of the teacher's maps, powers of two (default 2,16,64)
  --judge-rounds <list>  the same on the judge's pictures, which are more (default 2,16)
  --mask-ratio <x>     of the teacher's maps (default 0.75)
  --metric <name>      of the teacher's maps: ${metrics.join(', ')} (default l1)
  --surprise           multiplies the teacher's maps by its surprise, as ltrp score --surprise does
  --drop <name>        of the teacher's maps: ${drops.join(', ')} (default decoder)
  --precision <name>   of the teacher's maps: ${precisions.join(', ')} (default int8)
  --judge <name>       v2 (default), v1 (several times faster, often wrong), none
  --pictures <n>       of each of the judge's sets, at most (default 150)
  --fit <name>         of coco: stretch (default) makes squares, whole keeps the aspect, as ltrp rank does
  --selection          compares ways to select instead of maps: scoreShare from 0 to 1, and compat
  --quick              24 pictures of each set, 2 rounds, judge v1, unless asked otherwise
  --out <folder>       default: evaluate/<part> in the user's cache; not in the repository, for pictures are on the page
  --list               prints the photographs of --part (also: training) and measures nothing

Teachers' maps and the judge's answers are kept in the user's cache, so a second run is fast.
Without --photographs: composite scenes, see npm run evaluate -- --help.
`;

export type Options = ReturnType<typeof readOptions>;

/** Of this project. */
const repository = fileURLToPath(new URL('../../', import.meta.url));

export function readOptions(args: readonly string[]) {
  const values = parse(args, {
    photographs: { type: 'string' },
    part: { type: 'string', default: 'test' },
    ranker: { type: 'string', multiple: true, default: ['tiny'] },
    teacher: { type: 'string', multiple: true, default: ['tiny'] },
    rounds: { type: 'string' },
    'judge-rounds': { type: 'string' },
    'mask-ratio': { type: 'string', default: '0.75' },
    metric: { type: 'string', default: 'l1' },
    surprise: { type: 'boolean', default: false },
    drop: { type: 'string', default: 'decoder' },
    precision: { type: 'string', default: 'int8' },
    judge: { type: 'string' },
    pictures: { type: 'string' },
    fit: { type: 'string', default: 'stretch' },
    selection: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    out: { type: 'string' },
    list: { type: 'boolean', default: false },
  });
  const { photographs, ranker: rankers, teacher, quick, selection, list } = values;
  const part = choice('part', values.part, parts);
  if (photographs === undefined) throw new UsageError('--photographs needs a folder');
  if (part === 'training' && !list) {
    throw new UsageError(
      '--part training is trained on: nothing is measured there, only listed (--list)',
    );
  }
  const out = resolve(values.out ?? join(evaluateCache(), selection ? `${part}-selection` : part));
  if (!relative(repository, out).startsWith('..')) {
    throw new UsageError(
      `--out must not be in the repository: the page has photographs that must not be committed; ${out} is`,
    );
  }
  return {
    ...{ photographs, part, rankers, selection, out, list },
    teachers: selection || teacher.includes('none') ? [] : teacher, // selection does not look at them
    rounds: roundList('rounds', values.rounds ?? (quick ? '2' : '2,16,64')),
    judgeRounds: roundList('judge-rounds', values['judge-rounds'] ?? (quick ? '2' : '2,16')),
    teacherSettings: {
      maskRatio: positive('mask-ratio', values['mask-ratio']),
      metric: choice('metric', values.metric, metrics),
      surprise: values.surprise,
      drop: choice('drop', values.drop, drops),
      precision: choice('precision', values.precision, precisions),
    },
    judge: choice('judge', values.judge ?? (quick ? 'v1' : 'v2'), ['v1', 'v2', 'none'] as const),
    /** Of each of the judge's sets. */
    pictures: positive('pictures', values.pictures ?? (quick ? '24' : '150')),
    objectFit: choice('fit', values.fit, ['stretch', 'whole'] as const),
    /** Of coco. */
    objectPictures: quick ? 24 : Infinity,
  };
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!(value > 0)) throw new UsageError(`--${name} must be a positive number, not ${text}`);
  return value;
}

function roundList(name: string, text: string): number[] {
  const rounds = text.split(',').map(Number);
  if (!rounds.every((each) => each >= 2 && Number.isInteger(Math.log2(each)))) {
    throw new UsageError(`--${name} must be powers of two from 2, such as 2,16,64; not ${text}`);
  }
  return [...new Set(rounds)].sort((a, b) => a - b);
}
