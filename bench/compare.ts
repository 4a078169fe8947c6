/** All contenders on the same work: checked first, then timed in turns. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { MaeConfig, RankerConfig } from '../lib/index.js';
import { agreement, disagreement, type Agreement } from './agreement.js';
import { Contender, type Reply } from './child.js';
import type { ContenderSpec, Material } from './contenders.js';
import { loopFlops, rankerFlops, shareOfPeak, type SplitFlops } from './flops.js';
import { inTurns, messageOf, settleMs, unsupported, type Pace } from './pace.js';
import type { Comparison, Peak, Row } from './results.js';
import { affordable, spread } from './statistics.js';

/** The work of one comparison. */
export interface Work {
  title: string;
  kind: 'scores' | 'ranker';
  model: string;
  material: Material;
  /** Geometry: the teacher's for scores, the ranker's otherwise. */
  teacher?: Pick<MaeConfig, 'encoder' | 'decoder' | 'patchSize'>;
  ranker?: Pick<RankerConfig, 'encoder' | 'patchSize'>;
  patches: number;
  /** V; 0 for rankers. */
  visible: number;
  /** Images in one call, at most. */
  images: number;
  /** Images in one forward pass of a ranker. */
  batch: number;
  /** In float64: scores [images][V] or logits [images][L]. */
  reference: readonly (readonly number[])[];
  baseline: string;
}

/** One contender during a comparison. */
interface Entry {
  spec: ContenderSpec;
  process: Contender | undefined;
  /** Bytes: before the weights were loaded, and after. */
  base: number | null;
  loaded: number | null;
  versions: Record<string, string>;
  images: number;
  variants: number;
  rounds: number;
  agreement: Agreement | undefined;
  times: number[];
  delays: number[];
  peakMemory: number | null;
  status: Row['status'];
  reason: string | null;
  /** Milliseconds of an image at the work before this one. */
  before: number | null;
}

/** A call that takes longer than this many budgets is not worth waiting for twice. */
const hopelessBudgets = 8;

/** A call may take this many times what the probe promised before it counts as hung. */
const patience = 20;

/**
 * Runs comparisons that share their material, with the same processes. Shares of the peaks are filled in by
 * {@link fillShares} once all peaks are known.
 */
export async function compare(
  works: readonly Work[],
  specs: readonly ContenderSpec[],
  pace: Pace,
): Promise<Comparison[]> {
  const comparisons: Comparison[] = [];
  let entries = specs.map(newEntry);
  try {
    for (const [index, work] of works.entries()) {
      pace.say(work.title);
      for (const entry of entries) {
        if (index === 0) await start(entry, work, pace);
        if (entry.status === 'timed') await prepare(entry, work, pace);
      }
      const running = entries.filter((entry) => entry.status === 'timed');
      await inTurns(running, pace, async (entry, round) => {
        if (round < entry.rounds && entry.status === 'timed') await time(entry, work);
      });
      comparisons.push(finished(work, entries));
      entries = entries.map(again);
    }
  } finally {
    for (const { process } of entries) await process?.close();
  }
  return comparisons;
}

function newEntry(spec: ContenderSpec): Entry {
  return {
    spec,
    process: undefined,
    base: null,
    loaded: null,
    versions: {},
    images: 0,
    variants: 0,
    rounds: 0,
    agreement: undefined,
    times: [],
    delays: [],
    peakMemory: null,
    status: 'timed',
    reason: null,
    before: null,
  };
}

/** The same process at the next work. Who could not do the last one is not asked again. */
function again(entry: Entry): Entry {
  const { process, base, loaded, versions, status, reason, times, images } = entry;
  const median = spread(times)?.median;
  const before = median === undefined ? entry.before : median / images;
  return { ...newEntry(entry.spec), process, base, loaded, versions, status, reason, before };
}

/** Starts the process and loads the material. */
async function start(entry: Entry, work: Work, pace: Pace): Promise<void> {
  const { spec } = entry;
  const missing = spec.unavailable(work.material);
  if (missing !== null) {
    giveUp(entry, 'unavailable', missing, pace);
    return;
  }
  try {
    const contender = new Contender(spec.label, spec.program(pace.threads));
    entry.process = contender;
    const hello = await contender.ask('hello', { threads: pace.threads });
    entry.versions = (hello['versions'] ?? {}) as Record<string, string>;
    entry.base = contender.memory()?.now ?? null;
    await contender.ask('load', spec.load(work.material));
    entry.loaded = contender.memory()?.now ?? null;
  } catch (error) {
    giveUp(entry, unsupported(error) ? 'unavailable' : 'failed', messageOf(error), pace);
  }
}

