/** `ltrp rank --store` and `ltrp score --parts`: results of many pictures in parts, by as many processes as one likes. */
import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import { InvalidArgumentError, type Command } from 'commander';
import { PictureFinder } from '../data/picture-files.js';
import { nothingFound } from '../data/sources.js';
import { LtrpError, toLtrpError, type LtrpErrorCode } from '../errors.js';
import { modelDigest } from '../file-digest.js';
import { locateModel, type ModelKind } from '../models.js';
import { packageVersion } from '../native/paths.js';
import { toldOnce } from '../shards/shard.js';
import { doParts } from '../shared-parts.js';
import { defaultParts, partPictures, unitsOf } from '../store/division.js';
import { ResultStore, type ResultKind } from '../store/manifest.js';
import type { ResultRow } from '../store/rows.js';
import { invalid } from '../validation.js';
import { exitCodes } from './exit-codes.js';
import { printable } from './image-arguments.js';
import { complain, errorLine } from './image-command.js';
import { interruptionBy, interruptSignal } from './interrupt.js';
import { addOptions, option, parseInteger, type ImageSettings } from './options.js';
import { shardsOf } from './results.js';
import { duration, everyTenSeconds } from './training-progress.js';

/** Values of {@link addPartOptions}. */
export interface PartSettings {
  part?: PartNumber;
  parts?: number;
}

interface PartNumber {
  /** From 1. */
  number: number;
  of: number;
}

const mostParts = 1_000_000;

export function addPartOptions(command: Command): void {
  addOptions(command, [
    option(
      '--part <n/N>',
      'with --store: only the n-th of N parts; by default an array index of Slurm or Kubernetes decides, else all that are missing are written',
    ).argParser(parsePart),
    option(
      '--parts <count>',
      'with --store: parts of the results (default: those of the store, or one for each GB of shards)',
    ).argParser(parseInteger(1, mostParts)),
  ]);
}

function parsePart(text: string): PartNumber {
  const match = /^(\d{1,7})\/(\d{1,7})$/.exec(text.trim());
  const [number, of] = [Number(match?.[1]), Number(match?.[2])];
  if (!(number >= 1 && number <= of && of <= mostParts)) {
    throw new InvalidArgumentError('It must be n/N with 1 <= n <= N, for example 3/128.');
  }
  return { number, of };
}

/** Array indexes that say which part a process is to do, from 0. */
const indexVariables = ['JOB_COMPLETION_INDEX', 'SLURM_ARRAY_TASK_ID'] as const;

/** The part that was asked for, from 0, or that an array's index names; undefined: all. */
function chosenPart(
  { part }: PartSettings,
  parts: number,
  env: NodeJS.ProcessEnv = process.env,
): number | undefined {
  if (part !== undefined) return part.number - 1;
  const name = indexVariables.find((variable) => (env[variable] ?? '') !== '');
  if (name === undefined) return undefined;
  const index = Number(/^\d+$/.test(env[name] ?? '') ? env[name] : NaN);
  if (!(index < parts)) {
    throw invalid(
      `${name} is ${env[name] ?? ''}, and the results have ${parts} parts: the indexes must be 0 to ${parts - 1}, as of an array 0-${parts - 1}.`,
    );
  }
  complain(`part ${index + 1} of ${parts}, by ${name}`);
  return index;
}

/** What becomes of a picture, without what all rows have. */
export type StoredResult = Omit<ResultRow, 'image' | 'problem'>;

export interface ResultRun {
  kind: ResultKind;
  modelKind: ModelKind;
  /** All that the results depend on. */
  options: Record<string, unknown>;
  /** Loads the model; called once. */
  load: () => Promise<{
    /** The results of pictures in their order, or why there is none. */
    run: (files: readonly string[], signal: AbortSignal) => AsyncIterable<StoredResult | LtrpError>;
    dispose: () => void;
  }>;
}

/** Faults of the picture itself, which are its result. All others may be gone at the next attempt. */
const lasting: readonly LtrpErrorCode[] = [
  'ERR_LTRP_IMAGE_NOT_FOUND',
  'ERR_LTRP_IMAGE_DECODE',
  'ERR_LTRP_IMAGE_SIZE',
  'ERR_LTRP_NOT_FINITE',
];

/** A store's other content will be the same at the next attempt. */
const settled: readonly LtrpErrorCode[] = [
  'ERR_LTRP_RUN_CONFLICT',
  'ERR_LTRP_DATA_EMPTY',
  'ERR_LTRP_FILE_NOT_FOUND',
];

interface Summary {
  parts: number;
  images: number;
  unreadable: number;
  lost: number;
}

/** Returns the exit code: 2 for what another attempt would not mend. */
export async function storeResults(
  names: readonly string[],
  settings: ImageSettings & PartSettings & { store: string },
  run: ResultRun,
): Promise<number> {
  try {
    return await new Storing(settings, run).all(names);
  } catch (error) {
    const stopped = interruptionBy(error);
    if (stopped !== undefined) {
      complain(
        `${stopped.word}; finished parts stay, and the same command continues with the others.`,
      );
      return stopped.exitCode;
    }
    if (!settled.includes(toLtrpError(error).code)) throw error;
    complain(printable(errorLine(error)));
    return exitCodes.usage;
  }
}

class Storing {
  readonly #settings: ImageSettings & PartSettings & { store: string };
  readonly #run: ResultRun;
  readonly #signal = interruptSignal();
  readonly #summary: Summary = { parts: 0, images: 0, unreadable: 0, lost: 0 };
  readonly #damage = new Set<string>();
  #model: ReturnType<ResultRun['load']> | undefined;
  readonly #isDue = everyTenSeconds();

