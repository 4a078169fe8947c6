/** A classifier that sees only the kept patches: does its answer stay what it is on the whole picture? */
import { createHash } from 'node:crypto';
import { appendFileSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import sharp from 'sharp';
import { background, judgeFills, keepOnly, type JudgeFill } from '../../lib/evaluation/covered.js';
import type { Cut, Picture } from './pictures.js';
import { evaluateCache, shortDigest } from './teacher-maps.js';

/** What onnxruntime-node has and this uses: its types are not there until the benchmark's packages are installed. */
interface Tensor {
  readonly data: Float32Array;
}
interface Session {
  readonly inputNames: readonly string[];
  readonly outputNames: readonly string[];
  readonly inputMetadata: readonly { shape: readonly (number | string)[] }[];
  run(feeds: Record<string, Tensor>): Promise<Record<string, Tensor>>;
}
interface Runtime {
  Tensor: new (type: 'float32', data: Float32Array, shape: readonly number[]) => Tensor;
  InferenceSession: { create(file: string, options: object): Promise<Session> };
}

const fromBench = createRequire(new URL('../../bench/package.json', import.meta.url));

/** Whether onnxruntime-node, of the benchmark's packages, is installed. */
export function hasRuntime(): boolean {
  try {
    fromBench.resolve('onnxruntime-node');
    return true;
  } catch {
    return false;
  }
}

/** Files of a folder of photographs, in `judge`. */
export const judges = { v1: 'mobilenet_v1_0.25_128.onnx', v2: 'mobilenet_v2_1.0_224.onnx' };

/** A view of a picture: all of it, or some patches before a background. */
export type View = 'whole' | { kept: readonly number[]; fill: JudgeFill };

/** A classifier whose answers are kept in the user's cache. */
export class Judge {
  /** Answers computed, not read from the cache. */
  spent = 0;
  /** Tells it apart from every other. */
  readonly name: string;
  readonly #known = new Map<string, number>();
  readonly #file: string;
  #session: Promise<Session> | undefined;
  readonly #model: string;

  private constructor(model: string, file: string) {
    this.#model = model;
    this.#file = file;
    this.name = basename(file, '.txt');
    if (!existsSync(file)) return;
    for (const line of readFileSync(file, 'utf8').split('\n')) {
      const [key = '', answer = ''] = line.split(' ');
      if (/^[0-9a-f]{24}$/.test(key) && /^\d+$/.test(answer)) this.#known.set(key, Number(answer));
    }
  }

  /**
   * @param model - an ONNX file: [N, 3, S, S] of (x - 128) / 128 to probabilities [N, classes].
   * @param cache - folder of the kept answers.
   */
  static async open(model: string, cache = evaluateCache()): Promise<Judge> {
    const folder = join(cache, 'judge');
    mkdirSync(folder, { recursive: true });
    const name = `${basename(model, '.onnx')}-${await shortDigest(model)}.txt`;
    return new Judge(model, join(folder, name));
  }

  /** The most probable class of each view. */
  async answers(picture: Picture, views: readonly View[]): Promise<number[]> {
    const keys = views.map((view) => viewKey(picture, view));
    const missing = [...new Set(keys.filter((key) => !this.#known.has(key)))];
    if (missing.length > 0) {
      const backgrounds = new Map<JudgeFill, Uint8Array>();
      for (const fill of judgeFills) backgrounds.set(fill, await background(picture, fill));
      const pictures = missing.map((key) => {
        const view = views[keys.indexOf(key)] as View;
        return view === 'whole'
          ? picture.pixels
          : keepOnly(picture, view.kept, backgrounds.get(view.fill) as Uint8Array);
      });
      const answers = await this.#classify(pictures, picture);
      this.spent += answers.length;
      for (const [i, key] of missing.entries()) this.#known.set(key, answers[i] as number);
      appendFileSync(this.#file, missing.map((key, i) => `${key} ${answers[i]}\n`).join(''));
    }
    return keys.map((key) => this.#known.get(key) as number);
  }

  async #classify(pictures: readonly Uint8Array[], cut: Cut): Promise<number[]> {
    const runtime = fromBench('onnxruntime-node') as Runtime;
    // One thread: pictures follow each other, and the machine may have other work.
    this.#session ??= runtime.InferenceSession.create(this.#model, { intraOpNumThreads: 1 });
    const session = await this.#session;
    const [input = '', output = ''] = [session.inputNames[0], session.outputNames[0]];
    const side = session.inputMetadata[0]?.shape[3] as number;
    const answers: number[] = [];
    for (const pixels of pictures) {
      const seen =
        cut.height === side && cut.width === side ? pixels : await resized(pixels, cut, side);
      const area = side * side;
      const values = new Float32Array(3 * area);
      for (let i = 0; i < area; i++) {
        for (let c = 0; c < 3; c++) {
          values[c * area + i] = ((seen[3 * i + c] as number) - 128) / 128;
        }
      }
      const tensor = new runtime.Tensor('float32', values, [1, 3, side, side]);
      const scores = (await session.run({ [input]: tensor }))[output]?.data ?? [];
      let best = 0;
      for (const [i, score] of scores.entries()) if (score > (scores[best] as number)) best = i;
      answers.push(best);
    }
    return answers;
  }
}

function viewKey(picture: Picture, view: View): string {
  const words =
    view === 'whole' ? view : `${view.fill} ${[...view.kept].sort((a, b) => a - b).join()}`;
  return createHash('sha256').update(`${picture.digest} ${words}`).digest('hex').slice(0, 24);
}

function resized(pixels: Uint8Array, { height, width }: Cut, side: number): Promise<Uint8Array> {
  return sharp(pixels, { raw: { width, height, channels: 3 } })
    .resize(side, side, { kernel: 'cubic', fit: 'fill' })
    .raw()
    .toBuffer();
}