/** Finds out how much it can be given, and checks it against float64. */
async function prepare(entry: Entry, work: Work, pace: Pace): Promise<void> {
  const batchMs = (entry.before ?? 0) * work.batch;
  if (work.kind === 'ranker' && batchMs > hopelessBudgets * pace.budgetMs) {
    const seconds = (batchMs / 1000).toFixed(0);
    giveUp(entry, 'unavailable', `${work.batch} images would take about ${seconds} s.`, pace);
    return;
  }
  try {
    entry.process?.resetPeak();
    await size(entry, work, pace);
  } catch (error) {
    giveUp(entry, unsupported(error) ? 'unavailable' : 'failed', messageOf(error), pace);
  }
}

/** A small call tells what a call costs; then one of the size to be timed is compared with float64. */
async function size(entry: Entry, work: Work, pace: Pace): Promise<void> {
  const { spec } = entry;
  const scores = work.kind === 'scores';
  const probe = {
    images: scores ? 1 : work.batch,
    variants: spec.allVariants ? work.visible : Math.min(1, work.visible),
  };
  let reply = await call(entry, work, probe);
  // The first call of a library is not like the others.
  if ((reply['ms'] as number) < pace.slowMs) reply = await call(entry, work, probe);
  const ms = reply['ms'] as number;
  Object.assign(entry, probe);
  if (ms < pace.budgetMs) {
    const wanted = { images: work.images, variants: work.visible };
    let given: { images: number; variants: number };
    if (scores) given = affordable(wanted, ms / (1 + probe.variants), pace.budgetMs);
    else given = { images: wholeBatches(work, ms, pace.budgetMs), variants: 0 };
    if (spec.allVariants) given.variants = work.visible;
    Object.assign(entry, given);
    reply = await call(entry, work, given, patience * Math.max(pace.budgetMs, ms));
  }
  const values = (scores ? reply['scores'] : reply['logits']) as number[][];
  entry.agreement = await agreement(work.kind, values, work.reference);
  const why = disagreement(entry.agreement, spec.tolerance[work.kind]);
  if (why !== null) {
    giveUp(entry, 'failed', why, pace);
    return;
  }
  entry.rounds = (reply['ms'] as number) > pace.slowMs ? pace.slowRounds : pace.rounds;
  if (pace.checkIsTiming && (reply['ms'] as number) > hopelessBudgets * pace.budgetMs) {
    entry.rounds = 0;
    record(entry, reply);
  } else {
    entry.process?.resetPeak();
  }
  const amount = scores ? `${entry.images} x ${entry.variants} variants` : `${entry.images} images`;
  pace.say(
    `  ${labelOf(spec, work)}: agrees, ${amount} in ${(reply['ms'] as number).toFixed(0)} ms`,
  );
}

function wholeBatches(work: Work, msPerBatch: number, budgetMs: number): number {
  const batches = Math.max(1, Math.floor(budgetMs / msPerBatch));
  return Math.min(Math.floor(work.images / work.batch), batches) * work.batch;
}

async function call(
  entry: Entry,
  work: Work,
  { images, variants }: { images: number; variants: number },
  timeoutMs?: number,
): Promise<Reply> {
  const { batch: limit } = entry.spec;
  const together = limit === undefined ? {} : { batch: Math.min(limit, images) };
  const counts =
    work.kind === 'scores' ? { images, variants, ...together } : { images, batch: work.batch };
  const op = work.kind === 'scores' ? 'scores' : 'rank';
  await sleep(settleMs);
  return (entry.process as Contender).ask(op, { ...entry.spec.run, ...counts }, timeoutMs);
}

async function time(entry: Entry, work: Work): Promise<void> {
  try {
    record(entry, await call(entry, work, entry));
  } catch (error) {
    entry.status = 'failed';
    entry.reason = messageOf(error);
  }
}

