import { described } from '../described.js';
import { LtrpError, toLtrpError } from '../errors.js';
import { checkSize, decodePicture } from '../images.js';
import { PatchRanker } from '../patch-ranker.js';
import { pathOrBytes, sourceName, type PictureSource } from '../pictures/bytes.js';
import { readGrid, type PatchGrid } from '../patch-grid.js';
import { words, priors, type LoadOptions, type Prior, type RankerConfig } from '../types.js';
import {
  checkChoice,
  checkInteger,
  checkOptions,
  checkShare,
  checkSource,
  invalid,
  readFields,
  reading,
} from '../validation.js';
import { loadSharp } from '../sharp.js';
import { decodeWholePicture } from '../whole-picture.js';
import { mapOrdered, type OrderedOptions } from './ordered.js';
import type { Ranks } from './rank-together.js';
import { RankingQueue, type QueuedPicture } from './ranking-queue.js';

export type { PictureSource } from '../pictures/bytes.js';

/** A picture with a name. It may have more fields; the result's `source` is the object itself. */
export interface NamedPicture {
  /** The picture's name in the result and in messages. Default: its path, or the position of the buffer. */
  readonly name?: string | undefined;
  /** A path, a `file:` URL, or the bytes of an image file, which are read when the source yields them. */
  readonly picture: PictureSource;
}

/** Options of {@link rankFiles}. */
export interface RankFilesOptions extends LoadOptions {
  /**
   * A loaded {@link PatchRanker}, which stays yours: it is not disposed. Or what {@link PatchRanker.load} takes: `'tiny'` or a
   * path; that ranker is loaded when the iteration begins, with `device`, `precision` and `libtorch`, and disposed at its end.
   * Default `'tiny'`.
   */
  ranker?: PatchRanker | string | undefined;
  /**
   * `'whole'` (default): the whole picture, cut into about as many patches as the model was made for, in the arrangement that
   * distorts them least. `'crop'` and `'stretch'`: fitted to `size` as {@link readImages} does it. Rankers with a head of
   * type `'cls'` have one grid, to which `'whole'` stretches.
   */
  fit?: 'whole' | 'crop' | 'stretch' | undefined;
  /**
   * For `'crop'` and `'stretch'`. Pixels, multiples of the model's patch size: one number for squares, or `[height, width]`.
   * Default: the size the model was made for.
   */
  size?: number | readonly [height: number, width: number] | undefined;
  /** For `'whole'`: about this many patches, an integer in [2, 65536]. Default: as many as the model was made for. */
  patches?: number | undefined;
  /** For `'whole'`: this many rows and columns of patches whatever the aspect, at most 65536 patches. Default: by the aspect. */
  grid?: PatchGrid | undefined;
  /** Patches to keep of each picture, at most: at least 1; a picture with fewer patches keeps all of them. Only one of `keep` and `keepRatio`; default: none are chosen. */
  keep?: number | undefined;
  /** Share of the patches to keep, in (0, 1]; the number is rounded, and at least 1. Only one of `keep` and `keepRatio`. */
  keepRatio?: number | undefined;
  /** Share of the kept patches, in [0, 1], that the logit alone chooses; the rest adds diversity. Default 1. */
  scoreShare?: number | undefined;
  /** `'centre'`: ranks by logit and by nearness to the centre, summed, as {@link PatchRanker.rank}. Default `'none'`. */
  prior?: Prior | undefined;
  /** Integer in [0, 2^53) that breaks ties when patches are chosen for diversity. Default 0. */
  seed?: number | undefined;
  /**
   * Pictures of one size that are ranked together, at most: an integer in [1, 1024]. Default: twice the processors, at least 8;
   * fewer of large pictures (4 million pixels in all).
   */
  batchSize?: number | undefined;
  /** Pictures that are decoded at the same time, at most: an integer in [1, 1024]. Default: the processors and one, at least 4. */
  decoders?: number | undefined;
  /**
   * Pictures pulled from the source whose results have not been taken yet, at most: an integer in [1, 65536]. This bounds the
   * memory, and is how far the source is read ahead of you. Default: four batches.
   */
  ahead?: number | undefined;
  /** Stops everything; the iteration throws the signal's reason. Without it, only leaving the loop stops the work. */
  signal?: AbortSignal | undefined;
}

