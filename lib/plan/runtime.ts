/** onnxruntime-node, which the user has: an optional peer. Its types are not there without it, so what is used is named here. */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { unsupported } from '../errors.js';

/** Made and handed over, never looked into. */
export type RuntimeTensor = object;

export interface InputMetadata {
  name: string;
  type?: string;
  shape?: readonly (number | string)[];
}

export interface Session {
  /** Missing before onnxruntime-node 1.21. */
  readonly inputMetadata?: readonly InputMetadata[];
  run(feeds: Record<string, RuntimeTensor>): Promise<Record<string, RuntimeTensor>>;
  endProfiling(): void;
  release(): Promise<void>;
}

export interface Runtime {
  Tensor: new (type: string, data: ArrayBufferView, dims: readonly number[]) => RuntimeTensor;
  InferenceSession: { create(path: string, options: object): Promise<Session> };
}

/** Where it is: beside this package, or in the project of the working directory. */
export function findRuntime(folder = process.cwd()): string {
  for (const from of [import.meta.url, join(folder, 'package.json')]) {
    try {
      return createRequire(from).resolve('onnxruntime-node');
    } catch {
      // The next place.
    }
  }
  throw unsupported(
    'onnxruntime-node runs the model to be measured, and is not installed here; `npm install onnxruntime-node` installs it.',
  );
}

export function loadRuntime(path: string): Runtime {
  return createRequire(import.meta.url)(path) as Runtime;
}
