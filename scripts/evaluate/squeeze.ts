/**
 * `npm run evaluate -- --squeeze FOLDER`: bytes of `ltrp squeeze` and of plain encoding at lower quality, at equal agreement of the judge.
 * One encoder with the same settings makes both; the source file is a third.
 */
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { parseArgs } from 'node:util';
import { PatchRanker, rankFiles } from '../../lib/index.js';
import { decodePicture } from '../../lib/images.js';
import { decodeToSoften, encodePicture, soften } from '../../lib/pictures/soften.js';
import {
  squeezeFills,
  squeezeFormats,
  type SqueezeFill,
  type SqueezeFormat,
} from '../../lib/types.js';
import { loadSharp } from '../../lib/sharp.js';
import { hasRuntime, Judge } from './judge.js';
import { parts, photographsOf, type Part } from './parts.js';
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

const { values } = parseArgs({
  options: {
    squeeze: { type: 'string' },
    format: { type: 'string', default: 'jpeg' },
    fill: { type: 'string', default: 'flat' },
    keep: { type: 'string', default: '0.75,0.5,0.25' },
    part: { type: 'string', default: 'test' },
    pictures: { type: 'string', default: '100' },
    help: { type: 'boolean' },
  },
});

/** One way to store a picture: a share of the patches (1: plain), a quality. */
interface Arm {
  keep: number;
  quality: number;
  bytes: number;
  agreed: number;
}

if (values.help === true) process.stdout.write(help);
else process.exitCode = await main();

async function main(): Promise<number> {
  const folder = values.squeeze ?? '';
  const shares = values.keep.split(',').map(Number);
  const model = join(folder, 'judge', 'mobilenet_v2_1.0_224.onnx');
  const known =
    (squeezeFormats as readonly string[]).includes(values.format) &&
    (squeezeFills as readonly string[]).includes(values.fill) &&
    (parts as readonly string[]).includes(values.part) &&
    shares.every((share) => share > 0 && share < 1);
  if (!known || !hasRuntime()) {
    process.stderr.write(known ? 'evaluate: the judge needs onnxruntime-node\n' : help);
    return 2;
  }
  const paths = photographsOf(folder, 'in1k', values.part as Part).slice(
    0,
    Number(values.pictures),
  );
  if (paths.length === 0) {
    process.stderr.write(`evaluate: ${folder} has no in1k with pictures of this part\n`);
    return 1;
  }
  const judge = await Judge.open(model);
  const ranker = await PatchRanker.load('tiny');
  const arms: Arm[] = [1, ...shares].flatMap((keep) =>
    qualities.map((quality) => ({ keep, quality, bytes: 0, agreed: 0 })),
  );
  let source = 0;
  for (const [done, path] of paths.entries()) {
    source += await measure(path, arms, judge, ranker);
    if (done % 10 === 9) process.stderr.write(`evaluate: ${done + 1} of ${paths.length}\n`);
  }
  ranker.dispose();
  process.stdout.write(tables(arms, shares, paths.length, source));
  return 0;
}

/** Adds one picture to all arms; bytes of its source. */
async function measure(
  path: string,
  arms: Arm[],
  judge: Judge,
  ranker: PatchRanker,
): Promise<number> {
  const sharp = await loadSharp();
  const bytes = await readFile(path);
  const answer = async (file: Uint8Array): Promise<number> => {
    const { pixels } = await decodePicture(file, { size: [224, 224], fit: 'crop' });
    const [best = -1] = await judge.answers(pictureOf(basename(path), pixels, 224, 16), ['whole']);
    return best;
  };
  const wanted = await answer(bytes);
  const picture = await decodeToSoften(bytes, basename(path));
  const fill = values.fill as SqueezeFill;
  for (const keep of new Set(arms.map((arm) => arm.keep))) {
    let pixels = picture;
    if (keep < 1) {
      for await (const ranked of rankFiles([bytes], { ranker, keepRatio: keep })) {
        if (!ranked.ok) throw ranked.error;
        pixels = await soften(sharp, picture, { grid: ranked.grid, kept: ranked.kept, fill });
      }
    }
    for (const arm of arms.filter((each) => each.keep === keep)) {
      const file = await encodePicture(sharp, pixels, values.format as SqueezeFormat, arm.quality);
      arm.bytes += file.length;
      if ((await answer(file)) === wanted) arm.agreed++;
    }
  }
  return bytes.length;
}

function tables(
  arms: readonly Arm[],
  shares: readonly number[],
  count: number,
  source: number,
): string {
  const kilobytes = (bytes: number): string => (bytes / count / 1000).toFixed(1);
  const points = (keeps: readonly number[]): Point[] =>
    arms
      .filter(({ keep }) => keeps.includes(keep))
      .map(({ bytes, agreed }) => ({ bytes: bytes / count, agreement: agreed / count }));
  const name = (keep: number): string => (keep === 1 ? 'plain' : `keep ${keep * 100}%`);
  const all = [1, ...shares];
  const lines = [
    `${count} photographs, ${values.format}, ${values.fill}: kB a picture / agreement with the judge's answer on the source (source files: ${kilobytes(source)} kB)`,
    '',
    `| quality | ${all.map(name).join(' | ')} |`,
    `| --: |${' --: |'.repeat(all.length)}`,
    ...qualities.map(
      (quality) =>
        `| ${quality} | ${all
          .map((keep) => arms.find((arm) => arm.keep === keep && arm.quality === quality))
          .map(
            (arm) =>
              `${kilobytes(arm?.bytes ?? NaN)} / ${(((arm?.agreed ?? NaN) / count) * 100).toFixed(0)}%`,
          )
          .join(' | ')} |`,
    ),
    '',
    '| agreement | plain, kB | best squeeze, kB | saved |',
    '| --: | --: | --: | --: |',
  ];
  const [plain, squeezed] = [curveOf(points([1])), curveOf(points(shares))];
  for (const level of levels) {
    const [a, b] = [bytesAt(plain, level), bytesAt(squeezed, level)];
    const text = (bytes: number | null): string =>
      bytes === null ? 'never' : (bytes / 1000).toFixed(1);
    const saved = a === null || b === null ? '' : `${((1 - b / a) * 100).toFixed(0)}%`;
    lines.push(`| ${level * 100}% | ${text(a)} | ${text(b)} | ${saved} |`);
  }
  return `${lines.join('\n')}\n`;
}
