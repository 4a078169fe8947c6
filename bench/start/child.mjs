// One start in a process of its own: `child.mjs ltrp|onnxruntime-node|transformers MODULES PHOTO MODEL`; prints milliseconds.
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [, , contender, modules, photo, model] = process.argv;
const from = createRequire(path.join(modules, 'x.js'));
const load = (name) => import(pathToFileURL(from.resolve(name)).href);
const size = 224;

const contenders = {
  async ltrp() {
    const { PatchRanker, readImages } = await import('../../dist/index.js');
    const ranker = await PatchRanker.load('tiny');
    return (await ranker.rank(await readImages([photo], { size }))).logits.length;
  },
  // By hand, as its users do it: sharp decodes, a loop normalises.
  async 'onnxruntime-node'() {
    const ort = (await load('onnxruntime-node')).default;
    const sharp = (await load('sharp')).default;
    const session = await ort.InferenceSession.create(path.join(model, 'onnx', 'model.onnx'));
    const bytes = await sharp(photo).resize(size, size).removeAlpha().raw().toBuffer();
    const data = new Float32Array(3 * size * size);
    const [mean, std] = [
      [0.485, 0.456, 0.406],
      [0.229, 0.224, 0.225],
    ];
    for (let i = 0; i < size * size; i += 1) {
      for (let c = 0; c < 3; c += 1) {
        data[c * size * size + i] = (bytes[3 * i + c] / 255 - mean[c]) / std[c];
      }
    }
    const tensor = new ort.Tensor('float32', data, [1, 3, size, size]);
    const output = await session.run({ [session.inputNames[0]]: tensor });
    return output[session.outputNames[0]].data.length;
  },
  async transformers() {
    const { AutoModel, AutoProcessor, env, RawImage } = await load('@huggingface/transformers');
    Object.assign(env, { allowRemoteModels: false, localModelPath: path.dirname(model) });
    const name = path.basename(model);
    const processor = await AutoProcessor.from_pretrained(name);
    const network = await AutoModel.from_pretrained(name, { dtype: 'fp32' });
    const output = await network(await processor(await RawImage.read(photo)));
    return Object.values(output)[0].data.length;
  },
};

const start = performance.now();
const values = await contenders[contender]();
const milliseconds = performance.now() - start;
console.log(JSON.stringify({ milliseconds, sinceStart: performance.now(), values }));
process.exit(0);
