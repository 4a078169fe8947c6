/** @tensorflow/tfjs on its pure JavaScript backend (`cpu`) or with @tensorflow/tfjs-backend-wasm (`wasm`). */
import { servePeer } from './peer.js';
import { decoderOf, rankerOf, readGraph, type TensorFlow } from './tfjs-model.js';

const backend = process.argv[2] === 'wasm' ? 'wasm' : 'cpu';
const packages = { cpu: '@tensorflow/tfjs', wasm: '@tensorflow/tfjs-backend-wasm' };
let tf: TensorFlow;

await servePeer({
  async hello() {
    const core = (await import(packages.cpu)) as { default?: TensorFlow } & TensorFlow;
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
    const versions = { [packages[backend]]: tf.version['tfjs'] ?? 'unknown' };
    return { name: `tfjs ${backend}`, versions, features };
  },

  load(kind, path) {
    const model = { decoder: decoderOf, ranker: rankerOf }[kind];
    return Promise.resolve(model(tf, readGraph(path)));
  },
});