const rankFilesKeys = words<keyof RankFilesOptions>()(
  'device precision libtorch weights signal onProgress ranker fit size patches grid keep keepRatio scoreShare prior seed batchSize decoders ahead',
);

/** A picture that was ranked. */
export interface RankedFile<Source = PictureSource> {
  /** It was ranked. */
  readonly ok: true;
  /** Place in the source, from 0. */
  readonly index: number;
  /** The path, the name given, or the position of the buffer. */
  readonly name: string;
  /** The source's item itself. */
  readonly source: Source;
  /** Pixels of the picture, after its EXIF rotation. */
  readonly width: number;
  /** Pixels of the picture, after its EXIF rotation. */
  readonly height: number;
  /** Rows and columns of patches. {@link patchBoxes} says where they are (not with fit `'crop'`, which leaves out the edges). */
  readonly grid: PatchGrid;
  /** [L] in raster order; larger ranks higher. With `prior`: combined scores. */
  readonly logits: Float32Array;
  /** `[keep]`: ids of the patches to keep, ascending. Empty without `keep` and `keepRatio`. */
  readonly kept: Int32Array;
}

/** A picture that could not be ranked. The others go on. */
export interface FailedFile<Source = PictureSource> {
  /** It was not. */
  readonly ok: false;
  /** Place in the source, from 0. */
  readonly index: number;
  /** The path, the name given, or the position of the buffer. */
  readonly name: string;
  /** The source's item itself. */
  readonly source: Source;
  /** Why: `ERR_LTRP_IMAGE_NOT_FOUND`, `ERR_LTRP_IMAGE_DECODE`, `ERR_LTRP_IMAGE_SIZE`, `ERR_LTRP_OUT_OF_MEMORY`, … */
  readonly error: LtrpError;
}

/** One result of {@link rankFiles}; `ok` tells which. */
export type RankFilesResult<Source = PictureSource> = RankedFile<Source> | FailedFile<Source>;

/**
 * Ranks the patches of a stream of pictures: the next ones are read and decoded, and those of one size put together, while a
 * batch is computed. One result for each picture, in the order of the source.
 *
 * - **Memory is bounded.** At most `ahead` pictures are pulled from the source before you take their results. `decoders` of them
 *   are decoded at a time, within the memory limit of {@link readImages}, and two batches are with the compute thread. A decoded
 *   picture takes 3 bytes a pixel of the ranked size (150 KB at 224 x 224), in a batch 6 more. The source is read no faster
 *   than you take results, and not before you ask for the first.
 * - **A picture's result is its own**: its logits and kept patches have the same bits whatever the other pictures of its batch, the
 *   timing, `batchSize`, `decoders` and number of threads.
 * - **A bad picture is a result** (`ok: false`, with its error); the others go on.
 * - **It ends** with the source; with the source's error, after all earlier results; with the signal's reason; or when you leave
 *   the loop. The source is then closed (its `return()` is called), and decoding and computing have stopped before the loop is
 *   left. A source that is still producing its next item is told, but not waited for.
 *
 * An error that does not concern one picture ends the iteration too: a ranker that cannot be loaded, or was
 * disposed; sharp, when it cannot be loaded.
 *
 * @param source - paths, `file:` URLs, bytes of image files, or objects `{ picture, name }`; any iterable: an array, a
 *   generator, a stream of objects.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` at the call for wrong options; while iterating, what loading a ranker
 *   reports, `ERR_LTRP_SHARP_LOAD` and `ERR_LTRP_DISPOSED`.
 *
 * @example
 * ```ts
 * for await (const result of rankFiles(['cat.jpg', 'dog.jpg'], { keepRatio: 0.5 })) {
 *   if (result.ok) console.log(result.name, result.kept.length);
 *   else console.error(result.error.message);
 * }
 * ```
 */
