/** Runs support/lifecycle-child.ts, compiled, so that any Node can run it: what a process ends with is judged from outside. */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { repository } from './paths.js';

let program: string | undefined;

/** Compiles the program into build/, beside a stand-in for lib/index.js that leads to what is built. */
function compiled(): string {
  if (program !== undefined) return program;
  const folder = join(repository, 'build', 'lifecycle');
  mkdirSync(join(folder, 'test', 'support'), { recursive: true });
  mkdirSync(join(folder, 'lib'), { recursive: true });
  writeFileSync(join(folder, 'lib', 'index.js'), "export * from '../../../dist/index.js';\n");
  for (const name of ['lifecycle-child', 'lifecycle-models']) {
    const source = readFileSync(join(repository, 'test', 'support', `${name}.ts`), 'utf8');
    const { outputText } = ts.transpileModule(source, {
      compilerOptions: { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext },
    });
    writeFileSync(join(folder, 'test', 'support', `${name}.js`), outputText);
  }
  program = join(folder, 'test', 'support', 'lifecycle-child.js');
  return program;
}

export interface Ending {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/**
 * Runs one scenario to its end; killed with SIGKILL after two minutes.
 *
 * @param options.turn - tells repetitions apart: scenarios that end at any time take another moment in every turn.
 * @param options.kill - sent as soon as the scenario says that it is busy.
 * @param options.killAfter - milliseconds after which `kill` is sent instead, whatever is being done.
 */
export function scenario(
  name: string,
  teacher: string,
  options: {
    node?: string;
    turn?: number;
    kill?: NodeJS.Signals;
    killAfter?: number;
  } = {},
): Promise<Ending> {
  const { node = process.execPath, turn = 0, kill, killAfter } = options;
  const child = spawn(node, [compiled(), name, teacher, String(turn)], {
    timeout: 120_000,
    killSignal: 'SIGKILL',
  });
  let [stdout, stderr] = ['', ''];
  let killed = false;
  const end = (): void => {
    if (kill === undefined || killed) return;
    killed = true;
    child.kill(kill);
  };
  const timer = killAfter === undefined ? undefined : setTimeout(end, killAfter);
  child.stdout.on('data', (chunk: Buffer) => {
    stdout += chunk.toString();
    if (killAfter === undefined && stdout.includes('busy')) end();
  });
  child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      clearTimeout(timer);
      resolve({ code, signal, stdout: stdout.trim(), stderr });
    });
  });
}

/** What a scenario has to end with. */
export interface Expected {
  readonly name: string;
  readonly code?: number;
  readonly signal?: NodeJS.Signals;
  readonly stdout?: string;
  /** In standard error, which is otherwise empty. */
  readonly stderr?: string;
  readonly kill?: NodeJS.Signals;
  /** Milliseconds, by turn. */
  readonly killAfter?: (turn: number) => number;
}

export const endings: readonly Expected[] = [
  { name: 'exit', code: 7 },
  { name: 'exit-in-progress', code: 7 },
  { name: 'exit-with-queue', code: 7 },
  { name: 'exit-with-busy-workers', code: 7 },
  { name: 'exit-any-time', code: 7 },
  { name: 'throw', code: 1, stderr: 'thrown on purpose' },
  { name: 'reject', code: 1, stderr: 'rejected on purpose' },
  { name: 'signal', signal: 'SIGTERM', stdout: 'busy', kill: 'SIGTERM' },
  { name: 'signal', signal: 'SIGINT', stdout: 'busy', kill: 'SIGINT' },
  { name: 'signal-handled', code: 7, stdout: 'busy', kill: 'SIGTERM' },
  { name: 'exit-any-time', signal: 'SIGTERM', kill: 'SIGTERM', killAfter: (turn) => turn * 8 },
];

/** Scenarios that do many things each before they end by themselves. */
export const companies: readonly Expected[] = [
  { name: 'natural', code: 0, stdout: 'scored' },
  { name: 'natural-while-waiting', code: 0, stdout: 'scored' },
  { name: 'workers', code: 0, stdout: 'equal' },
  { name: 'worker-exit', code: 0, stdout: 'worker 5' },
  { name: 'worker-throw', code: 0, stdout: 'thrown in a worker' },
  { name: 'terminate-worker', code: 0, stdout: 'usable' },
  { name: 'terminate-worker-any-time', code: 0, stdout: 'usable' },
  { name: 'terminate-many-workers', code: 0, stdout: 'usable' },
  { name: 'fork', code: 0, stdout: 'equal SIGTERM' },
  { name: 'cluster', code: 0, stdout: 'equal SIGTERM 0 0' },
];

/** One sentence about what was different, or null. */
export function deviation(expected: Expected, ending: Ending): string | null {
  const { code = null, signal = null, stdout = '', stderr } = expected;
  const right =
    // Killed at any time, it may just have ended by itself.
    ((ending.code === code && ending.signal === signal) ||
      (expected.killAfter !== undefined && ending.code === 7)) &&
    ending.stdout === stdout &&
    (stderr === undefined ? ending.stderr === '' : ending.stderr.includes(stderr));
  return right ? null : `${expected.name}: ${JSON.stringify(ending)}`;
}
