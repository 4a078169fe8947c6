/** Runs support/lifecycle-child.ts, compiled, so that any Node can run it: what a process ends with is judged from outside. */
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';
import { outcomeOf, type Outcome } from './command.js';
import { repository } from './paths.js';

let program: string | undefined;

/** Compiles the program into build/, beside stand-ins for modules of lib that lead to what is built. */
function compiled(): string {
  if (program !== undefined) return program;
  const folder = join(repository, 'build', 'lifecycle');
  mkdirSync(join(folder, 'test', 'support'), { recursive: true });
  mkdirSync(join(folder, 'lib', 'native'), { recursive: true });
  for (const module of ['index.js', 'native/loader.js']) {
    const built = pathToFileURL(join(repository, 'dist', module)).href;
    writeFileSync(join(folder, 'lib', module), `export * from ${JSON.stringify(built)};\n`);
  }
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

/** What the first supported Nodes say about how sharp reads its package.json. */
export const withoutWarnings = (stderr: string): string =>
  stderr.replace(
    /^\(node:\d+\) ExperimentalWarning: Importing JSON modules .*\n(\(Use `node --trace-warnings .*\n)?/gm,
    '',
  );

/** When a scenario is sent a signal: so many milliseconds after it has said a word. */
interface Moment {
  word: string;
  milliseconds: number;
}

/** What a scenario has to end with. */
export interface Expected {
  readonly name: string;
  readonly code?: number;
  readonly signal?: NodeJS.Signals;
  /** Lines are joined by blanks. */
  readonly stdout?: string | RegExp;
  /** In standard error, which is otherwise empty. */
  readonly stderr?: string;
  readonly kill?: NodeJS.Signals;
  /** When `kill` is sent, by turn; as soon as it says "busy" unless this says otherwise. */
  readonly when?: (turn: number) => Moment;
  /** How many workers or processes end in one turn, beside the program itself; none unless this says otherwise. */
  readonly ends?: number;
  /** The last stage said before the end, each of which has to be met in this share of all turns. */
  readonly stages?: Readonly<Record<string, number>>;
}

/** What happened in one turn, and one sentence about what should not have. */
export interface Turn {
  problem: string | null;
  ending: Outcome;
  /** Which of the expected stages it ended in. */
  stage: string | undefined;
}

/**
 * Runs one scenario to its end; killed with SIGKILL after two minutes.
 *
 * @param options.turn - tells repetitions apart: scenarios that end at any time take another moment in every turn.
 */
export async function take(
  expected: Expected,
  teacher: string,
  options: { node?: string; turn?: number } = {},
): Promise<Turn> {
  const { name, kill, when, stages = {} } = expected;
  const { node = process.execPath, turn = 1 } = options;
  const moment = when?.(turn) ?? { word: 'busy', milliseconds: 0 };
  const child = spawn(node, [compiled(), name, teacher, String(turn)], {
    timeout: 120_000,
    killSignal: 'SIGKILL',
  });
  let said = '';
  let timer: NodeJS.Timeout | undefined;
  child.stdout.on('data', (chunk: Buffer) => {
    said += chunk.toString();
    if (kill === undefined || !said.includes(moment.word)) return;
    timer ??= setTimeout(() => child.kill(kill), moment.milliseconds);
  });
  const outcome = await outcomeOf(child);
  clearTimeout(timer);
  const ending = { ...outcome, stdout: outcome.stdout.trim().replaceAll('\n', ' ') };
  const stage = ending.stdout.split(' ').findLast((word) => word in stages);
  return { problem: deviation(expected, ending), ending, stage };
}

/** One sentence about what was different, or null. */
function deviation(expected: Expected, ending: Outcome): string | null {
  const { code = null, signal = null, stdout = '', stderr } = expected;
  const right =
    ending.code === code &&
    ending.signal === signal &&
    (typeof stdout === 'string' ? ending.stdout === stdout : stdout.test(ending.stdout)) &&
    (stderr === undefined ? withoutWarnings(ending.stderr) === '' : ending.stderr.includes(stderr));
  return right ? null : `${expected.name}: ${JSON.stringify(ending)}`;
}

/** A title for people: what is done to the process. */
export const titleOf = ({ name, kill, stderr, code }: Expected): string =>
  `${name}, ${kill ?? (stderr !== undefined ? 'an error' : code === 0 ? 'by itself' : 'process.exit()')}`;

/** Within each stage of everyStage (lifecycle-child.ts) another moment in every turn. */
const inAnyStage = (turn: number): Moment => {
  const word = ['opening', 'reading', 'computing'][turn % 3] ?? 'opening';
  // Opening may take 100 ms only.
  return { word, milliseconds: (turn * 37) % (word === 'opening' ? 100 : 180) };
};
const stages = { opening: 0.2, reading: 0.2, computing: 0.2 };
const anyStage = { when: inAnyStage, stages, stdout: /^opening( reading( computing)?)?$/ };

/** Many turns have to end while LibTorch is being opened. */
const whileOpening = { opening: 0.3 };

export const endings: readonly Expected[] = [
  { name: 'exit', code: 7 },
  { name: 'exit-in-progress', code: 7 },
  { name: 'exit-with-queue', code: 7 },
  { name: 'exit-with-busy-workers', code: 7, ends: 2 },
  { name: 'exit-any-time', code: 7 },
  { name: 'exit-in-one-piece', code: 7, stdout: 'soon' },
  { name: 'exit-while-opening', code: 7, stdout: /^(opening|loaded)$/, stages: whileOpening },
  { name: 'throw', code: 1, stderr: 'thrown on purpose' },
  {
    name: 'throw-while-opening',
    code: 1,
    stderr: 'thrown on purpose',
    stdout: /^(opening|loaded)$/,
    stages: whileOpening,
  },
  { name: 'reject', code: 1, stderr: 'rejected on purpose' },
  { name: 'signal', signal: 'SIGTERM', stdout: 'busy', kill: 'SIGTERM' },
  { name: 'signal', signal: 'SIGINT', stdout: 'busy', kill: 'SIGINT' },
  { name: 'signal-handled', code: 7, stdout: 'busy', kill: 'SIGTERM' },
  { name: 'endless', signal: 'SIGTERM', kill: 'SIGTERM', ...anyStage },
  { name: 'endless-handled', code: 7, kill: 'SIGTERM', ...anyStage },
];

/** Scenarios that do many things each before they end by themselves. */
export const companies: readonly Expected[] = [
  { name: 'natural', code: 0, stdout: 'scored' },
  { name: 'natural-while-waiting', code: 0, stdout: 'scored' },
  { name: 'workers', code: 0, stdout: 'equal', ends: 3 },
  { name: 'worker-exit', code: 0, stdout: /^(worker 5 ?){5}$/, ends: 5 },
  { name: 'worker-throw', code: 0, stdout: /^(thrown in a worker ?){5}$/, ends: 5 },
  { name: 'terminate-worker', code: 0, stdout: 'usable', ends: 3 },
  { name: 'terminate-in-one-piece', code: 0, stdout: 'soon', ends: 1 },
  { name: 'terminate-worker-any-time', code: 0, stdout: 'usable', ends: 10 },
  { name: 'terminate-many-workers', code: 0, stdout: 'usable', ends: 8 },
  {
    name: 'terminate-while-opening',
    code: 0,
    stdout: /^(opening|loaded) usable$/,
    stages: whileOpening,
  },
  {
    name: 'worker-exit-while-opening',
    code: 0,
    stdout: /^(opening|loaded) 5 usable$/,
    stages: whileOpening,
  },
  { name: 'fork', code: 0, stdout: 'equal SIGTERM', ends: 3 },
  { name: 'cluster', code: 0, stdout: 'equal SIGTERM 0 0', ends: 3 },
];
