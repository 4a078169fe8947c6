/** The pictures or stored maps of a training command, and those that it validates with. */
import type { Complete } from '../data/batches.js';
import { Dataset } from '../data/dataset.js';
import { withLabels } from '../data/labels.js';
import { openScores, type OpenedScores } from '../data/stored-scores.js';
import { LtrpError, toLtrpError, type LtrpErrorCode } from '../errors.js';
import type { CoreBinding } from '../native/binding.js';
import type { ShardOptions } from '../shards/shard.js';
import { invalid } from '../validation.js';
import { interruptSignal } from './interrupt.js';
import { heldOutLabels } from './training-labels.js';
import type { TrainingSettings } from './training-options.js';
import { say } from './training-progress.js';

/** The pictures of --data or --val. `hint`: what helps when there is nothing. */
export async function openDataset(
  sources: readonly string[],
  hint: string | false,
  { imageColumn, rowGroupMemory }: ShardOptions,
): Promise<Dataset> {
  try {
    const shards = { imageColumn, rowGroupMemory, signal: interruptSignal() };
    const dataset = await Dataset.open(sources, shards);
    for (const sentence of [...dataset.passedOver, ...dataset.damage]) say(sentence);
    return dataset;
  } catch (cause) {
    const { code, message } = toLtrpError(cause);
    const nothing: readonly LtrpErrorCode[] = ['ERR_LTRP_FILE_NOT_FOUND', 'ERR_LTRP_DATA_EMPTY'];
    if (hint === false || !nothing.includes(code)) throw cause;
    throw new LtrpError(code, `${message} ${hint}`, { cause });
  }
}

/** The share of stored maps that is held out, so that run.json says it. */
export function heldOut({ scores, valScores, valShare }: TrainingSettings): { valShare?: number } {
  if (scores === undefined) return {};
  return { valShare: valShare ?? (valScores === undefined ? 0.05 : 0) };
}

export async function openMaps(
  core: CoreBinding,
  { scores, data, valShare = 0, imageColumn, rowGroupMemory }: TrainingSettings,
  signal: AbortSignal,
): Promise<OpenedScores | undefined> {
  if (scores === undefined) return undefined;
  return openScores(scores, { core, data, valShare, signal, imageColumn, rowGroupMemory });
}

/** What a run is validated with. */
export interface HeldOut {
  dataset: Dataset;
  complete: Complete | undefined;
  areMaps: boolean;
}

/** Its pictures and what they show, or its maps; nothing is decoded yet. */
export async function openHeld(
  core: CoreBinding,
  settings: TrainingSettings,
  of: {
    maps: OpenedScores | undefined;
    classes: readonly string[] | undefined;
    signal: AbortSignal;
  },
): Promise<HeldOut | undefined> {
  const maps = await openHeldMaps(core, of.maps, settings, of.signal);
  if (maps !== null) return { dataset: maps.dataset, complete: maps.complete, areMaps: true };
  if (settings.val === undefined) return undefined;
  const missing = 'Name the held-out pictures with --val.';
  const dataset = await openDataset(settings.val, missing, settings);
  const labels = of.classes && (await heldOutLabels(dataset, settings, of.classes));
  return { dataset, complete: labels && withLabels(labels), areMaps: false };
}

/** Maps to validate with, whose crops must be of the same kind. */
async function openHeldMaps(
  core: CoreBinding,
  maps: OpenedScores | undefined,
  { valScores, imageColumn, rowGroupMemory }: TrainingSettings,
  signal: AbortSignal,
): Promise<OpenedScores['validation']> {
  if (maps === undefined || valScores === undefined) return maps?.validation ?? null;
  const held = await openScores(valScores, {
    ...{ core, valShare: 0, signal, imageColumn, rowGroupMemory },
  });
  const kind = ({ store: { manifest } }: OpenedScores): string =>
    JSON.stringify([manifest.model, manifest.decodeSize]);
  if (kind(held) === kind(maps)) return held.training;
  throw invalid(
    '--val-scores must be of the image size, patch size and pixel statistics of --scores.',
  );
}
