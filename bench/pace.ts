/** What the sections of a run have in common: how long they may take, contenders that are opened, and turns. */
import { Contender, ContenderError, type Reply } from './child.js';
import type { ContenderSpec } from './contenders.js';

/** Long enough for threads that spin after a call to go to sleep, so that nobody pays for the one before. */
export const settleMs = 150;

export interface Pace {
  threads: number;
  rounds: number;
  /** What one timed call may take, in milliseconds. */
  budgetMs: number;
  /** A call that takes longer than this is timed only `slowRounds` times. */
  slowMs: number;
  slowRounds: number;
  /** Quick runs take the checked call of a contender that is hopelessly slow for its timing instead of a second one. */
  checkIsTiming: boolean;
  /** True once the time set aside for this part of a quick run is over: what is under way is finished, nothing is repeated. */
  isLate: () => boolean;
  say: (text: string) => void;
}

/**
 * Starts a contender and lets it load; null where this machine or this version has no such contender, which is said.
 *
 * @param started - called before it loads.
 */
export async function openContender(
  spec: ContenderSpec,
  fields: Reply,
  { threads, say }: Pick<Pace, 'threads' | 'say'>,
  started?: (process: Contender) => void,
): Promise<Contender | null> {
  const process = new Contender(spec.label, spec.program(threads));
  try {
    await process.ask('hello', { threads });
    started?.(process);
    await process.ask('load', fields);
    return process;
  } catch (error) {
    await process.close();
    if (!unsupported(error)) throw error;
    say(`  ${spec.label}: not available: ${messageOf(error)}`);
    return null;
  }
}

/** Round after round, each beginning with another entry, so that nobody always follows the same neighbour. */
export async function inTurns<Entry>(
  entries: readonly Entry[],
  { rounds, isLate, say }: Pick<Pace, 'rounds' | 'isLate' | 'say'>,
  work: (entry: Entry, round: number) => Promise<void>,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    if (round > 0 && isLate()) return;
    say(`  round ${round + 1} of ${rounds}`);
    for (let turn = 0; turn < entries.length; turn++) {
      await work(entries[(turn + round) % entries.length] as Entry, round);
    }
  }
}

export function unsupported(error: unknown): boolean {
  return error instanceof ContenderError && error.unsupported;
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
