/**
 * Insertion and deletion: the probability of the true class when only the best patches are there, and when they are missing. Tokens
 * are removed, not pixels blurred. Source: RISE (Petsiuk et al., BMVC 2018), on the patches of a transformer.
 */
import { nativeOf } from '../models.js';
import type { NativeClassifier } from '../native/binding.js';
import { runJob } from '../native/job.js';
import { loadCore } from '../native/loader.js';
import type { SelectorName } from '../selectors.js';
import type { ImageBatch, PixelBatch } from '../types.js';
import { invalid } from '../validation.js';
import type { VisionTransformer } from '../vision-transformer.js';
import { descending } from './asked.js';
import type { Weighted } from './resamples.js';

/** Mean probability of the true class by number of patches. */
export interface MeanCurves {
  selector: SelectorName;
  /** Numbers of patches, from none to all. */
  steps: number[];
  /** When only the best `steps` are there. */
  insertion: number[];
  /** When the best `steps` are missing. */
  deletion: number[];
}

interface Curves {
  steps: number[];
  /** By picture, then by step. */
  insertion: number[][];
  deletion: number[][];
}

export class RemovalCurves {
  readonly #curves = new Map<SelectorName, Curves>();

  /**
   * @param steps - equal steps from no patch to all; numbers of patches round half to even.
   * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for a head that does not read the CLS token alone.
   */
  constructor(
    private readonly classifier: VisionTransformer,
    private readonly steps: number,
    private readonly signal: AbortSignal | undefined,
  ) {
    const { pooling } = classifier.config;
    // Without a patch the others would read the mean of nothing.
    if (pooling !== 'cls') {
      throw invalid(
        `Insertion and deletion curves begin with the CLS token alone, so they need a classifier with pooling 'cls'; this one's is '${pooling}'.`,
      );
    }
  }

  /** @param scores - [images, patches]; larger is better. */
  async add(
    name: SelectorName,
    images: ImageBatch | PixelBatch,
    scores: Float32Array,
    labels: readonly number[],
  ): Promise<void> {
    const orders = rowsOf(scores, labels.length).map(descending);
    const patches = scores.length / labels.length;
    const steps = Array.from({ length: this.steps + 1 }, (_, i) =>
      halfToEven((i * patches) / this.steps),
    );
    const curves = this.#curves.get(name) ?? { steps, insertion: [], deletion: [] };
    this.#curves.set(name, curves);
    const along = async (part: (order: readonly number[], k: number) => readonly number[]) => {
      const byStep: number[][] = [];
      for (const k of steps) {
        const kept = orders.map((order) => part(order, k));
        byStep.push(await this.#probabilities(images, kept, labels));
      }
      return labels.map((_, i) => byStep.map((values) => values[i] as number));
    };
    curves.insertion.push(...(await along((order, k) => order.slice(0, k))));
    curves.deletion.push(...(await along((order, k) => order.slice(k))));
  }

  /** Of every picture: the area under its curve, by trapezoids over the share of the patches. */
  *areas(which: 'insertion' | 'deletion'): Generator<[SelectorName, Weighted[]]> {
    for (const [name, curves] of this.#curves) {
      yield [
        name,
        curves[which].map((values) => ({ value: area(curves.steps, values), weight: 1 })),
      ];
    }
  }

  means(): MeanCurves[] {
    return [...this.#curves].map(([selector, { steps, insertion, deletion }]) => {
      const means = (values: readonly number[][]): number[] =>
        steps.map(
          (_, k) => values.reduce((sum, each) => sum + (each[k] as number), 0) / values.length,
        );
      return { selector, steps, insertion: means(insertion), deletion: means(deletion) };
    });
  }

  /** Of the true classes, when only these patches are there. */
  async #probabilities(
    images: ImageBatch | PixelBatch,
    kept: readonly (readonly number[])[],
    labels: readonly number[],
  ): Promise<number[]> {
    const ids = Int32Array.from(kept.flat());
    const native = nativeOf(this.classifier) as NativeClassifier;
    const { logits } = await runJob(await loadCore(), { signal: this.signal }, (job) =>
      native.classify(job, images, ids.length === 0 ? { noPatches: true } : { keep: ids }),
    );
    return rowsOf(logits, labels.length).map((row, i) => softmaxAt(row, labels[i] as number));
  }
}

/** The rows of a matrix. */
export function rowsOf(values: Float32Array, count: number): Float32Array[] {
  const length = values.length / count;
  return Array.from({ length: count }, (_, i) => values.subarray(i * length, (i + 1) * length));
}

function softmaxAt(logits: Float32Array, label: number): number {
  const largest = Math.max(...logits);
  const total = logits.reduce((sum, value) => sum + Math.exp(value - largest), 0);
  return Math.exp((logits[label] as number) - largest) / total;
}

/** As Python and NumPy round. */
function halfToEven(value: number): number {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}

function area(steps: readonly number[], values: readonly number[]): number {
  const last = steps.at(-1) ?? 1;
  let sum = 0;
  for (let i = 1; i < steps.length; i++) {
    const [from, to] = [steps[i - 1] as number, steps[i] as number];
    sum += (((to - from) / last) * ((values[i - 1] as number) + (values[i] as number))) / 2;
  }
  return sum;
}
