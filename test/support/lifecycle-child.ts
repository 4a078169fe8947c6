/**
 * One scenario in a process of its own: `lifecycle-child.js SCENARIO TEACHER [TURN]` (support/lifecycle.ts compiles and runs
 * it). What a process does while the compute thread is busy can only be judged from outside.
 */
import { fork, type ChildProcess } from 'node:child_process';
import cluster from 'node:cluster';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { MaskedAutoencoder } from '../../lib/index.js';
import { loadCore } from '../../lib/native/loader.js';
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

/** Starts a computation of minutes that has no progress to report, and waits until it is in the middle of it. */
async function onePiece(teacher: string): Promise<void> {
  const mae = await MaskedAutoencoder.load(teacher);
  mae.encode(makeImages(1, 2048), { maskRatio: 0.01 }).catch(() => undefined);
  await sleep(700);
}

/** A second is for a busy machine; it is a tenth of that on one that does nothing else. */
const soon = (start: number): string => {
  const milliseconds = performance.now() - start;
  return milliseconds < 1000 ? 'soon' : `after ${milliseconds.toFixed(0)} ms`;
};

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

function startWorker(task: string, teacher: string, milliseconds = 0): Worker {
  return new Worker(new URL(import.meta.url), { workerData: { task, teacher, milliseconds } });
}

/** This program again as a child process with a channel. */
function startFork(task: string, teacher: string): ChildProcess {
  return fork(fileURLToPath(import.meta.url), [`fork:${task}`, teacher]);
}

async function firstMessage(worker: Worker | ChildProcess): Promise<unknown> {
  const failed = once(worker, 'error').then(([error]) => {
    throw error;
  });
  const [message] = (await Promise.race([once(worker, 'message'), failed])) as unknown[];
  return message;
}

/** Other moments in every turn: milliseconds after which a process or a worker is ended. */
const moment = (turn: number): number => (turn * 37) % 150;

/**
 * Everything a model goes through, never ending by itself; says when each stage begins. LibTorch is opened on a thread of
 * libuv's pool (100 ms and more, once), weights are read for 200 ms, then models are loaded, compute and are disposed of.
 */
async function everyStage(teacher: string): Promise<never> {
  console.log('opening');
  await loadCore();
  console.log('reading');
  const start = performance.now();
  while (performance.now() - start < 200) (await MaskedAutoencoder.load(teacher)).dispose();
  console.log('computing');
  for (;;) await checksum(teacher);
}

/** The same for a first load, which takes 100 ms on a fast machine. */
const openingMoment = (turn: number): number => (turn * 53) % 230;

/** Begins the first load of the process and says what had become of it when `end` is called. */
function whileOpening(teacher: string, milliseconds: number, end: () => void): void {
  let stage = 'opening';
  void MaskedAutoencoder.load(teacher).then(() => (stage = 'loaded'));
  setTimeout(() => {
    console.log(stage);
    end();
  }, milliseconds);
}