  constructor(settings: ImageSettings & PartSettings & { store: string }, run: ResultRun) {
    [this.#settings, this.#run] = [settings, run];
  }

  async all(names: readonly string[]): Promise<number> {
    const begin = performance.now();
    const files = await this.#files(names);
    const store = await this.#begin(files);
    const { removeLeftovers } = await import('../store/part-file.js');
    await removeLeftovers(store.path);
    const only = chosenPart(this.#settings, store.manifest.parts);
    try {
      if (only === undefined) await this.#missing(store, files);
      else if (store.has(only)) complain(`part ${only + 1} of ${store.manifest.parts} is there`);
      else await this.#write(store, files, only);
    } finally {
      await this.#model?.then(
        ({ dispose }) => dispose(),
        () => undefined,
      );
    }
    const seconds = (performance.now() - begin) / 1000;
    const { parts, images, unreadable, lost } = this.#summary;
    const left = store.missing().length;
    if (this.#settings.json === true) {
      process.stdout.write(
        `${JSON.stringify({ store: store.path, parts, images, unreadable, lost, missing: left, seconds })}\n`,
      );
      return exitCodes.ok;
    }
    const problems = [
      ...(unreadable > 0 ? [`, ${unreadable} unreadable images`] : []),
      ...(lost > 0 ? [`, ${lost} records lost`] : []),
    ].join('');
    const rate = (images / seconds).toPrecision(3);
    process.stdout.write(
      `${parts} parts with ${images} images in ${duration(seconds)} (${rate} images/s)${problems}; ${left} of ${store.manifest.parts} parts are missing\n` +
        `results: ${store.path}\n`,
    );
    return exitCodes.ok;
  }

  /** Pictures and closed shards, as they are named. */
  async #files(names: readonly string[]): Promise<string[]> {
    const finder = new PictureFinder(undefined, 'closed');
    const files: string[] = [];
    for (const name of names) {
      const found = await finder.find(name);
      if (found.files.length === 0 && found.repeated === 0) {
        throw new LtrpError('ERR_LTRP_DATA_EMPTY', nothingFound(name, found, finder));
      }
      for (const { path, problem } of found.files) {
        if (found.kind === 'missing' && problem !== undefined) throw problem;
        files.push(path);
      }
    }
    for (const sentence of finder.passedOver.sentences) complain(printable(sentence));
    return files;
  }

  async #begin(files: readonly string[]): Promise<ResultStore> {
    const { store, model, part, parts = part?.of } = this.#settings;
    if (part !== undefined && parts !== part.of) {
      throw invalid(`--part is one of ${part.of}, and --parts says ${parts ?? ''}.`);
    }
    const { kind, modelKind, options } = this.#run;
    const hash = createHash('sha256');
    // A query may hold a signature, which is another one each time.
    for (const file of files) hash.update(`${file.replace(/^(https?:[^?#]*).*/, '$1')}\0`);
    const wanted = {
      format: 'ltrp-results-1' as const,
      kind,
      version: packageVersion(),
      model: await modelDigest(await locateModel(model, modelKind, { signal: this.#signal })),
      options,
      names: hash.digest('hex'),
      parts,
    };
    return ResultStore.begin(
      resolve(store),
      wanted,
      async () => {
        const data = await unitsOf(files, this.#signal);
        return { data, parts: parts ?? defaultParts(data) };
      },
      this.#signal,
    );
  }

  async #missing(store: ResultStore, files: readonly string[]): Promise<void> {
    const missing = store.missing();
    complain(`${missing.length} of ${store.manifest.parts} parts are missing: ${store.path}`);
    await doParts({
      parts: missing,
      folder: store.path,
      isDone: (part) => store.has(part),
      lockPath: (part) => store.lockPath(part),
      work: (part) => this.#write(store, files, part),
      onWait: (part, holder) => complain(`waiting for part ${part + 1}, which ${holder} writes`),
      signal: this.#signal,
    });
  }

  async #write(store: ResultStore, files: readonly string[], part: number): Promise<void> {
    const { kind, parts, data, model } = store.manifest;
    const signal = this.#signal;
    const shards = { ...shardsOf(this.#settings), signal };
    const pictures = await partPictures(files, data, { part, parts }, shards);
    for (const { line, records } of pictures.damage) {
      if (this.#damage.has(line)) continue;
      this.#damage.add(line);
      complain(printable(line));
      this.#summary.lost += records;
    }
    this.#model ??= this.#run.load();
    const { run } = await this.#model;
    const mark = { store: store.identity, kind, part, parts };
    const path = store.partPath(part);
    const { PartFile } = await import('../store/part-file.js');
    const file = await PartFile.create(path, mark, { model, version: packageVersion() });
    let [done, unreadable] = [0, 0];
    try {
      for await (const result of run(pictures.files, signal)) {
        const image = pictures.files[done++] as string;
        if (result instanceof LtrpError) {
          if (!lasting.includes(result.code)) throw result;
          unreadable++;
          this.#complain(image, result);
          await file.add({ ...none, image, problem: errorLine(result) });
        } else {
          await file.add({ ...result, image, problem: null });
        }
        if (this.#isDue())
          complain(`part ${part + 1} of ${parts}: ${done} of ${pictures.files.length} images`);
      }
      signal.throwIfAborted();
      if (!(await file.commit())) {
        complain(`part ${part + 1} of ${parts} was written by another process meanwhile`);
        return;
      }
    } finally {
      await file.discard();
    }
    this.#summary.parts++;
    this.#summary.images += done;
    this.#summary.unreadable += unreadable;
  }

  #complain(image: string, error: LtrpError): void {
    const line = toldOnce(image, error, errorLine(error));
    if (line !== undefined) complain(printable(line));
  }
}

const none: StoredResult = { width: null, height: null, rows: null, columns: null };
