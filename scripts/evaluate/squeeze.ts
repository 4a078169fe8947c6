/**
 * `npm run evaluate -- --squeeze FOLDER`: bytes of `ltrp squeeze` and of plain encoding at lower quality, at equal agreement of the judge.
 * One encoder with the same settings makes both; the source file is a third.
 */
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { integer, parse, program, UsageError } from '../../bench/command-line.js';
import { table } from '../../bench/report/tables.js';
import { PatchRanker, rankFiles } from '../../lib/index.js';
import { decodePicture } from '../../lib/images.js';
import { decodeToSoften, encodePicture, soften } from '../../lib/pictures/soften.js';
import { squeezeFills, squeezeFormats } from '../../lib/types.js';
import { loadSharp } from '../../lib/sharp.js';
import { choice, sample, say } from './command.js';
import { hasRuntime, Judge } from './judge.js';
import { photographsOf } from './parts.js';
import { pictureOf } from './pictures.js';
import { bytesAt, curveOf, type Point } from './squeeze-curve.js';

const help = `npm run evaluate -- --squeeze FOLDER [options]

Compares, on real photographs (in1k), the bytes of squeezed pictures with those of plain encoding at lower quality, where a classifier
agrees as often with its answer on the source.

  --format <name>    jpeg (default), webp, avif
  --fill <name>      flat (default), blur
  --keep <list>      shares of the patches (default 0.75,0.5,0.25)
  --part <name>      test (default), validation
  --pictures <n>     at most (default 100)
`;

const qualities = [95, 85, 75, 65, 55, 45, 35, 25, 15, 10, 5];
const levels = [0.95, 0.9, 0.85, 0.8, 0.7];

/** One way to store a picture: a share of the patches (1: plain), a quality. */
interface Arm {
  keep: number;
  quality: number;
  bytes: number;
  agreed: number;
}

await program('evaluate', help, async (args) => {
  const options = readOptions(args);
  const { folder, shares } = options;
  if (!hasRuntime()) throw new UsageError('the judge needs onnxruntime-node');
  const paths = sample(photographsOf(folder, 'in1k', options.part), options.pictures);
  if (paths.length === 0) throw new UsageError(`${folder} has no in1k with pictures of this part`);
  const judge = await Judge.open(join(folder, 'judge', 'mobilenet_v2_1.0_224.onnx'));
  await using ranker = await PatchRanker.load('tiny');
  const arms: Arm[] = [1, ...shares].flatMap((keep) =>
    qualities.map((quality) => ({ keep, quality, bytes: 0, agreed: 0 })),
  );
  let source = 0;
  for (const [done, path] of paths.entries()) {
    source += await measure(path, arms, judge, ranker, options);
    if (done % 10 === 9) say(`${done + 1} of ${paths.length}`);
  }
  process.stdout.write(tables(arms, options, paths.length, source));
});

type Options = ReturnType<typeof readOptions>;

function readOptions(args: readonly string[]) {
  const values = parse(args, {
    squeeze: { type: 'string' },
    format: { type: 'string', default: 'jpeg' },
    fill: { type: 'string', default: 'flat' },
    keep: { type: 'string', default: '0.75,0.5,0.25' },
    part: { type: 'string', default: 'test' },
    pictures: { type: 'string', default: '100' },
  });
  const shares = values.keep.split(',').map(Number);
  if (!shares.every((share) => share > 0 && share < 1))
    throw new UsageError(`--keep must be shares such as 0.75,0.5; not ${values.keep}`);
  return {
    shares,
    folder: values.squeeze ?? '',
    format: choice('format', values.format, squeezeFormats),
    fill: choice('fill', values.fill, squeezeFills),
    part: choice('part', values.part, ['test', 'validation'] as const),
    pictures: integer('pictures', values.pictures, 1),
  };
}

/** Adds one picture to all arms; bytes of its source. */
async function measure(
  path: string,
  arms: Arm[],
  judge: Judge,
  ranker: PatchRanker,
  { format, fill }: Options,
): Promise<number> {
  const sharp = await loadSharp();
  const bytes = await readFile(path);
  const answer = async (file: Uint8Array): Promise<number> => {
    const { pixels } = await decodePicture(file, { size: [224, 224], fit: 'crop' });
    const [best = -1] = await judge.answers(
      pictureOf(basename(path), pixels, { height: 224, width: 224, patch: 16 }),
      ['whole'],
    );
    return best;
  };
  const wanted = await answer(bytes);
  const picture = await decodeToSoften(bytes, basename(path));
  for (const keep of new Set(arms.map((arm) => arm.keep))) {
    let pixels = picture;
    if (keep < 1) {
      for await (const ranked of rankFiles([bytes], { ranker, keepRatio: keep })) {
        if (!ranked.ok) throw ranked.error;
        pixels = await soften(sharp, picture, { grid: ranked.grid, kept: ranked.kept, fill });
      }
    }
    for (const arm of arms.filter((each) => each.keep === keep)) {
      const file = await encodePicture(sharp, pixels, format, arm.quality);
      arm.bytes += file.length;
      if ((await answer(file)) === wanted) arm.agreed++;
    }
  }
  return bytes.length;
}

function tables(
  arms: readonly Arm[],
  { shares, format, fill }: Options,
  count: number,
  source: number,
): string {
  const kilobytes = (bytes: number): string => (bytes / count / 1000).toFixed(1);
  const points = (keeps: readonly number[]): Point[] =>
    arms
      .filter(({ keep }) => keeps.includes(keep))
      .map(({ bytes, agreed }) => ({ bytes: bytes / count, agreement: agreed / count }));
  const all = [1, ...shares];
  const cell = (keep: number, quality: number): string => {
    const arm = arms.find((each) => each.keep === keep && each.quality === quality);
    if (arm === undefined) return '';
    return `${kilobytes(arm.bytes)} / ${((arm.agreed / count) * 100).toFixed(0)}%`;
  };
  const [plain, squeezed] = [curveOf(points([1])), curveOf(points(shares))];
  const text = (bytes: number | null): string =>
    bytes === null ? 'never' : (bytes / 1000).toFixed(1);
  return `${[
    `${count} photographs, ${format}, ${fill}: kB a picture / agreement with the judge's answer on the source (source files: ${kilobytes(source)} kB)`,
    table(
      ['quality', ...all.map((keep) => (keep === 1 ? 'plain' : `keep ${keep * 100}%`))],
      qualities.map((quality) => [String(quality), ...all.map((keep) => cell(keep, quality))]),
    ),
    table(
      ['agreement', 'plain, kB', 'best squeeze, kB', 'saved'],
      levels.map((level) => {
        const [a, b] = [bytesAt(plain, level), bytesAt(squeezed, level)];
        const saved = a === null || b === null ? '' : `${((1 - b / a) * 100).toFixed(0)}%`;
        return [`${level * 100}%`, text(a), text(b), saved];
      }),
    ),
  ].join('\n\n')}\n`;
}
