/** How the speed changes with the number of patches, visible patches, images in a call, and threads. */
import { join } from 'node:path';
import { agreement } from './agreement.js';
import { Contender, type Reply } from './child.js';
import type { ContenderSpec, Material } from './contenders.js';
import { loopFlops } from './flops.js';
import { masks, pictures, visibleCount, type Model } from './material.js';
import { inTurns, messageOf, type Pace } from './pace.js';
import type { Curve } from './results.js';
import { affordable, spread } from './statistics.js';

/** One place on a curve. */
interface Point {
  x: number;
  patches: number;
  visible: number;
  images: number;
  threads: number;
}

export interface CurvePlan {
  /** L of square images. */
  patches: readonly number[];
  visible: readonly number[];
  batch: readonly number[];
  threads: readonly number[];
}

type Axis = Curve['axis'];

const titles: Record<Axis, string> = {
  patches: 'Patches of an image (90% masked)',
  visible: 'Visible patches (of 196)',
  batch: 'Images in one call',
  threads: 'Threads',
};

/**
 * Measures all curves of one teacher. The first of `specs` is the reference: the others must give its scores, within their
 * tolerance, at every point (it itself is compared with float64 in the main comparison).
 */
export async function measureCurves(
  model: Model,
  specs: readonly ContenderSpec[],
  plan: CurvePlan,
  temporary: string,
  pace: Pace,
): Promise<Curve[]> {
  const curves: Curve[] = [];
  const pool = new Pool();
  try {
    for (const axis of ['patches', 'visible', 'batch', 'threads'] as const) {
      const curve: Curve = { title: titles[axis], axis, model: model.name, points: [] };
      for (const point of pointsOf(axis, plan, pace.threads)) {
        if (pace.isLate()) {
          pace.say(`Curve: ${titles[axis]}: ${point.x}: left out, the time is over`);
          continue;
        }
        pace.say(`Curve: ${titles[axis]}: ${point.x}`);
        curve.points.push(...(await measurePoint(model, specs, point, pool, temporary, pace)));
      }
      if (curve.points.length > 0) curves.push(curve);
    }
  } finally {
    await pool.close();
  }
  return curves;
}

/** One process for each contender and number of threads, kept from point to point. */
class Pool {
  readonly #processes = new Map<string, Contender>();

  async get(spec: ContenderSpec, threads: number): Promise<Contender> {
    const key = `${spec.key} ${threads}`;
    const known = this.#processes.get(key);
    if (known !== undefined) return known;
    const process = new Contender(spec.label, spec.program(threads));
    this.#processes.set(key, process);
    await process.ask('hello', { threads });
    return process;
  }

  async close(): Promise<void> {
    for (const process of this.#processes.values()) await process.close();
  }
}

function pointsOf(axis: Axis, plan: CurvePlan, threads: number): Point[] {
  const usual = { patches: 196, visible: visibleCount(196), images: 1, threads };
  return plan[axis].map((x): Point => {
    switch (axis) {
      case 'patches':
        return { ...usual, x, patches: x, visible: visibleCount(x) };
      case 'visible':
        return { ...usual, x, visible: x };
      case 'batch':
        return { ...usual, x, images: x };
      case 'threads':
        return { ...usual, x, threads: x };
    }
  });
}

interface Running {
  spec: ContenderSpec;
  process: Contender | undefined;
  variants: number;
  rounds: number;
  times: number[];
  reason: string | null;
}

async function measurePoint(
  model: Model,
  specs: readonly ContenderSpec[],
  point: Point,
  pool: Pool,
  temporary: string,
  pace: Pace,
): Promise<Curve['points']> {
  const { config } = model;
  const side = Math.sqrt(point.patches) * config.patchSize;
  const material: Material = {
    mae: model.path,
    images: await pictures(point.images, config, [side, side], join(temporary, 'curve.f32')),
    visible: masks(point.images, point.patches, point.visible),
  };
  const runs: Running[] = [];
  let reference: number[][] | undefined;
  for (const spec of specs) {
    const run: Running = {
      spec,
      process: undefined,
      variants: point.visible,
      rounds: pace.rounds,
      times: [],
      reason: null,
    };
    runs.push(run);
    try {
      run.process = await pool.get(spec, point.threads);
      reference = await check(run, point, material, reference, pace);
    } catch (error) {
      run.reason = messageOf(error);
    }
  }
  await inTurns(runs, { ...pace, say: () => undefined }, async (run, round) => {
    if (run.reason !== null || round >= run.rounds) return;
    try {
      run.times.push((await ask(run, point))['ms'] as number);
    } catch (error) {
      run.reason = messageOf(error);
    }
  });
  const { patches, visible } = point;
  const whole = loopFlops(config, { patches, visible, variants: visible });
  return runs.map(({ spec, times, variants, reason }) => {
    const part = loopFlops(config, { patches, visible, variants });
    const rates = spread(times.map((ms) => ((1000 * point.images) / ms) * (part / whole)));
    return {
      contender: spec.key,
      label: spec.label,
      x: point.x,
      imagesPerSecond: rates,
      variants,
      gflops: rates === null ? null : (rates.median * whole) / 1e9,
      reason,
    };
  });
}

function ask({ spec, process, variants }: Running, { images }: Point): Promise<Reply> {
  const together = spec.batch === undefined ? {} : { batch: Math.min(spec.batch, images) };
  return (process as Contender).ask('scores', { ...spec.run, ...together, images, variants });
}

/** Loads, finds out how many variants the budget allows, compares with the reference; returns it. */
async function check(
  run: Running,
  point: Point,
  material: Material,
  reference: number[][] | undefined,
  pace: Pace,
): Promise<number[][] | undefined> {
  const { spec } = run;
  await run.process?.ask('load', spec.load(material));
  if (!spec.allVariants) {
    run.variants = 1;
    const ms = (await ask(run, point))['ms'] as number;
    const wanted = { images: 1, variants: point.visible };
    run.variants = affordable(wanted, ms / 2, pace.budgetMs).variants;
  }
  const reply = await ask(run, point);
  if ((reply['ms'] as number) > pace.slowMs) run.rounds = pace.slowRounds;
  const scores = reply['scores'] as number[][];
  if (reference === undefined) return scores;
  const width = reference[0]?.length ?? 0;
  const { error } = await agreement(
    'scores',
    scores.map((row) => row.slice(0, width)),
    reference,
  );
  // The reference is float32 itself.
  const allowed = spec.tolerance.scores.error + 1e-4;
  if (!(error <= allowed)) {
    run.reason = `Its scores are off by ${error.toExponential(1)} against the loop's, allowed are ${allowed.toExponential(1)}.`;
  }
  return reference;
}
