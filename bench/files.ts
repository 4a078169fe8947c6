/** From image files on disk to the indices of kept patches. */
import type { RankerConfig } from '../lib/index.js';
import { Contender, ContenderError } from './child.js';
import type { Pace } from './compare.js';
import type { ContenderSpec } from './contenders.js';
import type { Model } from './material.js';
import type { FilesRow } from './results.js';
import { spread, type Spread } from './statistics.js';

/** Times every precision of ours on the same list of files, in turns; the files are in the page cache after the first time. */
export async function measureFiles(
  model: Model<RankerConfig>,
  specs: readonly ContenderSpec[],
  paths: readonly string[],
  batch: number,
  pace: Pace,
): Promise<FilesRow[]> {
  pace.say(`Files to kept patches: ${model.name}`);
  const fields = { paths, batch, keepRatio: 0.5 };
  const runs: {
    spec: ContenderSpec;
    process: Contender;
    whole: number[];
    decode: number[];
    delays: number[];
  }[] = [];
  try {
    for (const spec of specs) {
      const process = new Contender(spec.label, spec.program(pace.threads));
      const run = { spec, process, whole: [], decode: [], delays: [] };
      try {
        await process.ask('hello', { threads: pace.threads });
        await process.ask('load', { ranker: model.path, precision: spec.precision });
        await process.ask('files', fields);
        runs.push(run);
      } catch (error) {
        await process.close();
        if (!(error instanceof ContenderError && error.unsupported)) throw error;
        pace.say(`  ${spec.label}: not available: ${error.message}`);
      }
    }
    for (let round = 0; round < pace.rounds; round++) {
      if (round > 0 && pace.isLate()) break;
      for (const run of runs) {
        const whole = await run.process.ask('files', fields);
        run.whole.push(rate(paths.length, whole['ms']));
        run.delays.push(whole['eventLoopWorstMs'] as number);
        const decode = await run.process.ask('files', { ...fields, decodeOnly: true });
        run.decode.push(rate(paths.length, decode['ms']));
      }
    }
  } finally {
    await Promise.all(runs.map(({ process }) => process.close()));
  }
  return runs.map(({ spec, whole, decode, delays }) => ({
    label: spec.label,
    model: model.name,
    precision: spec.precision,
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
