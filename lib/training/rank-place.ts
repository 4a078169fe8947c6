/** Which of several processes this one is: the variables of torchrun, of ltrp launch, or of a step of Slurm. */
import type { NativeRanks } from '../native/binding.js';
import { invalid } from '../validation.js';

export interface RankPlace extends Omit<
  NativeRanks,
  'timeout' | 'joinTimeout' | 'reduction' | 'bucketBytes' | 'device'
> {
  /** Among those on this machine. */
  localRank: number;
  localSize: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Null where this process trains alone.
 *
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` naming the variable.
 */
export function rankPlace(environment: Environment): RankPlace | null {
  const { RANK, WORLD_SIZE } = environment;
  const place =
    isGiven(RANK) && isGiven(WORLD_SIZE) ? torchrunPlace(environment) : slurmPlace(environment);
  if (place === null || place.size === 1) return null;
  if (place.rank >= place.size)
    throw invalid(`The rank must be below the number of ranks, ${place.size}; got ${place.rank}.`);
  return place;
}

/** What to say to a process that trains alone where several were asked for; else null. */
export function slurmHint(environment: Environment): string | null {
  const { SLURM_NTASKS, SLURM_STEP_NUM_TASKS, RANK } = environment;
  if (!(Number(SLURM_NTASKS) > 1) || isGiven(SLURM_STEP_NUM_TASKS) || isGiven(RANK)) return null;
  return `SLURM_NTASKS is ${SLURM_NTASKS}, but this is not a Slurm step, so only one process trains. Start all of them with \`srun ltrp …\`.`;
}

const isGiven = (text: string | undefined): text is string => text !== undefined && text !== '';

/** torchrun's variables, which ltrp launch sets too. */
function torchrunPlace(environment: Environment): RankPlace {
  const rank = integer(environment, 'RANK', 0);
  const host = environment['MASTER_ADDR'];
  if (!isGiven(host)) throw missing('MASTER_ADDR', 'the name or address of the machine of rank 0');
  if (!isGiven(environment['MASTER_PORT']))
    throw missing('MASTER_PORT', 'a free port of that machine');
  // torchrun's agent hosts a store already; else rank 0 does.
  const agent = environment['TORCHELASTIC_USE_AGENT_STORE'] === 'True';
  return {
    rank,
    size: integer(environment, 'WORLD_SIZE', 1),
    localRank: integer(environment, 'LOCAL_RANK', 0, 0),
    localSize: integer(environment, 'LOCAL_WORLD_SIZE', 1, 1),
    host,
    port: integer(environment, 'MASTER_PORT', 1),
    hostsStore: rank === 0 && !agent,
    storeOwner: agent ? 'the process that started the ranks' : 'rank 0',
    errorFile: environment['TORCHELASTIC_ERROR_FILE'],
  };
}

/** Of a step alone: a batch script has most of these variables too, and is one process. */
function slurmPlace(environment: Environment): RankPlace | null {
  const { SLURM_STEP_NUM_TASKS, SLURM_PROCID, SLURM_STEP_NODELIST } = environment;
  if (!isGiven(SLURM_STEP_NUM_TASKS) || !isGiven(SLURM_PROCID)) return null;
  const rank = integer(environment, 'SLURM_PROCID', 0);
  const size = integer(environment, 'SLURM_STEP_NUM_TASKS', 1);
  const given = environment['MASTER_ADDR'];
  const host = isGiven(given) ? given : firstHost(SLURM_STEP_NODELIST ?? '');
  if (host === '' && size > 1)
    throw missing('MASTER_ADDR', 'the name or address of the machine of rank 0');
  const job = integer(environment, 'SLURM_JOB_ID', 0, 0);
  const step = integer(environment, 'SLURM_STEP_ID', 0, 0);
  return {
    rank,
    size,
    localRank: integer(environment, 'SLURM_LOCALID', 0, 0),
    localSize: firstCount(environment['SLURM_STEP_TASKS_PER_NODE']),
    host,
    // The same on all ranks, another one for each step, and below the ports that systems hand out.
    port: integer(environment, 'MASTER_PORT', 1, 15000 + ((job * 31 + step) % 15000)),
    hostsStore: rank === 0,
    storeOwner: 'rank 0',
    errorFile: environment['TORCHELASTIC_ERROR_FILE'],
  };
}

/** The first name of a list as Slurm writes it: `n[01-03,07],g-a[1-2]` begins with n01. Containers have no scontrol to ask. */
export function firstHost(list: string): string {
  const first = /^(?:[^,[]|\[[^\]]*\])*/.exec(list.trim())?.[0] ?? '';
  return first.replace(/\[([^\],-]*)[^\]]*\]/g, '$1');
}

/** The first number of `4(x2),3`. */
function firstCount(text: string | undefined): number {
  const count = Number(/^\d+/.exec(text ?? '')?.[0]);
  return count > 0 ? count : 1;
}

function integer(
  environment: Environment,
  name: string,
  least: number,
  otherwise?: number,
): number {
  const text = environment[name];
  if (!isGiven(text) && otherwise !== undefined) return otherwise;
  const value = /^\d{1,9}$/.test(text ?? '') ? Number(text) : NaN;
  if (value >= least) return value;
  throw invalid(`The variable ${name} must be an integer of at least ${least}; it is '${text}'.`);
}

const missing = (name: string, what: string) =>
  invalid(
    `The variable ${name} is missing: ${what}. RANK and WORLD_SIZE are set, so this is one of several processes; unset them to train with one.`,
  );
