/** Measures each contender in processes of their own. */
import { execFile } from 'node:child_process';
import process from 'node:process';
import { LtrpError, type LtrpErrorCode, unsupported } from '../errors.js';
import { ownProcess } from '../own-process.js';
import type { Measured } from './decide.js';
import type { Answers, Setting, Task } from './tasks.js';

/** Bytes of output: a profile's messages. */
const mostOutput = 2 ** 24;

function ask<Kind extends Task['kind']>(
  task: Task & { kind: Kind },
  signal: AbortSignal | undefined,
): Promise<Answers[Kind]> {
  const { args, env } = ownProcess('measure-main', import.meta.url);
  return new Promise((resolve, reject) =>
    execFile(
      process.execPath,
      [...args, JSON.stringify(task)],
      { env, signal, maxBuffer: mostOutput, killSignal: 'SIGKILL' },
      (error, stdout, stderr) => {
        const last = stdout.trimEnd().split('\n').at(-1) ?? '';
        if (signal?.aborted === true) reject(signal.reason as Error);
        else if (error !== null || !last.startsWith('{')) reject(failed(error, stderr));
        else {
          const { answer, code, message } = JSON.parse(last) as Reply<Kind>;
          if (answer !== undefined) resolve(answer);
          else if (code === 'ERR_LTRP_INTERNAL') reject(runtimeFailed(message ?? ''));
          else reject(new LtrpError(code ?? 'ERR_LTRP_INTERNAL', message ?? ''));
        }
      },
    ),
  );
}

interface Reply<Kind extends Task['kind']> {
  answer?: Answers[Kind];
  code?: LtrpErrorCode;
  message?: string;
}

const firstLine = (text: string): string => text.trim().split('\n')[0] ?? '';

/** What onnxruntime says of a model that it cannot load or run. */
function runtimeFailed(message: string): LtrpError {
  return unsupported(
    `onnxruntime-node does not run the model: ${firstLine(message).replace(/\.$/, '')}.`,
  );
}

function failed(error: Error | null, stderr: string): LtrpError {
  return unsupported(
    `The measuring process ended without an answer: ${firstLine(stderr) || (error?.message ?? 'no reason')}`,
    error,
  );
}

/** All of it: times in one process, then memory in one for each contender, then operations. Profiles go into `folder`. */
export async function measure(
  setting: Setting,
  shares: readonly number[],
  { rounds, folder, signal }: { rounds: number; folder: string; signal: AbortSignal | undefined },
): Promise<Measured & { uncounted: string[] }> {
  const times = await ask({ ...setting, kind: 'time', rounds }, signal);
  const memory: number[] = [];
  const full = await ask({ ...setting, kind: 'memory', arm: null }, signal);
  for (const arm of shares.keys())
    memory.push(await ask({ ...setting, kind: 'memory', arm }, signal));
  const flops = await ask({ ...setting, kind: 'flops', folder }, signal);
  const counted = (value: number | undefined): number | null =>
    value === undefined || flops.uncounted.length > 0 ? null : value;
  return {
    patches: setting.patches,
    full: { times: times.full, flops: counted(flops.full), memory: full },
    scorer: { times: times.scorer, flops: flops.scorer },
    shares: shares.map((share, i) => ({
      share,
      times: times.shares[i] ?? [],
      flops: counted(flops.shares[i]),
      memory: memory[i] ?? NaN,
    })),
    uncounted: flops.uncounted,
  };
}
