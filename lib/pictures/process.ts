/**
 * Decodes slow or large pictures in a separate process: sharp cannot stop a decode, but a process can be
 * killed. So an abort frees memory and processors at once, the end of this process waits for nothing, and a picture that takes
 * too much ends that process and not this one.
 */
import type { Buffer } from 'node:buffer';
import { spawn, type ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import process from 'node:process';
import { ownProcess } from '../own-process.js';
import { frameReader, writeFrame } from './frames.js';
import { decodeMemory } from './limits.js';
import type { Header, PictureSize, Pixels, Scaling } from './types.js';

/** A request to the process. */
export type Task =
  { kind: 'header' } | { kind: 'pixels'; header: Pick<Header, 'space'>; scaling: Scaling };

/** Why there is no answer: the process did not start, it ended, or it took too long. The last two are the picture's fault. */
export class ProcessError extends Error {
  constructor(
    readonly why: 'not started' | 'ended' | 'too long',
    message: string,
  ) {
    super(message);
  }
}

/** Id of the process's message that it is ready. */
export const started = -1;

interface Child {
  process: ChildProcess;
  channel: Socket;
}

interface Job {
  bytes: Buffer;
  task: Task;
  /** No caller waits for its answer any more. */
  unwanted: boolean;
  done: (answer: { head: Answer; body: Buffer }) => void;
  failed: (error: Error) => void;
}

interface Answer {
  id: number;
  header?: Header;
  size?: PictureSize;
  failed?: string;
}

/** Memory of the process itself, without pictures, in bytes. */
const ownMemory = 2 ** 29;

/** Milliseconds after which an idle process ends. */
const patience = 5000;

/** One such process, started on demand. */
export class DecodingProcess {
  #child: Child | undefined;
  readonly #jobs = new Map<number, Job>();
  #next = 0;
  #idle: NodeJS.Timeout | undefined;

  /** The header of a picture. Rejects with a {@link ProcessError}, the signal's reason, or what sharp says. */
  async header(bytes: Buffer, limits: Limits): Promise<Header> {
    return (await this.#ask(bytes, { kind: 'header' }, limits)).head.header as Header;
  }

  /** The pixels of a picture; see {@link DecodingProcess.header}. */
  async pixels(bytes: Buffer, header: Header, scaling: Scaling, limits: Limits): Promise<Pixels> {
    const task: Task = { kind: 'pixels', header: { space: header.space }, scaling };
    const { head, body } = await this.#ask(bytes, task, limits);
    return { pixels: body, ...(head.size as PictureSize) };
  }

  async #ask(
    bytes: Buffer,
    task: Task,
    { signal, seconds }: Limits,
  ): Promise<{ head: Answer; body: Buffer }> {
    signal?.throwIfAborted();
    const id = this.#next++;
    const { promise, resolve, reject } = withResolvers<{ head: Answer; body: Buffer }>();
    const job: Job = { bytes, task, unwanted: false, done: resolve, failed: reject };
    this.#jobs.set(id, job);
    const drop = (): void => {
      job.unwanted = true;
      if ([...this.#jobs.values()].every(({ unwanted }) => unwanted)) this.#kill();
    };
    const timer = setTimeout(
      () => {
        job.failed(new ProcessError('too long', `took more than ${seconds} s`));
        drop();
      },
      (seconds ?? 1e6) * 1000,
    );
    signal?.addEventListener('abort', drop, { once: true });
    try {
      const child = this.#started();
      writeFrame(child.channel, { id, task }, bytes);
      return await promise;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', drop);
      this.#jobs.delete(id);
      this.#rest();
    }
  }

  #started(): Child {
    clearTimeout(this.#idle);
    if (this.#child !== undefined) {
      hold(this.#child, true);
      return this.#child;
    }
    const child = start();
    this.#child = child;
    let ready = false;
    const ended = (why: 'not started' | 'ended', message: string): void => {
      if (this.#child !== child) return;
      this.#child = undefined;
      for (const job of this.#jobs.values()) job.failed(new ProcessError(why, message));
    };
    child.process.once('error', ({ message }) => ended('not started', message));
    child.process.once('close', (code, signal) =>
      ended(ready ? 'ended' : 'not started', signal ?? `exit code ${code}`),
    );
    child.channel.on('error', () => undefined); // it ended; 'close' says so
    child.channel.on(
      'data',
      frameReader((head, body) => {
        const answer = head as Answer;
        if (answer.id === started) ready = true;
        const job = this.#jobs.get(answer.id);
        if (answer.failed === undefined) job?.done({ head: answer, body });
        else job?.failed(new Error(answer.failed));
      }),
    );
    return child;
  }

  #kill(): void {
    const child = this.#child;
    this.#child = undefined;
    if (child !== undefined) {
      child.process.kill('SIGKILL');
      hold(child, false);
    }
    for (const job of this.#jobs.values()) job.failed(new ProcessError('ended', 'it was stopped'));
  }

  /** When idle, it does not keep its parent alive, and soon ends. */
  #rest(): void {
    const child = this.#child;
    if (child === undefined || this.#jobs.size > 0) return;
    hold(child, false);
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      this.#child = undefined;
      child.process.kill('SIGKILL');
    }, patience);
    this.#idle.unref();
  }
}

/** When the answer is of no use any more. */
export interface Limits {
  signal: AbortSignal | undefined;
  /** From now on. */
  seconds?: number | undefined;
}

function start(): Child {
  const { args, env } = ownProcess('process-main', import.meta.url);
  const limit = String(Math.ceil((decodeMemory() + ownMemory) / 1024));
  // The limit of the shell is inherited. Where the system has none, the budget of the pictures in flight is all there is.
  const script = 'ulimit -d "$0" 2>/dev/null; exec "$@"';
  try {
    const child = spawn('/bin/sh', ['-c', script, limit, process.execPath, ...args], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
      // Ctrl-C in a terminal is for this process, which decides what it ends.
      detached: true,
      env,
    });
    const [, , , channel] = (child.stdio as (Socket | null)[] | undefined) ?? [];
    if (channel) return { process: child, channel };
    child.on('error', () => undefined); // there are no file handles left, or this runtime has no such channels
    child.kill('SIGKILL');
  } catch (cause) {
    throw new ProcessError('not started', (cause as Error).message); // Node may not start processes
  }
  throw new ProcessError('not started', 'there is no channel');
}

/** Whether this process lives on for the other. */
function hold({ process: child, channel }: Child, held: boolean): void {
  for (const one of [child, channel]) {
    if (held) one.ref();
    else one.unref();
  }
}

function withResolvers<Result>(): {
  promise: Promise<Result>;
  resolve: (result: Result) => void;
  reject: (error: Error) => void;
} {
  let resolve!: (result: Result) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<Result>((done, failed) => {
    resolve = done;
    reject = failed;
  });
  return { promise, resolve, reject };
}
