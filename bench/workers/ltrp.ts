/** Ours, through the public API. */
import {
  MaskedAutoencoder,
  PatchRanker,
  rankAgreement,
  rankFiles,
  readImages,
  version,
  type ImageBatch,
  type Metric,
  type Precision,
} from '../../lib/index.js';
import { loadCore } from '../../lib/native/loader.js';
import { integer, rows, serve, timed } from './serve.js';
import { readTensor, type TensorFile } from './tensors.js';

let mae: MaskedAutoencoder | undefined;
let ranker: PatchRanker | undefined;
let images: ImageBatch | undefined;
let visible: number[][] = [];

/** The first `count` images. */
function first(count: number, from = 0): ImageBatch {
  if (images === undefined) throw new Error('No images are loaded.');
  const [, channels, height, width] = images.shape;
  const length = channels * height * width;
  return {
    data: images.data.subarray(from * length, (from + count) * length),
    shape: [count, channels, height, width],
  };
}

function loaded<Model>(model: Model | undefined): Model {
  if (model === undefined) throw new Error('No such model is loaded.');
  return model;
}

await serve({
  async hello() {
    // Any call loads the core and LibTorch, so that what a load adds to memory is the model's own.
    await rankAgreement(Float32Array.of(1, 2), Float32Array.of(1, 2), [1, 2]);
    const { torchRuntimeVersion, cpuFeatures, threads } = (await loadCore()).info();
    return {
      name: 'ltrp',
      versions: { ltrp: version, LibTorch: torchRuntimeVersion },
      features: cpuFeatures,
      threads,
    };
  },

  async load(request) {
    const precision = (request['precision'] ?? 'float32') as Precision;
    mae?.dispose();
    ranker?.dispose();
    mae = ranker = undefined;
    if (typeof request['mae'] === 'string') {
      mae = await MaskedAutoencoder.load(request['mae'], { precision });
    }
    if (typeof request['ranker'] === 'string') {
      ranker = await PatchRanker.load(request['ranker'], { precision });
    }
    if (request['images'] !== undefined) {
      images = readTensor(request['images'] as TensorFile) as ImageBatch;
    }
    visible = (request['visible'] ?? []) as number[][];
    return {};
  },

  async scores(request) {
    const count = integer(request, 'images');
    const variants = integer(request, 'variants');
    const tolerance = request['tolerance'] as number | undefined;
    const metric = request['metric'] as Metric | undefined;
    const ids = Int32Array.from(visible.slice(0, count).flat());
    const batch = first(count);
    const { result, ...times } = await timed(() =>
      loaded(mae).scorePatches(batch, { visible: ids, tolerance, metric }),
    );
    // The API scores all visible patches; who asks for fewer still gets, and is told the time of, all of them.
    const scores = rows(result.scores, result.shape[1]).map((row) => row.slice(0, variants));
    return { ...times, scores, variants: result.shape[1] };
  },

  async rank(request) {
    const count = integer(request, 'images');
    const batch = integer(request, 'batch');
    const model = loaded(ranker);
    const parts = Array.from({ length: Math.ceil(count / batch) }, (_, part) =>
      first(Math.min(batch, count - part * batch), part * batch),
    );
    const { result, ...times } = await timed(async () => {
      // Copied out as it comes; queued all at once it would be no different, the core has one compute thread.
      const logits: number[][] = [];
      for (const part of parts) {
        const ranking = await model.rank(part);
        logits.push(...rows(ranking.logits, ranking.shape[1]));
      }
      return logits;
    });
    return { ...times, logits: result };
  },

  /** Image files to indices of kept patches, as `ltrp rank` does it: the next images are decoded while one is ranked. */
  async files(request) {
    const paths = request['paths'] as string[];
    const batch = integer(request, 'batch');
    const keepRatio = request['keepRatio'] as number;
    const decodeOnly = request['decodeOnly'] === true;
    const model = loaded(ranker);
    const { imageHeight, imageWidth, mean, std } = model.config;
    const options = { size: [imageHeight, imageWidth] as const, mean, std };
    const { result, ...times } = await timed(async () => {
      let kept = 0;
      if (decodeOnly) {
        await readImages(paths, options);
        return kept;
      }
      const given = { ranker: model, fit: 'crop', keepRatio, batchSize: batch } as const;
      for await (const ranked of rankFiles(paths, given)) {
        if (!ranked.ok) throw ranked.error;
        kept += ranked.kept.length;
      }
      return kept;
    });
    return { ...times, kept: result };
  },
});
