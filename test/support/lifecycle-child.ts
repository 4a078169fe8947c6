/**
 * One scenario of test/binding-lifecycle.test.ts in a process of its own: `lifecycle-child.ts SCENARIO TEACHER`.
 * What a process does while the compute thread is busy can only be judged from outside.
 */
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { MaskedAutoencoder } from '../../lib/index.js';
import { makeImages } from './lifecycle-models.js';

/** Starts a job of many seconds and resolves when it is under way. */
async function busy(teacher: string, onProgress?: () => void): Promise<MaskedAutoencoder> {
  const mae = await MaskedAutoencoder.load(teacher);
  await new Promise<void>((resolve) => {
    const job = mae.scoreMap(makeImages(4), {
      rounds: 1000,
      onProgress: () => {
        resolve();
        onProgress?.();
      },
    });
    job.catch(() => undefined);
  });
  return mae;
}

async function checksum(teacher: string): Promise<number> {
  const mae = await MaskedAutoencoder.load(teacher);
  let sum = 0;
  for (let seed = 0; seed < 5; seed += 1) {
    const { scores } = await mae.scorePatches(makeImages(2), { seed, maskRatio: 0.75 });
    sum += scores.reduce((total, score) => total + score, 0);
  }
  mae.dispose();
  return sum;
}

function startWorker(task: string, teacher: string): Worker {
  // tsx is registered on the main thread only; the worker does it for itself.
  return new Worker(
    `import('tsx/esm/api').then(({ tsImport }) => tsImport(${JSON.stringify(import.meta.url)}, ${JSON.stringify(import.meta.url)}))`,
    { eval: true, workerData: { task, teacher }, execArgv: [] },
  );
}

async function firstMessage(worker: Worker): Promise<unknown> {
  const failed = once(worker, 'error').then(([error]) => {
    throw error;
  });
  const [message] = (await Promise.race([once(worker, 'message'), failed])) as unknown[];
  return message;
}

const scenarios: Record<string, (teacher: string) => Promise<void>> = {
  /** process.exit() between two events. */
  async exit(teacher) {
    await busy(teacher);
    process.exit(7);
  },
  /** process.exit() from inside a callback of the compute thread. */
  async 'exit-in-progress'(teacher) {
    await busy(teacher, () => process.exit(7));
  },
  async 'exit-with-queue'(teacher) {
    const mae = await busy(teacher);
    for (let i = 0; i < 20; i += 1) mae.reconstruct(makeImages(4)).catch(() => undefined);
    process.exit(7);
  },
  async throw(teacher) {
    await busy(teacher);
    setImmediate(() => {
      throw new Error('thrown on purpose');
    });
  },
  async reject(teacher) {
    await busy(teacher);
    void Promise.reject(new Error('rejected on purpose'));
  },
  /** An idle loaded model keeps nothing alive. */
  async natural(teacher) {
    const mae = await MaskedAutoencoder.load(teacher);
    await mae.scorePatches(makeImages(1));
    console.log('scored');
  },
  /** A waiting call does keep the process alive until it is done. */
  async 'natural-while-waiting'(teacher) {
    const mae = await MaskedAutoencoder.load(teacher);
    void mae.scoreMap(makeImages(2), { rounds: 4 }).then(() => {
      console.log('scored');
    });
  },
  async 'terminate-worker'(teacher) {
    for (let i = 0; i < 3; i += 1) {
      const worker = startWorker('busy', teacher);
      await firstMessage(worker);
      await worker.terminate();
    }
    console.log(Number.isFinite(await checksum(teacher)) ? 'usable' : 'broken');
  },
  async 'worker-exit'(teacher) {
    const worker = startWorker('exit', teacher);
    const [code] = (await once(worker, 'exit')) as [number];
    console.log(`worker ${String(code)}`);
  },
  async 'worker-throw'(teacher) {
    const worker = startWorker('throw', teacher);
    const [error] = (await once(worker, 'error')) as [Error];
    console.log(error.message);
  },
  async 'exit-with-busy-workers'(teacher) {
    const workers = [startWorker('busy', teacher), startWorker('busy', teacher)];
    await Promise.all(workers.map(firstMessage));
    await busy(teacher);
    process.exit(7);
  },
  /** Main thread and workers at once, each with its own core; the numbers do not depend on where they are computed. */
  async workers(teacher) {
    const workers = [1, 2, 3].map(() => startWorker('checksum', teacher));
    const sums = await Promise.all([checksum(teacher), ...workers.map(firstMessage)]);
    console.log(new Set(sums).size === 1 ? 'equal' : JSON.stringify(sums));
  },
};

const workerTasks: Record<string, (teacher: string) => Promise<void>> = {
  async busy(teacher) {
    await busy(teacher);
    parentPort?.postMessage('busy');
  },
  async exit(teacher) {
    await busy(teacher);
    process.exit(5);
  },
  async throw(teacher) {
    await busy(teacher);
    throw new Error('thrown in a worker');
  },
  async checksum(teacher) {
    parentPort?.postMessage(await checksum(teacher));
  },
};

if (isMainThread) {
  const [, , name = '', teacher = ''] = process.argv;
  const scenario = scenarios[name];
  if (scenario === undefined) throw new Error(`There is no scenario '${name}'.`);
  await scenario(teacher);
} else {
  const { task, teacher } = workerData as { task: string; teacher: string };
  await workerTasks[task]?.(teacher);
}
