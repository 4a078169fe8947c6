/** A small teacher with random weights, made through the public API, and pictures for it: enough for tests of behaviour. */
import { join } from 'node:path';
import { Trainer, type ImageBatch } from '../../lib/index.js';

/** How models are trained that a test only needs to exist: one step on one picture. */
export const oneStep = {
  batchSize: 1,
  microBatchSize: 1,
  steps: 1,
  warmupSteps: 0,
  learningRate: 1e-3,
  weightDecay: 0,
  beta1: 0.9,
  beta2: 0.95,
  clipGradientNorm: null,
  precision: 'float32',
  seed: 1,
  cropScale: [0.5, 1] as [number, number],
  flip: false,
  maskRatio: 0.75,
} as const;

/** Writes `teacher.safetensors` into `folder` and returns its path. 64 px, patch 8: 64 patches. */
export async function makeTeacher(folder: string): Promise<string> {
  const trainer = await Trainer.create({
    kind: 'pretrain',
    model: {
      imageHeight: 64,
      imageWidth: 64,
      patchSize: 8,
      encoder: { dim: 64, depth: 2, heads: 4, mlpDim: 256 },
      decoder: { dim: 64, depth: 2, heads: 4, mlpDim: 256 },
      layerNormEps: 1e-6,
      normalizedTarget: false,
      mean: [0.485, 0.456, 0.406],
      std: [0.229, 0.224, 0.225],
    },
    ...oneStep,
  });
  const path = join(folder, 'teacher.safetensors');
  await trainer.exportModel(path, 'float32');
  trainer.dispose();
  return path;
}

/** Smooth, non-constant pictures; `shared` puts them into a SharedArrayBuffer. */
export function makeImages(count: number, side = 64, shared = false): ImageBatch {
  const length = count * 3 * side * side;
  const data = shared
    ? new Float32Array(new SharedArrayBuffer(length * 4))
    : new Float32Array(length);
  for (let i = 0; i < length; i += 1) data[i] = Math.sin(i * 0.37) + Math.cos(i * 0.011);
  return { data, shape: [count, 3, side, side] };
}
