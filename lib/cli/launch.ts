/** `ltrp launch`: the same command several times on this machine, as ranks that train one model. */
import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { notFound } from '../errors.js';
import type { CoreBinding } from '../native/binding.js';
import { loadCore } from '../native/loader.js';
import { threadsEach } from '../training/ranks.js';
import { exitCodes } from './exit-codes.js';
import { complain } from './image-command.js';
import { interruption, interruptSignal } from './interrupt.js';
import { libtorchOption, parseInteger } from './options.js';

interface LaunchSettings {
  processes: number;
  libtorch?: string;
}

/** Milliseconds after the first failure until the others are told to end, and are killed. */
const untilTerm = 5000;
const untilKill = 10000;

export function register(program: Command): void {
  const command = program
    .command('launch')
    .summary('train on several processes of this machine')
    .description(
      `Starts COMMAND several times on this machine, as ranks that train one model. COMMAND is pretrain, train or finetune with \
its options, or any program that reads torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT).

--batch-size is still the whole batch, and the curve is that of one process. When a process fails or is stopped, all end; \
--resume continues, with any number of processes. Several machines: docs/many-machines.md.`,
    )
    .argument('<command...>', 'command that each process runs')
    .requiredOption('-n, --processes <count>', 'number of processes', parseInteger(1))
    .addOption(libtorchOption())
    .passThroughOptions();
  command.addHelpText(
    'after',
    `
Examples:
  ltrp launch -n 2 pretrain --data photos --out runs/teacher --batch-size 128
  ltrp launch -n 4 pretrain --out runs/teacher --resume

Exit codes:
  0              all processes are done
  129, 130, 143  stopped, as COMMAND alone would be
  any other      that of the first process that failed; 128 plus the signal's number if a signal ended it`,
  );
  command.action(async (words: string[], settings: LaunchSettings) => {
    process.exitCode = await launch(command.parent as Command, words, settings);
  });
}

/** The program of a command: this one for its own subcommands. */
function programOf(program: Command, words: readonly string[]): [file: string, args: string[]] {
  const own = words[0] === 'ltrp' ? words.slice(1) : words;
  const named = program.commands.some((command) => command.name() === own[0]);
  if (!named && words[0] !== 'ltrp') return [words[0] as string, words.slice(1)];
  return [process.execPath, [...process.execArgv, process.argv[1] as string, ...own]];
}

async function launch(
  program: Command,
  words: readonly string[],
  { processes, libtorch }: LaunchSettings,
): Promise<number> {
  const stop = interruptSignal();
  const core = await loadCore({ libtorch });
  const port = core.hostRanks();
  const [file, args] = programOf(program, words);
  const children: ChildProcess[] = [];
  // Whatever ends this process: nobody is left behind.
  process.once('exit', () => signalAll(children, 'SIGKILL'));
  stop.addEventListener('abort', () => signalAll(children, interruption()?.name ?? 'SIGTERM'));
  let failure: number | undefined;
  const outcomes = Array.from({ length: processes }, async (_, rank) => {
    const child = spawn(file, args, {
      // A group of its own: whatever it starts is signalled with it.
      detached: true,
      stdio: ['ignore', 'inherit', 'inherit'],
      env: {
        OMP_NUM_THREADS: String(threadsEach(processes)),
        ...process.env,
        RANK: String(rank),
        LOCAL_RANK: String(rank),
        GROUP_RANK: '0',
        WORLD_SIZE: String(processes),
        LOCAL_WORLD_SIZE: String(processes),
        MASTER_ADDR: '127.0.0.1',
        MASTER_PORT: String(port),
        TORCHELASTIC_USE_AGENT_STORE: 'True',
      },
    });
    children.push(child);
    const code = await codeOf(child, file);
    if (code === 0 || failure !== undefined) return;
    failure = code;
    if (!stopCodes.includes(code)) void endOthers(core, children, rank, child, code);
  });
  await Promise.all(outcomes);
  return failure ?? exitCodes.ok;
}

/** Of processes that were asked to stop: the others have agreed to do so too. */
const stopCodes: readonly number[] = [
  exitCodes.interrupted,
  exitCodes.hungUp,
  exitCodes.terminated,
];

async function endOthers(
  core: CoreBinding,
  children: readonly ChildProcess[],
  rank: number,
  child: ChildProcess,
  code: number,
): Promise<void> {
  const how =
    child.signalCode === null ? `ended with exit code ${code}` : `was ended by ${child.signalCode}`;
  const message = `rank ${rank} ${how}`;
  core.endHostedRanks(message);
  complain(`${message}; all others end.`);
  await sleep(untilTerm, undefined, { ref: false });
  signalAll(children, 'SIGTERM');
  await sleep(untilKill - untilTerm, undefined, { ref: false });
  signalAll(children, 'SIGKILL');
}

function codeOf(child: ChildProcess, file: string): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once('error', (cause) =>
      reject(notFound(`${file} cannot be started: ${cause.message}`, cause)),
    );
    child.once('exit', (code, signal) =>
      resolve(code ?? 128 + constants.signals[signal as NodeJS.Signals]),
    );
  });
}

/** To those that run, and to what they have started. */
function signalAll(children: readonly ChildProcess[], signal: NodeJS.Signals): void {
  for (const { pid, exitCode, signalCode } of children) {
    if (pid === undefined || exitCode !== null || signalCode !== null) continue;
    try {
      process.kill(-pid, signal);
    } catch {
      // It has just ended.
    }
  }
}
