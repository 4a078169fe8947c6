/** Training runs of the command that take seconds: a model of a few thousand weights on pictures of 96 pixels. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { ltrp, startLtrp, type Outcome } from './command.js';
import { temporaryFolder } from './paths.js';
import { picture } from './pictures.js';

export interface Entry {
  step: number;
  loss?: number | string;
  learningRate?: number;
  gradientNorm?: number | string;
  skipped?: string;
  divergedSince?: number;
  dataWait?: number;
  validation?: Record<'reconstructionError' | 'kendallTau' | 'ndcg', number | null>;
}

/** Writes `count` pictures of their own into `folder`. */
export async function writePictures(folder: string, count: number, first = 1): Promise<string> {
  await mkdir(folder, { recursive: true });
  for (let i = first; i < first + count; i++) {
    await writeFile(join(folder, `${i}.png`), await picture(96, 96, 3, i).png().toBuffer());
  }
  return folder;
}

/** A folder of its own with `count` pictures in it, and a place for a run. */
export async function photosFor(
  t: ExecutionContext,
  count = 8,
): Promise<{ folder: string; data: string; out: string }> {
  const folder = await temporaryFolder(t);
  const data = await writePictures(join(folder, 'photos'), count);
  return { folder, data, out: join(folder, 'run') };
}

/** @throws {Error} when it does not come true in time. */
export async function until(condition: () => boolean, seconds = 120): Promise<void> {
  const end = performance.now() + seconds * 1000;
  while (!condition()) {
    if (performance.now() > end) throw new Error('waited in vain');
    await sleep(5);
  }
}

/** What makes a pre-training run small. */
export const small =
  '--batch-size 2 --dim 32 --depth 1 --heads 1 --image-size 32 --threads 1 --decoder-dim 16 --decoder-depth 1 --decoder-heads 1'.split(
    ' ',
  );

/** What makes the training of a ranker small, on the teacher's image size. */
export const smallRanker = '--batch-size 2 --dim 32 --depth 1 --heads 1 --threads 1'.split(' ');

/** A small pre-training run, begun. */
export const pretrain = (data: string, out: string, ...more: string[]): Promise<Outcome> =>
  ltrp(['pretrain', '--data', data, '--out', out, ...small, ...more]);

export const resume = (out: string, ...more: string[]): Promise<Outcome> =>
  ltrp(['pretrain', '--out', out, '--resume', '--threads', '1', ...more]);

export const startPretrain = (data: string, out: string, ...more: string[]) =>
  startLtrp(['pretrain', '--data', data, '--out', out, ...small, ...more]);

/** The complete lines of the log; each must be JSON. */
export function readLog(out: string): Entry[] {
  const file = join(out, 'log.jsonl');
  if (!existsSync(file)) return [];
  return readFileSync(file, 'utf8')
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Entry);
}

export const steps = (out: string): number[] =>
  readLog(out).flatMap(({ step, loss }) => (loss === undefined ? [] : [step]));

/** What must be the same bit for bit. */
export const curve = (out: string): unknown[] =>
  readLog(out).map(({ step, loss, learningRate, gradientNorm }) => ({
    ...{ step, loss, learningRate, gradientNorm },
  }));

export const checkpoints = (out: string): string[] =>
  readdirSync(out)
    .filter((name) => name.startsWith('checkpoint-'))
    .sort();

export const checkpoint = (out: string, step: number): string =>
  join(out, `checkpoint-${String(step).padStart(9, '0')}.safetensors`);

export interface RunJson {
  settings: Record<string, unknown>;
  options: { steps: number; learningRate: number; schedule?: string; decaySteps?: number };
  data: { images: number };
  changes?: { step: number; changed: Record<string, { from: unknown; to: unknown }> }[];
}

export const runJson = (out: string): RunJson =>
  JSON.parse(readFileSync(join(out, 'run.json'), 'utf8')) as RunJson;

export const range = (first: number, last: number): number[] =>
  Array.from({ length: last - first + 1 }, (_, i) => first + i);
