/** From image files on disk to the indices of kept patches. */
import type { Contender } from './child.js';
import type { ContenderSpec } from './contenders.js';
import type { Model } from './material.js';
import { inTurns, openContender, type Pace } from './pace.js';
import type { FilesRow } from './results.js';
import { spread, type Spread } from './statistics.js';

/** Times every precision of ours on the same list of files, in turns; the files are in the page cache after the first time. */
export async function measureFiles(
  model: Model,
  specs: readonly ContenderSpec[],
  paths: readonly string[],
  batch: number,
  pace: Pace,
): Promise<FilesRow[]> {
  pace.say(`Files to kept patches: ${model.name}`);
  const fields = { paths, batch, keepRatio: 0.5 };
  const runs: (Pick<ContenderSpec, 'label' | 'precision'> & {
    process: Contender;
    whole: number[];
    decode: number[];
    delays: number[];
  })[] = [];
  try {
    for (const spec of specs) {
      const { label, precision } = spec;
      const process = await openContender(spec, { ranker: model.path, precision }, pace);
      if (process === null) continue;
      runs.push({ label, precision, process, whole: [], decode: [], delays: [] });
      await process.ask('files', fields);
    }
    await inTurns(runs, pace, async ({ process, whole, decode, delays }) => {
      const reply = await process.ask('files', fields);
      whole.push(rate(paths.length, reply['ms']));
      delays.push(reply['eventLoopWorstMs'] as number);
      const { ms } = await process.ask('files', { ...fields, decodeOnly: true });
      decode.push(rate(paths.length, ms));
    });
  } finally {
    await Promise.all(runs.map(({ process }) => process.close()));
  }
  return runs.map(({ label, precision, whole, decode, delays }) => ({
    label,
    model: model.name,
    precision,
    images: paths.length,
    batch,
    imagesPerSecond: spread(whole) as Spread,
    decodeImagesPerSecond: spread(decode) as Spread,
    eventLoopWorst: Math.max(...delays),
  }));
}

function rate(images: number, ms: unknown): number {
  return (1000 * images) / (ms as number);
}
