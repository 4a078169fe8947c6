/** Small models with random weights, made by the project itself. */
import { join } from 'node:path';
import { Trainer, type RankerTrainingOptions } from '../../lib/index.js';
import { oneStep } from './lifecycle-models.js';
import { fixtures } from './paths.js';

/** A teacher of 112 px images, patch 16, with the weights of the golden data. */
export const smallMae = join(fixtures, 'golden-small', 'hf-v5');

/** Writes a ranker of 112 px images, patch 16, with untrained weights. */
export async function writeRanker(path: string, head: 'cls' | 'token', seed = 1): Promise<string> {
  const options: RankerTrainingOptions = {
    kind: 'ranker',
    teacher: smallMae,
    model: {
      imageHeight: 112,
      imageWidth: 112,
      patchSize: 16,
      encoder: { dim: 48, depth: 2, heads: 3, mlpDim: 96 },
      head,
      layerNormEps: 1e-5,
      mean: [0.485, 0.456, 0.406],
      std: [0.229, 0.224, 0.225],
    },
    ...oneStep,
    seed,
    loss: 'listMle',
    lossK: null,
    drop: 'decoder',
    metric: 'l1',
    input: 'visible',
    start: 'random',
    memoryBudget: 2 ** 28,
  };
  const trainer = await Trainer.create(options);
  try {
    await trainer.exportModel(path, 'float32');
  } finally {
    trainer.dispose();
  }
  return path;
}