export function rankFiles<Source extends PictureSource | NamedPicture>(
  source: Iterable<Source> | AsyncIterable<Source>,
  options?: RankFilesOptions,
): AsyncGenerator<RankFilesResult<Source>, void, undefined> {
  const checked = check(source, options);
  const { ranker: given = 'tiny', batchSize = RankingQueue.fullBatch, signal } = checked;
  const { keep, keepRatio, scoreShare, prior, seed = 0, decoders } = checked;
  let own: PatchRanker | undefined;
  let queue: RankingQueue;
  let decode: Decode;
  const ordered: OrderedOptions = {
    ahead: checked.ahead ?? 1, // until the model tells how large its pictures are
    signal,
    before: async (stop) => {
      // No picture can be read without it. Before LibTorch, which takes longer to open: they take turns, see in-turn.ts.
      await loadSharp();
      if (typeof given === 'string') {
        const { device, precision, libtorch, weights, onProgress } = checked;
        const options = { device, precision, libtorch, weights, onProgress, signal: stop };
        own = await PatchRanker.load(given, options);
      }
      const ranker: Ranks = own ?? (given as PatchRanker);
      decode = decoderFor(ranker.config, checked);
      const { device } = checked;
      const settings = { keep, keepRatio, scoreShare, prior, seed, device, batchSize, decoders };
      queue = new RankingQueue(ranker, { ...settings, signal: stop });
      ordered.ahead =
        checked.ahead ?? RankingQueue.window(batchSize, rankedPixels(ranker.config, checked));
    },
    after: () => own?.dispose(),
  };
  return mapOrdered<Source, RankFilesResult<Source>>(
    source,
    ordered,
    async (item, { index, signal: stop }) => {
      const from = item as Source;
      let name = `item ${index}`;
      try {
        const picture = pictureOf(from, index);
        name = picture.name;
        const ranked = await queue.rank(() => decode(picture, stop));
        const { grid, width, height } = ranked.picture;
        const { logits, indices: kept } = ranked;
        return { ok: true, index, name, source: from, width, height, grid, logits, kept };
      } catch (thrown) {
        const error = toLtrpError(thrown);
        // Every picture would say the same.
        if (error.code === 'ERR_LTRP_DISPOSED') throw error;
        return { ok: false, index, name, source: from, error };
      }
    },
  );
}

interface Picture {
  name: string;
  /** Name and path, for messages. */
  called: string;
  bytes: string | Uint8Array;
}

type Decode = (
  picture: Picture,
  signal: AbortSignal,
) => Promise<QueuedPicture & { grid: PatchGrid; width: number; height: number }>;

function check(source: unknown, options: RankFilesOptions | undefined): RankFilesOptions {
  if (!reading('source', () => isIterable(source))) {
    throw invalid(
      `source must be an iterable of pictures, such as an array of paths; put a single one into an array. Got ${described(source)}.`,
    );
  }
  const checked = checkOptions(options, rankFilesKeys);
  const { ranker, fit = 'whole', size, patches, grid } = checked;
  if (typeof ranker === 'string') checkSource('ranker', ranker);
  else if (ranker !== undefined) {
    if (!reading('ranker', () => isRanker(ranker))) {
      throw invalid(
        `ranker must be a PatchRanker, the name of an embedded model or a path; got ${described(ranker)}.`,
      );
    }
    for (const name of ['device', 'precision', 'libtorch', 'weights'] as const) {
      if (checked[name] !== undefined) {
        throw invalid(`${name} is for rankers given by name or path; this one is loaded already.`);
      }
    }
  }
  checkChoice('fit', fit, ['whole', 'crop', 'stretch']);
  if (fit === 'whole' && size !== undefined) {
    throw invalid("size is for fit 'crop' and 'stretch'; with 'whole' give patches or grid.");
  }
  if (fit !== 'whole' && (patches !== undefined || grid !== undefined)) {
    throw invalid(`patches and grid are for fit 'whole'; with '${fit}' give size.`);
  }
  if (patches !== undefined && grid !== undefined) throw invalid('Give one of patches and grid.');
  if (size !== undefined) checkSize(size);
  checkInteger('patches', patches, 2, 65536);
  const { keep, keepRatio, scoreShare, seed } = checked;
  if (keep !== undefined && keepRatio !== undefined) {
    throw invalid(
      'Give one of keep (a number of patches) and keepRatio (a share of them), or neither.',
    );
  }
  checkInteger('keep', keep, 1);
  checkShare('keepRatio', keepRatio, '(0, 1]');
  checkShare('scoreShare', scoreShare, '[0, 1]');
  checkChoice('prior', checked.prior, priors);
  checkInteger('seed', seed, 0);
  checkInteger('batchSize', checked.batchSize, 1, 1024);
  checkInteger('decoders', checked.decoders, 1, 1024);
  checkInteger('ahead', checked.ahead, 1, 65536);
  return grid === undefined ? checked : { ...checked, grid: readGrid(grid, 65536) };
}

