/** What a service computes: models, batches and pictures, without HTTP. Results are those of the library's own calls. */
import { isLtrpError } from '../errors.js';
import { decodePicture } from '../images.js';
import { jsonNumbers } from '../json-numbers.js';
import type { MaskedAutoencoder } from '../masked-autoencoder.js';
import { patchBoxes, type Box } from '../patch-grid.js';
import { decode } from '../pictures/decode.js';
import { kindOf } from '../pictures/kinds.js';
import { notRead } from '../pictures/refusals.js';
import type { PictureSize } from '../pictures/types.js';
import { loadSharp } from '../sharp.js';
import { Slots } from '../slots.js';
import {
  batchOf,
  ofEach,
  oneByOneIfNeeded,
  rankTogether,
  together,
  type KeepWish,
  type RankedPatches,
  type Ranks,
  type SizedPicture,
} from '../stream/rank-together.js';
import { RankingQueue } from '../stream/ranking-queue.js';
import type { Drop, Metric } from '../types.js';
import { invalid } from '../validation.js';
import type { VisionTransformer } from '../vision-transformer.js';
import { decodeWholePicture, type DecodedWholePicture, type GridWish } from '../whole-picture.js';
import { Batcher } from './batcher.js';
import type { Limits } from './limits.js';
import { longestSides, standardKeep, type CropFormat } from './options.js';
import { Problem, TooManyPixels } from './problems.js';

/** The models of a service. What needs a model that is not there is no route. */
export interface Models {
  readonly ranker: Ranks;
  readonly teacher?: Pick<MaskedAutoencoder, 'config' | 'scoreMap'> | undefined;
  readonly classifier?: Classifier | undefined;
}

type Classifier = Pick<VisionTransformer, 'config' | 'classify'>;

/** One request, its options read. */
export interface Task<Options> {
  readonly bytes: Buffer;
  readonly options: Options;
  /** When the request arrived, on performance.now()'s clock. */
  readonly arrived: number;
  /** Nobody waits for the answer any more, or it takes too long. */
  readonly signal: AbortSignal;
}

interface KeepOptions extends GridWish {
  keep?: number;
  keepRatio?: number;
  scoreShare: number;
  seed: number;
}

interface CropOptions extends KeepOptions {
  padding: number;
  format: CropFormat;
  quality: number;
}

interface ScoreOptions extends GridWish {
  rounds: number;
  maskRatio: number;
  drop: Drop;
  metric: Metric;
  seed: number;
}

interface ClassifyOptions {
  topK: number;
  keepRatio?: number;
}

interface ToRank extends SizedPicture {
  readonly wish: KeepWish;
}

interface ToClassify extends SizedPicture {
  readonly kept: Int32Array | undefined;
  readonly topK: number;
}

/** The part of a picture that is classified, and the picture's own size. */
interface Centre extends ToClassify {
  readonly original: PictureSize;
}

interface Classes {
  /** The largest first. */
  readonly top: Int32Array;
  /** Of `top`. */
  readonly logits: readonly (number | null)[];
}

/** How pictures are called in messages. */
const name = 'of the request';

export class Work {
  readonly #decoding = new Slots(RankingQueue.decoders);
  readonly #ranking: Batcher<ToRank, RankedPatches>;
  readonly #classifying: Batcher<ToClassify, Classes>;

