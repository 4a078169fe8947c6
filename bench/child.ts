/** The parent's side of bench/PROTOCOL.md: starts a contender and talks to it. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { residentOf } from './resident.js';

/** How a contender is started. */
export interface Program {
  command: string;
  args: readonly string[];
  env?: Readonly<Record<string, string>>;
}

/** A contender's refusal, or its death. */
export class ContenderError extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(message);
  }

  /** Not available on this machine, as opposed to broken. */
  get unsupported(): boolean {
    return this.code === 'ERR_LTRP_UNSUPPORTED';
  }
}

export type Reply = Record<string, unknown>;

interface Waiting {
  id: number;
  resolve: (reply: Reply) => void;
  reject: (error: Error) => void;
  timer: NodeJS.Timeout;
}

/** What is kept of a contender's standard error, to explain its death. */
const keptLog = 4000;

/** One contender's process. Requests are answered one at a time. */
export class Contender {
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #name: string;
  #waiting: Waiting | undefined;
  #ended: ContenderError | undefined;
  #log = '';
  #next = 1;

  constructor(name: string, program: Program) {
    this.#name = name;
    this.#child = spawn(program.command, program.args, {
      env: { ...process.env, ...program.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.#child.stderr.on('data', (chunk: Buffer) => {
      this.#log = (this.#log + chunk.toString('utf8')).slice(-keptLog);
    });
    createInterface({ input: this.#child.stdout }).on('line', (line) => {
      this.#onLine(line);
    });
    this.#child.stdin.on('error', () => undefined); // its exit is what counts, and is reported below
    this.#child.on('error', (error) => {
      this.#end(`cannot be started: ${error.message}`);
    });
    this.#child.on('close', (status, signal) => {
      this.#end(signal === null ? `ended with status ${String(status)}` : `was ended by ${signal}`);
    });
  }

  /**
   * Sends a request and waits for its answer.
   *
   * @param timeoutMs - after which the contender is ended and counts as failed.
   * @throws {ContenderError} what the contender refused with, `ERR_BENCH_ENDED` or `ERR_BENCH_TIMEOUT`.
   */
  ask(op: string, fields: Reply = {}, timeoutMs = 600_000): Promise<Reply> {
    if (this.#ended) return Promise.reject(this.#ended);
    if (this.#waiting) return Promise.reject(new Error(`${this.#name} is still busy.`));
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting = undefined;
        this.#child.kill('SIGKILL');
        reject(
          new ContenderError(
            'ERR_BENCH_TIMEOUT',
            `${this.#name} did not answer '${op}' within ${timeoutMs / 1000} s.`,
          ),
        );
      }, timeoutMs);
      this.#waiting = { id, resolve, reject, timer };
      this.#child.stdin.write(`${JSON.stringify({ id, op, ...fields })}\n`);
    });
  }

  /** Of the process; undefined when it could not be started. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Resident memory in bytes, now and at its highest since {@link resetPeak}; null where the system does not tell. */
  memory(): { now: number; peak: number } | null {
    return residentOf(this.#child.pid);
  }

  /** Forgets the highest memory so far (Linux; see proc(5), clear_refs). */
  resetPeak(): void {
    try {
      writeFileSync(`/proc/${String(this.#child.pid)}/clear_refs`, '5');
    } catch {
      // Elsewhere the peak is that of the whole life of the process, or unknown.
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Ends the process and waits until it is gone. */
  async close(): Promise<void> {
    if (this.#ended) return;
    const gone = new Promise<void>((resolve) =>
      this.#child.once('close', () => {
        resolve();
      }),
    );
    this.#child.stdin.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 5000);
    await gone;
    clearTimeout(timer);
  }

  #onLine(line: string): void {
    let reply: Reply;
    try {
      reply = JSON.parse(line) as Reply;
    } catch {
      this.#log = `${this.#log}${line}\n`.slice(-keptLog); // a library that talks on standard output
      return;
    }
    const waiting = this.#waiting;
    if (waiting?.id !== reply['id']) return;
    this.#waiting = undefined;
    clearTimeout(waiting?.timer);
    if (reply['ok'] === true) waiting?.resolve(reply);
    else {
      waiting?.reject(new ContenderError(String(reply['code']), String(reply['message'])));
    }
  }

  #end(how: string): void {
    if (this.#ended) return;
    const log = this.#log.trim().split('\n').slice(-6).join(' | ');
    this.#ended = new ContenderError(
      'ERR_BENCH_ENDED',
      `${this.#name} ${how}${log === '' ? '.' : `: ${log}`}`,
    );
    const waiting = this.#waiting;
    this.#waiting = undefined;
    clearTimeout(waiting?.timer);
    waiting?.reject(this.#ended);
  }
}