function isIterable(source: unknown): boolean {
  if (typeof source !== 'object' || source === null || ArrayBuffer.isView(source)) return false;
  const { [Symbol.asyncIterator]: later, [Symbol.iterator]: now } = source as Partial<
    AsyncIterable<unknown> & Iterable<unknown>
  >;
  return typeof (later ?? now) === 'function';
}

/** By its members, so that the ranker of another copy of the package serves too. */
function isRanker(value: unknown): value is Ranks {
  const { config, rank } = (value ?? {}) as Partial<Ranks>;
  return typeof config === 'object' && typeof rank === 'function';
}

/** Pixels of a picture as it is ranked, about. */
function rankedPixels(config: RankerConfig, { size, patches, grid }: RankFilesOptions): number {
  const { imageHeight, imageWidth, patchSize } = config;
  if (grid !== undefined) return grid.rows * grid.columns * patchSize ** 2;
  if (patches !== undefined) return patches * patchSize ** 2;
  const [height, width] = checkSize(size ?? [imageHeight, imageWidth]);
  return height * width;
}

function decoderFor(config: RankerConfig, options: RankFilesOptions): Decode {
  const { fit = 'whole', grid, patches } = options;
  const { patchSize, imageHeight, imageWidth } = config;
  const fixedGrid = config.head === 'cls';
  if (fit === 'whole') {
    if (fixedGrid && (grid !== undefined || patches !== undefined)) {
      throw invalid(
        `patches and grid are not for this ranker: its 'cls' head has one grid, ${config.grid.join(' x ')}.`,
      );
    }
    return ({ called: name, bytes }, signal) =>
      decodeWholePicture(bytes, config, { grid, patches }, signal, { fixedGrid, name });
  }
  const size = checkSize(options.size ?? [imageHeight, imageWidth]);
  const [height, width] = size;
  if (height % patchSize !== 0 || width % patchSize !== 0) {
    throw invalid(
      `size is ${width} x ${height} pixels, but both sides must be multiples of the patch size ${patchSize}.`,
    );
  }
  if (fixedGrid && (height !== imageHeight || width !== imageWidth)) {
    throw invalid(
      `size is not for this ranker: its 'cls' head takes ${imageWidth} x ${imageHeight} pixels only.`,
    );
  }
  const cells = { rows: height / patchSize, columns: width / patchSize };
  return async ({ called: name, bytes }, signal) => {
    const { pixels, original } = await decodePicture(bytes, { size, fit, name, signal });
    return { pixels, size, grid: cells, width: original.width, height: original.height };
  };
}

/** @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` if it is not a picture. */
function pictureOf(item: unknown, index: number): Picture {
  const which = `Item ${index} of the source`;
  const isNamed = reading(
    which,
    () => typeof item === 'object' && item !== null && 'picture' in item,
  );
  const named = isNamed
    ? readFields(item as object, ['picture', 'name'], which)
    : { picture: item };
  const given = named.name;
  if (given !== undefined && typeof given !== 'string') {
    throw invalid(
      `The name of item ${index} of the source must be a string; got ${described(given)}.`,
    );
  }
  const bytes = reading(which, () =>
    pathOrBytes(named.picture, which, ', or { picture } with one of these'),
  );
  const plain = sourceName(bytes, index);
  const name = given ?? plain;
  // A name alone does not tell which file is missing.
  const hides = typeof bytes === 'string' && name !== plain;
  return { name, bytes, called: hides ? `${name} (${plain})` : name };
}
