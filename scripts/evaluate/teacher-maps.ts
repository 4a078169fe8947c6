/**
 * Score maps of a teacher at several numbers of rounds, in two independent halves, kept in the user's cache.
 *
 * A picture's masks depend on its pixels alone, so its maps are the same in every run and in any company. Each half is made
 * of chunks that end at a power of two, so that runs with other numbers of rounds share them.
 */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { modelDigest } from '../../lib/file-digest.js';
import { MaskedAutoencoder, type Drop, type Metric, type Precision } from '../../lib/index.js';
import { cacheFolder } from '../../lib/libtorch/folders.js';
import { resolveModel } from '../../lib/models.js';
import type { Picture } from './pictures.js';

/** How a teacher is asked. */
export interface TeacherSettings {
  maskRatio: number;
  metric: Metric;
  surprise: boolean;
  drop: Drop;
  precision: Precision;
}

/** Maps of one picture. */
export interface TeacherMaps {
  /** [L] by number of rounds: the mean of both halves. */
  mean: ReadonlyMap<number, Float64Array>;
  /** [L] by number of rounds: two independent maps of half as many. */
  halves: ReadonlyMap<number, readonly [Float64Array, Float64Array]>;
}

/** What is kept between runs. */
export const evaluateCache = (): string => join(cacheFolder(), 'evaluate');

/** Of a digest as many digits as are enough to tell models apart. */
export const shortDigest = async (path: string): Promise<string> =>
  (await modelDigest(path)).slice(0, 16);

/** Where chunks of a half end, for this number of rounds: 1, 2, 4 ... rounds / 2. */
export function chunkEnds(rounds: number): number[] {
  const ends: number[] = [];
  for (let end = 1; end <= rounds / 2; end *= 2) ends.push(end);
  return ends;
}

/** A teacher whose maps are computed once. */
export class CachedTeacher {
  /** Rounds computed, not read from the cache, and the seconds they took. */
  readonly spent = { rounds: 0, seconds: 0 };
  readonly #folder: string;
  #model: Promise<MaskedAutoencoder> | undefined;

  private constructor(
    readonly source: string,
    readonly rounds: readonly number[],
    readonly settings: TeacherSettings,
    folder: string,
  ) {
    this.#folder = folder;
  }

  /**
   * @param source - as of `MaskedAutoencoder.load`; loaded when a map is not in the cache.
   * @param rounds - powers of two, at least 2.
   * @param cache - folder of the kept maps.
   */
  static async open(
    source: string,
    rounds: readonly number[],
    settings: TeacherSettings,
    cache = evaluateCache(),
  ): Promise<CachedTeacher> {
    const digest = await shortDigest(resolveModel(source, 'mae'));
    const { maskRatio, metric, surprise, drop, precision } = settings;
    const what = surprise ? `${metric}-surprise` : metric;
    const name = `${digest}-${maskRatio}-${what}-${drop}-${precision}`;
    const folder = join(cache, 'teacher-maps', name);
    mkdirSync(folder, { recursive: true });
    return new CachedTeacher(source, rounds, settings, folder);
  }

  async maps(picture: Picture): Promise<TeacherMaps> {
    const sums = [new Float64Array(picture.patches), new Float64Array(picture.patches)] as const;
    const mean = new Map<number, Float64Array>();
    const halves = new Map<number, readonly [Float64Array, Float64Array]>();
    let done = 0;
    for (const end of chunkEnds(Math.max(...this.rounds))) {
      for (const half of [0, 1] as const) {
        const chunk = await this.#chunk(picture, half, done, end);
        for (const [i, value] of chunk.entries()) (sums[half][i] as number) += value * (end - done);
      }
      done = end;
      if (!this.rounds.includes(2 * end)) continue;
      halves.set(2 * end, [sums[0].map((sum) => sum / end), sums[1].map((sum) => sum / end)]);
      mean.set(
        2 * end,
        sums[0].map((sum, i) => (sum + (sums[1][i] as number)) / (2 * end)),
      );
    }
    return { mean, halves };
  }

  async dispose(): Promise<void> {
    (await this.#model)?.dispose();
  }

  /** [L]: the mean over the rounds from `from` to `to` of a half. */
  async #chunk(picture: Picture, half: 0 | 1, from: number, to: number): Promise<Float32Array> {
    const file = join(this.#folder, `${picture.digest}-${half}-${from}-${to}.f32`);
    try {
      const bytes = readFileSync(file);
      return new Float32Array(new Uint8Array(bytes).buffer);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
    this.#model ??= MaskedAutoencoder.load(this.source, { precision: this.settings.precision });
    const model = await this.#model;
    const { maskRatio, metric, surprise, drop } = this.settings;
    const seed = Number.parseInt(
      createHash('sha256').update(`${picture.digest} ${half} ${from}`).digest('hex').slice(0, 13),
      16,
    );
    const start = performance.now();
    const map = await model.scoreMap(picture.images, {
      rounds: to - from,
      maskRatio,
      metric,
      surprise,
      drop,
      seed,
    });
    this.spent.seconds += (performance.now() - start) / 1000;
    this.spent.rounds += to - from;
    writeFileSync(`${file}.${process.pid}`, map.mean);
    renameSync(`${file}.${process.pid}`, file);
    return map.mean;
  }
}