  constructor(
    private readonly models: Models,
    private readonly limits: Limits,
    onBatch: (items: number) => void,
  ) {
    const { maxWait } = limits;
    const most = ({ size: [height, width] }: SizedPicture): number =>
      batchOf(limits.batchSize, height * width);
    this.#ranking = new Batcher<ToRank, RankedPatches>({
      ...{ maxWait, most, onBatch },
      key: ({ size, wish }) => JSON.stringify([size, wish]),
      compute: (batch, signal) =>
        rankTogether(models.ranker, batch, (batch[0] as ToRank).wish, signal),
    });
    this.#classifying = new Batcher<ToClassify, Classes>({
      ...{ maxWait, most, onBatch },
      key: ({ kept, topK }) => `${kept?.length ?? 'all'} ${topK}`,
      compute: (batch, signal) =>
        oneByOneIfNeeded(batch, signal, (some) => this.#classes(some, signal)),
    });
  }

  /** As `rankFiles`. */
  async rank(task: Task<KeepOptions>) {
    const { width, height, grid, logits, indices } = await this.#ranked(task, task.options);
    return { width, height, grid, logits: jsonNumbers(logits), kept: Array.from(indices) };
  }

  /** The kept patches, and where they are in pixels of the picture. */
  async select(task: Task<KeepOptions>) {
    const options = withKeep(task.options, standardKeep.select);
    const { width, height, grid, indices } = await this.#ranked(task, options);
    const boxes = patchBoxes(grid, width, height);
    const kept = Array.from(indices);
    return { width, height, grid, kept, boxes: kept.map((id) => boxes[id] as Box) };
  }

  /** The smallest part of the picture that has all kept patches. */
  async crop(task: Task<CropOptions>): Promise<{ box: Box; format: CropFormat; file: Buffer }> {
    const { padding, format, quality } = task.options;
    const options = withKeep(task.options, standardKeep.crop);
    const { width, height, grid, indices } = await this.#ranked(task, options);
    const boxes = patchBoxes(grid, width, height);
    const box = around(
      Array.from(indices, (id) => boxes[id] as Box),
      padding,
      { width, height },
    );
    const [left, top, ...size] = box;
    const cut = { left, top, width: size[0], height: size[1] };
    if (Math.max(...size) > longestSides[format]) {
      throw invalid(
        `The crop has ${cut.width} x ${cut.height} pixels, and format '${format}' stores sides of ${longestSides[format]} at most; keep fewer patches, or ask for format 'png'.`,
      );
    }
    const { bytes, signal } = task;
    // A second time: keeping all pixels of every picture that waits to be ranked would take too much memory.
    const picture = await this.#decode(() =>
      decode(bytes, { name, signal, scaling: () => ({ exact: { width, height, cut } }) }),
    );
    const sharp = await loadSharp();
    const raw = { width: picture.width, height: picture.height, channels: 3 } as const;
    const pipeline = sharp(picture.pixels, { raw });
    const lossy = format === 'png' ? {} : { quality };
    return { box, format, file: await pipeline.toFormat(format, lossy).toBuffer() };
  }

  /** As {@link MaskedAutoencoder.scoreMap} of the whole picture. */
  async score({ bytes, options, signal }: Task<ScoreOptions>) {
    const { teacher } = this.models;
    if (teacher === undefined) throw new Error('there is no teacher');
    const { grid: wish, patches, ...scoring } = options;
    const picture = await this.#whole(bytes, teacher.config, { grid: wish, patches }, signal);
    const { pixels: data, size, width, height, grid } = picture;
    const map = await teacher.scoreMap({ data, shape: [1, ...size, 3] }, { ...scoring, signal });
    const [scores, standardErrors] = [map.mean, map.standardError].map(jsonNumbers);
    return { width, height, grid, scores, standardErrors };
  }

  /** As {@link VisionTransformer.classify} of the picture's centre, as classifiers are evaluated. */
  async classify({ bytes, options, arrived, signal }: Task<ClassifyOptions>) {
    const { classifier, ranker } = this.models;
    if (classifier === undefined) throw new Error('there is no classifier');
    const { config } = classifier;
    const { keepRatio } = options;
    const topK = Math.min(options.topK, config.classes);
    const size = [config.imageHeight, config.imageWidth] as const;
    if (keepRatio !== undefined && !ranks(ranker, config)) {
      throw invalid(
        `keepRatio is not for these models: the ranker's patches have ${ranker.config.patchSize} pixels, the classifier's ${config.patchSize}, or the ranker has one grid.`,
      );
    }
    let item: Centre | undefined;
    const prepare = async (): Promise<ToClassify> => {
      const { pixels, original } = await this.#centre(bytes, size, signal);
      let kept: Int32Array | undefined;
      if (keepRatio !== undefined) {
        const toRank = { pixels, size, wish: { keepRatio, seed: 0 } };
        const ranked = await this.#ranking.run(arrived, () => Promise.resolve(toRank), signal);
        kept = ranked.indices;
      }
      item = { pixels, size, original, kept, topK };
      return item;
    };
    const { top, logits } = await this.#classifying.run(arrived, prepare, signal);
    const { kept, original } = item as unknown as Centre;
    return {
      width: original.width,
      height: original.height,
      top: Array.from(top, (id, index) => ({ class: id, logit: logits[index] })),
      ...(kept === undefined ? {} : { kept: Array.from(kept) }),
    };
  }

  async #ranked(
    { bytes, arrived, signal }: Pick<Task<unknown>, 'bytes' | 'arrived' | 'signal'>,
    options: KeepOptions,
  ): Promise<RankedPatches & Pick<DecodedWholePicture, 'width' | 'height' | 'grid'>> {
    const { ranker } = this.models;
    const { keep, keepRatio, scoreShare, seed, grid, patches } = options;
    if (ranker.config.head === 'cls' && (grid ?? patches) !== undefined) {
      throw invalid(
        `patches and grid are not for this ranker: its 'cls' head has one grid, ${ranker.config.grid.join(' x ')}.`,
      );
    }
    let picture: DecodedWholePicture | undefined;
    const prepare = async (): Promise<ToRank> => {
      picture = await this.#whole(bytes, ranker.config, { grid, patches }, signal);
      const { pixels, size } = picture;
      return { pixels, size, wish: { keep, keepRatio, scoreShare, seed } };
    };
    const ranked = await this.#ranking.run(arrived, prepare, signal);
    const { width, height, grid: cells } = picture as unknown as DecodedWholePicture;
    return { ...ranked, width, height, grid: cells };
  }

  #whole(
    bytes: Buffer,
    config: Ranks['config'] | MaskedAutoencoder['config'],
    wish: GridWish,
    signal: AbortSignal,
  ): Promise<DecodedWholePicture> {
    this.#refuseKind(bytes);
    const fixedGrid = 'head' in config && config.head === 'cls';
    const check = this.#checkPixels.bind(this);
    return this.#decode(() =>
      decodeWholePicture(bytes, config, wish, signal, { fixedGrid, name, check }),
    );
  }

  /** A picture that needs too much memory is the request's fault; what is left of the service's is not. */
  async #decode<Picture>(decoding: () => Promise<Picture>): Promise<Picture> {
    try {
      return await this.#decoding.run(decoding);
    } catch (error) {
      if (isLtrpError(error) && error.code === 'ERR_LTRP_OUT_OF_MEMORY') {
        throw new Problem(413, error.code, error.message);
      }
      throw error;
    }
  }

  /** A stranger's drawing may take any time and memory, and what only some builds of sharp read is not for strangers. */
  #refuseKind(bytes: Buffer): void {
    const kind = kindOf(bytes);
    if (kind.format === 'svg') {
      throw new Problem(
        415,
        'ERR_LTRP_IMAGE_DECODE',
        `The image ${name} cannot be decoded: it is SVG, which this service does not draw; convert it to PNG.`,
      );
    }
    if (kind.format === undefined || kind.refused === true) throw notRead(name, kind);
  }

  #checkPixels({ width, height }: PictureSize): void {
    const { pixels } = this.limits;
    if (width * height <= pixels) return;
    throw new TooManyPixels(
      `The picture has ${width} x ${height} pixels; at most ${pixels} are taken.`,
    );
  }

  /** The centre of a picture, as classifiers are evaluated. */
  #centre(bytes: Buffer, size: readonly [number, number], signal: AbortSignal) {
    this.#refuseKind(bytes);
    const check = this.#checkPixels.bind(this);
    return this.#decode(() => decodePicture(bytes, { size, fit: 'crop', name, signal, check }));
  }

  async #classes(batch: readonly ToClassify[], signal: AbortSignal): Promise<Classes[]> {
    const classifier = this.models.classifier as Classifier;
    const { kept, topK } = batch[0] as ToClassify;
    const keep =
      kept === undefined
        ? undefined
        : Int32Array.from(batch.flatMap((one) => [...(one.kept ?? [])]));
    const given = { keep, topK, signal };
    const { logits, top } = await classifier.classify(together(batch), given);
    const all = ofEach(logits, batch.length);
    return ofEach(top as Int32Array, batch.length).map((own, index) => {
      const values = Float32Array.from(own, (id) => all[index]?.[id] as number);
      return { top: own, logits: jsonNumbers(values) };
    });
  }
}

function withKeep(options: KeepOptions, keepRatio: number): KeepOptions {
  return options.keep === undefined ? { keepRatio, ...options } : options;
}

function ranks(
  { config }: Ranks,
  { patchSize, imageHeight, imageWidth }: ClassifierGeometry,
): boolean {
  const own = imageHeight === config.imageHeight && imageWidth === config.imageWidth;
  return config.patchSize === patchSize && (config.head === 'token' || own);
}

type ClassifierGeometry = Pick<
  VisionTransformer['config'],
  'patchSize' | 'imageHeight' | 'imageWidth'
>;

/** The smallest box that has all of `boxes`, with `padding` on each side where the picture goes on. */
function around(boxes: readonly Box[], padding: number, { width, height }: PictureSize): Box {
  const left = Math.max(0, Math.min(...boxes.map(([x]) => x)) - padding);
  const top = Math.max(0, Math.min(...boxes.map(([, y]) => y)) - padding);
  const right = Math.min(width, Math.max(...boxes.map(([x, , w]) => x + w)) + padding);
  const bottom = Math.min(height, Math.max(...boxes.map(([, y, , h]) => y + h)) + padding);
  return [left, top, right - left, bottom - top];
}