const scenarios: Record<string, (teacher: string, turn: number) => void | Promise<void>> = {
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
  /** process.exit() in a computation that is one piece: 65,536 patches, which take minutes. */
  async 'exit-in-one-piece'(teacher) {
    await onePiece(teacher);
    const start = performance.now();
    process.once('exit', () => {
      console.log(soon(start));
    });
    process.exit(7);
  },
  async 'terminate-in-one-piece'(teacher) {
    const worker = startWorker('one-piece', teacher);
    await firstMessage(worker);
    const start = performance.now();
    await worker.terminate();
    console.log(soon(start));
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
    for (let i = 0; i < 5; i += 1) {
      const worker = startWorker('exit', teacher);
      console.log('worker', ...((await once(worker, 'exit')) as [number]));
    }
  },
  async 'worker-throw'(teacher) {
    for (let i = 0; i < 5; i += 1) {
      const worker = startWorker('throw', teacher);
      const [error] = (await once(worker, 'error')) as [Error];
      console.log(error.message);
    }
  },
  async 'exit-with-busy-workers'(teacher) {
    const workers = [startWorker('busy', teacher), startWorker('busy', teacher)];
    await Promise.all(workers.map(firstMessage));
    await busy(teacher);
    process.exit(7);
  },
  /** process.exit() whatever is being done: reading weights, computing, settling. */
  async 'exit-any-time'(teacher, turn) {
    setTimeout(() => process.exit(7), moment(turn)).unref();
    for (;;) {
      const mae = await MaskedAutoencoder.load(teacher);
      await mae.scorePatches(makeImages(2));
      mae.dispose();
    }
  },
  /** Never ends by itself: waits for a signal in every stage. */
  endless: everyStage,
  async 'endless-handled'(teacher) {
    process.once('SIGTERM', () => process.exit(7));
    await everyStage(teacher);
  },
  /** process.exit() in the middle of the first load. */
  'exit-while-opening'(teacher, turn) {
    whileOpening(teacher, openingMoment(turn), () => process.exit(7));
  },
  'throw-while-opening'(teacher, turn) {
    whileOpening(teacher, openingMoment(turn), () => {
      throw new Error('thrown on purpose');
    });
  },
  /** The first load of the process is a worker's, which is terminated meanwhile; in every other turn the main thread loads too. */
  async 'terminate-while-opening'(teacher, turn) {
    const worker = startWorker('load', teacher);
    let stage: unknown;
    worker.on('message', (message: unknown) => (stage = message));
    await once(worker, 'message');
    const sum = turn % 2 === 0 ? undefined : checksum(teacher);
    await sleep(openingMoment(turn));
    console.log(stage);
    await worker.terminate();
    const later = await checksum(teacher);
    console.log(Number.isFinite(later) && ((await sum) ?? later) === later ? 'usable' : 'broken');
  },
  /** The same, ended from inside. */
  async 'worker-exit-while-opening'(teacher, turn) {
    const worker = startWorker('load-and-exit', teacher, openingMoment(turn));
    const [code] = (await once(worker, 'exit')) as [number];
    console.log(code, Number.isFinite(await checksum(teacher)) ? 'usable' : 'broken');
  },
  /** Waits to be ended by a signal from outside, with the system's own handling of it. */
  async signal(teacher) {
    await busy(teacher);
    console.log('busy');
  },
  /** The same with a handler, as servers have one. */
  async 'signal-handled'(teacher) {
    process.once('SIGTERM', () => process.exit(7));
    await busy(teacher);
    console.log('busy');
  },
  async 'terminate-worker-any-time'(teacher, turn) {
    for (let i = 0; i < 10; i += 1) {
      const worker = startWorker('endless', teacher);
      await once(worker, 'online');
      await sleep(2 * moment(turn * 10 + i));
      await worker.terminate();
    }
    console.log(Number.isFinite(await checksum(teacher)) ? 'usable' : 'broken');
  },
  /** Eight workers that load, compute and are terminated all at once, while the main thread computes too. */
  async 'terminate-many-workers'(teacher) {
    const workers = Array.from({ length: 8 }, () => startWorker('busy', teacher));
    const sum = checksum(teacher);
    await Promise.all(workers.map(firstMessage));
    await Promise.all(workers.map((worker) => worker.terminate()));
    console.log((await sum) === (await checksum(teacher)) ? 'usable' : 'broken');
  },
  /** Forked processes beside a computing parent: same numbers; one that is killed while it computes takes nobody along. */
  async fork(teacher) {
    const children = [1, 2].map(() => startFork('checksum', teacher));
    const sums = await Promise.all([checksum(teacher), ...children.map(firstMessage)]);
    const killed = startFork('busy', teacher);
    await firstMessage(killed);
    killed.kill('SIGTERM');
    const [, signal] = (await once(killed, 'exit')) as [number | null, string | null];
    console.log(new Set(sums).size === 1 ? 'equal' : JSON.stringify(sums), signal);
  },
  /** A cluster whose workers compute; one dies while busy, the others leave when they are asked to. */
  async cluster(teacher) {
    cluster.setupPrimary({ exec: fileURLToPath(import.meta.url), args: ['cluster', teacher] });
    const workers = [1, 2, 3].map(() => cluster.fork());
    const sums = await Promise.all(
      workers.map(async (worker) => ((await once(worker, 'message')) as unknown[])[0]),
    );
    const ends = workers.map((worker) => once(worker, 'exit'));
    workers[0]?.send('busy');
    await once(workers[0] as object as ChildProcess, 'message');
    workers[0]?.process.kill('SIGTERM');
    for (const worker of workers.slice(1)) worker.disconnect();
    const endings = ((await Promise.all(ends)) as [number | null, string | null][]).map(
      ([code, signal]) => signal ?? code,
    );
    console.log(new Set(sums).size === 1 ? 'equal' : JSON.stringify(sums), ...endings);
  },
  /** Main thread and workers at once, each with its own core; the numbers do not depend on where they are computed. */
  async workers(teacher) {
    const workers = [1, 2, 3].map(() => startWorker('checksum', teacher));
    const sums = await Promise.all([checksum(teacher), ...workers.map(firstMessage)]);
    console.log(new Set(sums).size === 1 ? 'equal' : JSON.stringify(sums));
  },
};

const workerTasks: Record<string, (teacher: string, milliseconds: number) => void | Promise<void>> =
  {
    async busy(teacher) {
      await busy(teacher);
      parentPort?.postMessage('busy');
    },
    async 'one-piece'(teacher) {
      await onePiece(teacher);
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
    async endless(teacher) {
      for (;;) await checksum(teacher);
    },
    async load(teacher) {
      parentPort?.postMessage('opening');
      await MaskedAutoencoder.load(teacher);
      parentPort?.postMessage('loaded');
      setInterval(() => undefined, 1000);
    },
    'load-and-exit'(teacher, milliseconds) {
      whileOpening(teacher, milliseconds, () => process.exit(5));
    },
  };

const forkTasks: Record<string, (teacher: string) => Promise<void>> = {
  async busy(teacher) {
    await busy(teacher);
    process.send?.('busy');
  },
  async checksum(teacher) {
    process.send?.(await checksum(teacher));
    process.disconnect();
  },
};

async function clusterWorker(teacher: string): Promise<void> {
  process.once('message', () => {
    void busy(teacher).then(() => process.send?.('busy'));
  });
  process.send?.(await checksum(teacher));
}

if (isMainThread) {
  const [, , name = '', teacher = '', turn = '0'] = process.argv;
  const scenario = cluster.isWorker
    ? clusterWorker
    : name.startsWith('fork:')
      ? forkTasks[name.slice(5)]
      : scenarios[name];
  if (scenario === undefined) throw new Error(`There is no scenario '${name}'.`);
  await scenario(teacher, Number(turn));
} else {
  const { task, teacher, milliseconds } = workerData as {
    task: string;
    teacher: string;
    milliseconds: number;
  };
  await workerTasks[task]?.(teacher, milliseconds);
}
