// What a user does, in whatever runs it: prints figures as JSON, the same everywhere.
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import {
  LtrpError,
  MaskedAutoencoder,
  PatchRanker,
  rankAgreement,
  readImages,
  selectPatches,
  version,
} from 'ltrp';

const photo = process.argv[2];
const round = (values) => Array.from(values.slice(0, 8), (value) => Number(value.toFixed(5)));

const ranker = await PatchRanker.load('tiny');
const images = await readImages([photo], { size: ranker.config.imageSize });
const { logits, shape } = await ranker.rank(images);
const { indices } = await selectPatches(images, logits, { keepRatio: 0.5 });

const teacher = await MaskedAutoencoder.load('tiny');
let events = 0;
const map = await teacher.scoreMap(images, { rounds: 2, onProgress: () => (events += 1) });
const { kendallTau } = await rankAgreement(logits, map.mean, [1, logits.length]);

const stop = new AbortController();
const aborted = await teacher
  .scoreMap(images, {
    rounds: 1000,
    signal: stop.signal,
    onProgress: () => stop.abort('enough'),
  })
  .then(String, String);
const refused = await ranker.rank(null).catch((error) => error instanceof LtrpError && error.code);
teacher.dispose();
ranker.dispose();
const disposed = await ranker.rank(images).catch((error) => error.code);

const worker = new Worker(new URL('worker.mjs', import.meta.url), { workerData: photo });
const [inWorker] = await once(worker, 'message');
await once(worker, 'exit');

const result = { version, shape, logits: round(logits), kept: indices.length };
Object.assign(result, { tau: round(kendallTau), progress: events > 0, aborted, refused, disposed });
Object.assign(result, { worker: JSON.stringify(inWorker) === JSON.stringify(round(logits)) });
console.log(JSON.stringify(result));
