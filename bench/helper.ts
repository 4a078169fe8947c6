/** What the native helper is asked besides the authors' loop: models, references, peaks, kernels (bench/PROTOCOL.md). */
import { Contender, ContenderError } from './child.js';
import { helperProgram, type Material } from './contenders.js';
import type { Kernel, Peak } from './results.js';
import type { TensorFile } from './workers/tensors.js';

/** A geometry that the helper knows by name. */
export interface Geometry {
  geometry: string;
  path: string;
  head?: 'cls' | 'token';
}

export class Helper {
  readonly #process: Contender;

  constructor(threads: number) {
    this.#process = new Contender('the native helper', helperProgram(threads));
  }

  async hello(threads: number): Promise<{ versions: Record<string, string>; features: string[] }> {
    const { versions, features } = await this.#process.ask('hello', { threads });
    return { versions: versions as Record<string, string>, features: features as string[] };
  }

  /** Writes a model with random weights, the same for the same seed. */
  async generate(model: { mae: Geometry } | { ranker: Geometry }, seed: number): Promise<void> {
    await this.#process.ask('generate', { ...model, seed });
  }

  /** Float64 scores [images][V] of a material with a teacher. */
  async scores(material: Material, images: number, variants: number): Promise<number[][]> {
    const { mae, images: pixels, visible } = material;
    await this.#process.ask('load', { mae, images: pixels, visible });
    const { scores } = await this.#process.ask('reference', { images, variants });
    return scores as number[][];
  }

  /** Decoder input of all images of the material that {@link scores} was asked about. */
  async tokens(path: string): Promise<TensorFile> {
    const { shape } = await this.#process.ask('tokens', { path });
    return { path, shape: shape as number[] };
  }

  /** Float64 logits [images][L] of a material with a ranker. */
  async logits({ ranker, images: pixels }: Material, images: number): Promise<number[][]> {
    await this.#process.ask('load', { ranker, images: pixels });
    const { logits } = await this.#process.ask('reference', { rankerImages: images });
    return logits as number[][];
  }

  /** The matmul peak now; `gflops` is null where the CPU or the library has no such product. */
  async peak(precision: Peak['precision'], seconds: number): Promise<Peak> {
    try {
      const { gflops, shape, how } = await this.#process.ask('peak', { precision, seconds });
      return { precision, gflops: gflops as number, shape: shape as number[], how: String(how) };
    } catch (error) {
      if (!(error instanceof ContenderError && error.unsupported)) throw error;
      return { precision, gflops: null, shape: [], how: error.message };
    }
  }

  async bandwidth(seconds: number): Promise<{ gbPerSecond: number; how: string }> {
    const { gbPerSecond, how } = await this.#process.ask('bandwidth', { seconds });
    return { gbPerSecond: gbPerSecond as number, how: String(how) };
  }

  async kernels(seconds: number): Promise<Kernel[]> {
    const { kernels } = await this.#process.ask('kernels', { seconds });
    return kernels as Kernel[];
  }

  async close(): Promise<void> {
    await this.#process.close();
  }
}

/** The better of two measurements of the same peak: the machine can do what it has done once. */
export function better(a: Peak | undefined, b: Peak): Peak {
  return a === undefined || (b.gflops ?? 0) > (a.gflops ?? 0) ? b : a;
}
