/** Stored score maps as a ranker learns from them: a data set of crops, each with its map. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { LtrpError, runDamaged, notFound, dataUnreadable } from '../errors.js';
import type { CoreBinding } from '../native/binding.js';
import { runJob } from '../native/job.js';
import { isRemote, joinName } from '../shards/locations.js';
import { openShardsWith, type ShardOptions } from '../shards/shard.js';
import { invalid } from '../validation.js';
import type { Complete } from './batches.js';
import { Dataset } from './dataset.js';
import type { DecodedFile } from './decoder.js';
import { ScoreStore, type StoredPicture } from './score-store.js';
import { resolveSources } from './sources.js';

/** Crops of some pictures of a store. */
export interface ScoredCrops {
  dataset: Dataset;
  /** Puts the crop and its map to a decoded picture with its digest; refuses a picture that is not the one that was scored. */
  complete: Complete;
}

export interface OpenedScores {
  store: ScoreStore;
  training: ScoredCrops;
  /** Null where all are for training. */
  validation: ScoredCrops | null;
}

interface Item {
  path: string;
  /** Identifies it wherever the pictures lie. */
  name: string;
  /** Of the file that was scored. */
  digest: string;
  /** As it was decoded. */
  height: number;
  width: number;
  /** Top, left, height, width, 1 where mirrored. */
  crop: Int32Array;
  scores: Float32Array;
}

/**
 * Reads all maps of a store.
 *
 * @param options - `data`: where the sources of the pictures lie now, in the order in which they were scored. `valShare`: share of
 *   the pictures that is held out, by a hash of the file's name, so that a copy of a picture is on the same side.
 * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND` (store, folder of pictures), `ERR_LTRP_DATA_EMPTY` (nothing to learn from),
 *   `ERR_LTRP_RUN_DAMAGED` (a shard is not there, or is no shard of this store), `ERR_LTRP_INVALID_ARGUMENT`; as reading shards.
 */
export async function openScores(
  folder: string,
  options: {
    core: CoreBinding;
    data?: readonly string[] | undefined;
    valShare: number;
    signal: AbortSignal;
  } & ShardOptions,
): Promise<OpenedScores> {
  const store = await ScoreStore.open(folder);
  const missing = store.missing();
  if (missing[0] !== undefined) {
    throw runDamaged(
      `${missing.length} of ${store.shards} shards of ${folder} are not there, ${store.shardPath(missing[0])} among them; ` +
        'repeat the ltrp score command that began it.',
    );
  }
  openShardsWith(options);
  const roots = await rootsOf(store, options.data, options);
  const parts: { training: Item[]; validation: Item[] } = { training: [], validation: [] };
  for (let shard = 0; shard < store.shards; shard++) {
    for (const item of await itemsOf(store, shard, roots, options)) {
      const isHeld = shareOfName(item.path) < options.valShare;
      parts[isHeld ? 'validation' : 'training'].push(item);
    }
  }
  if (parts.training.length === 0) {
    throw new LtrpError('ERR_LTRP_DATA_EMPTY', `${folder} has no maps to learn from.`);
  }
  const validation = parts.validation.length > 0 ? cropsOf(parts.validation) : null;
  return { store, training: cropsOf(parts.training), validation };
}

async function rootsOf(
  { manifest }: ScoreStore,
  data: readonly string[] | undefined,
  { imageColumn, rowGroupMemory, signal }: ShardOptions,
): Promise<readonly string[]> {
  if (data !== undefined) {
    const { sources } = await resolveSources(data, { imageColumn, rowGroupMemory, signal });
    if (sources.length === manifest.roots.length) return sources.map(({ root }) => root);
    throw invalid(
      `--data must name the ${manifest.roots.length} sources that were scored, in their order; got ${sources.length}.`,
    );
  }
  const gone = manifest.roots.find((root) => !isRemote(root) && !existsSync(root));
  if (gone === undefined) return manifest.roots;
  throw notFound(
    `There is no folder ${gone}, where pictures were when they were scored; name their new place with --data.`,
  );
}

async function itemsOf(
  store: ScoreStore,
  shard: number,
  roots: readonly string[],
  { core, signal }: { core: CoreBinding; signal: AbortSignal },
): Promise<Item[]> {
  const path = store.shardPath(shard);
  const read = await runJob(core, { signal }, (job) => core.readScoreShard(job, path));
  const { metadata, scores, crops, sizes } = read;
  const pictures = JSON.parse(metadata['pictures'] ?? '[]') as StoredPicture[];
  const each = store.manifest.options.crops;
  if (metadata['store'] !== store.identity || crops.length !== 5 * each * pictures.length) {
    throw runDamaged(
      `${path} is no shard of the scores in ${store.path}; remove it and repeat the ltrp score command that began them.`,
    );
  }
  const patches = scores.length / Math.max(1, each * pictures.length);
  return pictures.flatMap(([root, name, digest], i) => {
    const path = joinName(roots[root] ?? '', name);
    return Array.from({ length: each }, (_, crop): Item => {
      const row = i * each + crop;
      return {
        path,
        name: `${store.identity} ${root} ${name} ${digest} ${crop}`,
        digest,
        height: sizes[2 * i] as number,
        width: sizes[2 * i + 1] as number,
        crop: crops.subarray(5 * row, 5 * row + 5),
        scores: scores.subarray(patches * row, patches * (row + 1)),
      };
    });
  });
}

/** Uniform in [0, 1). */
function shareOfName(path: string): number {
  return createHash('sha256').update(basename(path)).digest().readUInt32BE() / 2 ** 32;
}

function cropsOf(items: readonly Item[]): ScoredCrops {
  const files = items.map(({ path }) => path);
  const names = items.map(({ name }) => name);
  return {
    dataset: new Dataset([
      { name: '', share: null, root: '', files, names, problems: new Map<string, LtrpError>() },
    ]),
    complete: (picture, index) => {
      const item = items[index] as Item;
      checkPicture(item, picture);
      const [top, left, height, width, flip] = item.crop as unknown as [
        number,
        number,
        number,
        number,
        number,
      ];
      const scored = { top, left, height, width, flip: flip === 1, scores: item.scores };
      return { ...picture, scored };
    },
  };
}

function checkPicture({ path, digest, height, width }: Item, picture: DecodedFile): void {
  const fail = (what: string): LtrpError =>
    dataUnreadable(`${path} ${what}; its maps are left out.`);
  if (picture.digest !== digest) throw fail('has changed since it was scored');
  if (picture.height !== height || picture.width !== width) {
    const now = `${picture.width} x ${picture.height}`;
    throw fail(`is decoded to ${now} pixels, and was to ${width} x ${height} when it was scored`);
  }
}
