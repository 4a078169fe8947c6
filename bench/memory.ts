/** Resident memory while scoring, by images of a call, beside what the process had once its weights were loaded. */
import { statSync } from 'node:fs';
import type { Contender } from './child.js';
import type { ContenderSpec } from './contenders.js';
import { scoringMaterial, type Model } from './material.js';
import { openContender, type Pace } from './pace.js';
import type { MemoryRow, Precision } from './results.js';
import { spread, type Spread } from './statistics.js';

/** One teacher of the section. */
export interface MemoryPlan {
  source: string;
  /** Images of a call, ascending: what a call leaves allocated is part of the next one's peak. */
  images: readonly number[];
  precisions: readonly Precision[];
}

/** One process for each precision. Empty where the system does not tell a process's memory. */
export async function measureMemory(
  model: Model,
  specs: readonly ContenderSpec[],
  counts: readonly number[],
  temporary: string,
  pace: Pace,
): Promise<MemoryRow[]> {
  pace.say(`Memory: ${model.name}`);
  const { material, visible } = await scoringMaterial(model, Math.max(...counts), temporary);
  const weights = statSync(model.path).size;
  const rows: MemoryRow[] = [];
  for (const [index, spec] of specs.entries()) {
    if (index > 0 && pace.isLate()) {
      pace.say(`  ${spec.label}: left out, the time is over`);
      continue;
    }
    let beforeLoad = NaN;
    await using process = await openContender(spec, spec.load(material), pace, (started) => {
      beforeLoad = started.memory()?.now ?? NaN;
      started.resetPeak();
    });
    if (process === null) continue;
    const loaded = process.memory();
    if (loaded === null) return [];
    for (const images of counts) {
      process.resetPeak();
      const msPerImage = await time(process, images, visible, pace);
      const peak = process.memory()?.peak ?? NaN;
      const { label, precision } = spec;
      const resident = { beforeLoad, afterLoad: loaded.now, loadPeak: loaded.peak, peak };
      rows.push({ model: model.name, label, precision, images, msPerImage, weights, ...resident });
      const beyond = (peak - loaded.now) / 1e6;
      pace.say(`  ${label}, ${images} images: ${beyond.toFixed(0)} MB beyond the weights`);
    }
  }
  return rows;
}

/** Milliseconds of an image. The first call of several counts for memory, not for time. */
async function time(
  process: Contender,
  images: number,
  variants: number,
  pace: Pace,
): Promise<Spread> {
  const call = async (): Promise<number> => {
    const { ms } = await process.ask('scores', { images, variants }, 1_800_000);
    return ms as number;
  };
  const first = await call();
  const again = Math.min(pace.rounds, Math.floor(pace.budgetMs / first));
  const times: number[] = [];
  while (times.length < again) times.push(await call());
  return spread((times.length > 0 ? times : [first]).map((ms) => ms / images)) as Spread;
}
