/** @tensorflow/tfjs on its pure JavaScript backend (`cpu`) or with @tensorflow/tfjs-backend-wasm (`wasm`). */
import { scoreWith, type Decode, type Inputs } from './decoding.js';
import { integer, rows, serve, timed } from './serve.js';
import { decoderOf, rankerOf, type TensorFlow } from './tfjs-model.js';
import { readCheckpoint, readTensor, type Tensor, type TensorFile } from './tensors.js';

const backend = process.argv[2] === 'wasm' ? 'wasm' : 'cpu';
const packages = { core: '@tensorflow/tfjs', wasm: '@tensorflow/tfjs-backend-wasm' };
let tf: TensorFlow | undefined;
let decode: Decode | undefined;
let rank: Decode | undefined;
let inputs: Inputs | undefined;
let images: Tensor | undefined;

function library(): TensorFlow {
  if (tf === undefined) throw new Error('The library is not loaded.');
  return tf;
}

await serve({
  async hello() {
    const core = (await import(packages.core)) as { default?: TensorFlow } & TensorFlow;
    tf = core.default ?? core;
    if (backend === 'wasm') await import(packages.wasm);
    await tf.setBackend(backend);
    await tf.ready();
    if (tf.getBackend() !== backend) throw new Error(`The backend is ${tf.getBackend()}.`);
    const features: string[] = [];
    if (backend === 'wasm') {
      for (const flag of ['WASM_HAS_SIMD_SUPPORT', 'WASM_HAS_MULTITHREAD_SUPPORT']) {
        if ((await tf.env().getAsync(flag)) === true) features.push(flag);
      }
    }
    return {
      name: `tfjs ${backend}`,
      versions: {
        [packages[backend === 'wasm' ? 'wasm' : 'core']]: tf.version['tfjs'] ?? 'unknown',
      },
      features,
    };
  },

  load(request) {
    if (typeof request['mae'] === 'string') {
      decode = decoderOf(library(), readCheckpoint(request['mae']));
    }
    if (typeof request['ranker'] === 'string') {
      rank = rankerOf(library(), readCheckpoint(request['ranker']));
    }
    if (request['tokens'] !== undefined) {
      inputs = {
        tokens: readTensor(request['tokens'] as TensorFile),
        visible: request['visible'] as number[][],
      };
    }
    if (request['images'] !== undefined) images = readTensor(request['images'] as TensorFile);
    return Promise.resolve({});
  },

  async scores(request) {
    const [decoder, given] = [decode, inputs];
    if (decoder === undefined || given === undefined) throw new Error('No decoder is loaded.');
    const size = { images: integer(request, 'images'), variants: integer(request, 'variants') };
    const { result, ...times } = await timed(() =>
      scoreWith(decoder, given, { ...size, batch: integer(request, 'decoderBatch') }),
    );
    return { ...times, scores: result };
  },

  async rank(request) {
    const ranker = rank;
    const given = images;
    if (ranker === undefined || given === undefined) throw new Error('No ranker is loaded.');
    const [count, batch] = [integer(request, 'images'), integer(request, 'batch')];
    const [, channels = 0, height = 0, width = 0] = given.shape;
    const length = channels * height * width;
    const { result, ...times } = await timed(async () => {
      const logits: number[][] = [];
      for (let from = 0; from < count; from += batch) {
        const size = Math.min(batch, count - from);
        const part = given.data.slice(from * length, (from + size) * length);
        const output = await ranker({ data: part, shape: [size, channels, height, width] });
        logits.push(...rows(output.data, output.shape[1] as number));
      }
      return logits;
    });
    return { ...times, logits: result };
  },
});
