/** `ltrp score --store`: score maps of a data set, for rankers to learn from. */
import { availableParallelism } from 'node:os';
import { resolve } from 'node:path';
import { Dataset } from '../data/dataset.js';
import { ScoreStore } from '../data/score-store.js';
import { resolveSources } from '../data/sources.js';
import { modelDigest } from '../file-digest.js';
import { loadModel, locateModel } from '../models.js';
import type { NativeStoreOptions } from '../native/binding.js';
import { packageVersion } from '../native/paths.js';
import { toldOnce } from '../shards/shard.js';
import { storeScores } from '../training/store-scores.js';
import { invalid } from '../validation.js';
import { complain } from './image-command.js';
import { interruptionBy, interruptSignal } from './interrupt.js';
import { sayNotes } from './notes.js';
import type { ImageSettings } from './options.js';
import { duration, everyTenSeconds } from './training-progress.js';

export interface StoreSettings
  extends NativeStoreOptions, Omit<ImageSettings, 'out' | 'json' | 'grid' | 'patches'> {
  store: string;
  shard: number;
  maxUnreadable: number;
}

/** Returns the exit code. */
export async function storeCommand(
  names: readonly string[],
  settings: StoreSettings,
): Promise<number> {
  const signal = interruptSignal();
  const { model, device, precision = 'float32', libtorch } = settings;
  const { imageColumn, rowGroupMemory } = settings;
  const shards = { imageColumn, rowGroupMemory, signal };
  const { sources, passedOver, damage, lost } = await resolveSources(names, shards);
  for (const sentence of [...passedOver, ...damage]) complain(sentence);
  const shared = sources.find(({ share }) => share !== null);
  if (shared !== undefined) {
    throw invalid(
      `${shared.name} must be named without a share: every picture is scored as often.`,
    );
  }
  const dataset = new Dataset(sources);
  const path = await locateModel(model, 'mae', { signal });
  const { core, native } = await loadModel('mae', path, { device, precision, libtorch, signal });
  sayNotes(native.notes);
  try {
    const { imageHeight, imageWidth, patchSize, mean, std } = native.config;
    const { crops, cropScale, flip, rounds, maskRatio, drop, metric, surprise, seed } = settings;
    const store = await ScoreStore.begin(
      resolve(settings.store),
      {
        format: 'ltrp-scores-1',
        version: packageVersion(),
        teacher: await modelDigest(path),
        model: { imageHeight, imageWidth, patchSize, mean, std },
        precision,
        options: { crops, cropScale, flip, rounds, maskRatio, drop, metric, surprise, seed },
        decodeSize: 2 * Math.max(imageHeight, imageWidth), // as `ltrp train` has it
        data: { digest: dataset.digest, images: dataset.size },
        shardPictures: settings.shard,
        roots: sources.map(({ root }) => root),
      },
      signal,
    );
    const missing = store.missing().length;
    complain(
      `${dataset.size} images, ${crops} crops each; ${missing} of ${store.shards} shards are missing: ${store.path}`,
    );
    const begin = performance.now();
    const seconds = (): number => (performance.now() - begin) / 1000;
    const isDue = everyTenSeconds();
    const result = await storeScores({
      core,
      teacher: native,
      store,
      sources,
      concurrency: Math.max(1, Math.min(8, availableParallelism() - 1)),
      maxUnreadable: settings.maxUnreadable,
      signal,
      onProgress: (shard, done, total) => {
        if (isDue()) complain(`shard ${shard + 1} of ${store.shards}: ${done} of ${total} maps`);
      },
      onUnreadable: (path, error) => {
        const line = toldOnce(path, error);
        if (line !== undefined) complain(`skipped: ${line}`);
      },
      onNotice: complain,
    });
    const rate = (result.maps / seconds()).toPrecision(3);
    const unreadable = result.unreadable > 0 ? `, ${result.unreadable} unreadable images` : '';
    const records = lost > 0 ? `, ${lost} records lost` : '';
    process.stdout.write(
      `${result.shards} shards with ${result.maps} maps in ${duration(seconds())} (${rate} maps/s)${unreadable}${records}\n` +
        `scores: ${store.path}\n`,
    );
    return 0;
  } catch (error) {
    const stopped = interruptionBy(error);
    if (stopped === undefined) throw error;
    complain(
      `${stopped.word}; finished shards stay, and the same command continues with the others.`,
    );
    return stopped.exitCode;
  } finally {
    native.dispose();
  }
}