function labelOf(spec: ContenderSpec, { kind }: Work): string {
  return kind === 'ranker' ? (spec.rankerLabel ?? spec.label) : spec.label;
}

function record(entry: Entry, reply: Reply): void {
  entry.times.push(reply['ms'] as number);
  const delay = reply['eventLoopWorstMs'];
  if (typeof delay === 'number') entry.delays.push(delay);
  entry.peakMemory = entry.process?.memory()?.peak ?? null;
}

function giveUp(entry: Entry, status: Row['status'], reason: string, pace: Pace): void {
  entry.status = status;
  entry.reason = reason;
  pace.say(`  ${entry.spec.label}: ${status === 'failed' ? 'FAILED' : 'not available'}: ${reason}`);
}

function finished(work: Work, entries: readonly Entry[]): Comparison {
  return {
    title: work.title,
    kind: work.kind,
    model: work.model,
    patches: work.patches,
    visible: work.kind === 'scores' ? work.visible : null,
    batch: work.kind === 'scores' ? null : work.batch,
    gflopPerImage: wholeFlops(work) / 1e9,
    baseline: work.baseline,
    rounds: Math.max(0, ...entries.map(({ times }) => times.length)),
    rows: entries.map((entry) => row(entry, work)),
  };
}

/** The count that is the same for everybody. */
function wholeFlops({ teacher, ranker, patches, visible }: Work): number {
  if (teacher) return loopFlops(teacher, { patches, visible, variants: visible });
  return ranker ? rankerFlops(ranker, patches) : NaN;
}

/** What this contender computes for one image. */
function ownFlops(spec: ContenderSpec, work: Work, variants: number): SplitFlops {
  const { teacher, ranker, patches, visible } = work;
  if (teacher) return spec.flops(teacher, { patches, visible, variants });
  const flops = ranker ? rankerFlops(ranker, patches) : NaN;
  return spec.precision === 'float32' ? { float32: flops, own: 0 } : { float32: 0, own: flops };
}

function row(entry: Entry, work: Work): Row {
  const { spec, times } = entry;
  const scores = work.kind === 'scores';
  const whole = ownFlops(spec, work, work.visible);
  const done = ownFlops(spec, work, entry.variants);
  const scale = (whole.float32 + whole.own) / (done.float32 + done.own);
  const timed = entry.status === 'timed';
  const perImage = timed ? spread(times.map((ms) => (ms / entry.images) * scale)) : null;
  const loop = wholeFlops(work);
  const rate = (flops: number): number | null =>
    perImage === null ? null : flops / (perImage.median * 1e6);
  const beyond = (bytes: number | null): number =>
    Math.max(0, (entry.peakMemory ?? 0) - (bytes ?? 0)) / 1e6;
  return {
    contender: spec.key,
    label: labelOf(spec, work),
    group: scores || spec.group === 'ours' ? spec.group : 'peer',
    precision: spec.precision,
    status: entry.status,
    reason: entry.reason,
    images: entry.images,
    variants: scores ? entry.variants : null,
    msPerImage: perImage,
    error: entry.agreement?.error ?? null,
    kendallTau: entry.agreement?.kendallTau ?? null,
    gflops: rate(loop),
    ownGflops: rate(whole.float32 + whole.own),
    flops: whole,
    peakShare: null,
    loopPeakShare: null,
    memory:
      timed && entry.peakMemory !== null && entry.base !== null
        ? { beyondProcess: beyond(entry.base), beyondLoad: beyond(entry.loaded) }
        : null,
    eventLoopWorst: entry.delays.length === 0 ? null : Math.max(...entry.delays),
    versions: entry.versions,
  };
}

/** Puts a comparison's speeds in relation to the best peaks of the whole run. */
export function fillShares({ rows }: Comparison, peaks: readonly Peak[]): void {
  const peak = (precision: Peak['precision']): number | null =>
    peaks.find((found) => found.precision === precision)?.gflops ?? null;
  for (const found of rows) {
    const own = peak(found.precision);
    const both = { float32: peak('float32'), own };
    found.loopPeakShare = found.gflops === null || own === null ? null : found.gflops / own;
    found.peakShare = found.msPerImage && shareOfPeak(found.flops, found.msPerImage.median, both);
  }
}
