/** What each metric of scores costs, against l1. */
import { metrics } from '../lib/types.js';
import type { Contender } from './child.js';
import type { ContenderSpec } from './contenders.js';
import { scoringMaterial, type Model } from './material.js';
import { inTurns, openContender, type Pace } from './pace.js';
import type { MetricRow } from './results.js';
import { spread } from './statistics.js';
import { medianRatio } from './tolerance.js';

/** Scores the same images with the same masks by every metric, in turns. */
export async function measureMetrics(
  model: Model,
  specs: readonly ContenderSpec[],
  images: number,
  temporary: string,
  pace: Pace,
): Promise<MetricRow[]> {
  pace.say(`Metrics: ${model.name}`);
  const { material, visible } = await scoringMaterial(model, images, temporary);
  const rows: MetricRow[] = [];
  for (const spec of specs) {
    await using contender = await openContender(spec, spec.load(material), pace);
    if (contender === null) continue;
    const found = await ofContender(contender, { images, variants: visible }, pace);
    rows.push(...found.map((row) => ({ model: model.name, label: spec.label, ...row })));
  }
  return rows;
}

async function ofContender(
  contender: Contender,
  request: { images: number; variants: number },
  pace: Pace,
): Promise<Omit<MetricRow, 'model' | 'label'>[]> {
  const cells = metrics.map((metric) => ({ metric, times: [] as number[] }));
  const time = async (metric: string): Promise<number> =>
    ((await contender.ask('scores', { ...request, metric }))['ms'] as number) / request.images;
  for (const { metric } of cells) await time(metric);
  await inTurns(cells, pace, async ({ metric, times }) => {
    times.push(await time(metric));
  });
  const plain = cells.find(({ metric }) => metric === 'l1')?.times ?? [];
  return cells.map(({ metric, times }) => ({
    metric,
    msPerImage: spread(times),
    againstL1: medianRatio(times, plain),
  }));
}
