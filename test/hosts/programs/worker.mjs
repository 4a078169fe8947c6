import { parentPort, workerData } from 'node:worker_threads';
import { PatchRanker, readImages } from 'ltrp';

const ranker = await PatchRanker.load('tiny');
const { logits } = await ranker.rank(await readImages([workerData], { size: 224 }));
ranker.dispose();
parentPort.postMessage(Array.from(logits.slice(0, 8), (value) => Number(value.toFixed(5))));
