/** Which settings a resumed run keeps, which it may change, and why it cannot change the rest. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { conflict } from '../errors.js';
import { resolveModel } from '../models.js';
import { changeKeys } from '../native/binding.js';
import { isRemote } from '../shards/locations.js';
import type { TrainingChanges } from '../trainer.js';
import type { NativeOptions, RunChange, RunConfig } from './run-config.js';
import { decayOf, freeOptions, stepsOf, type TrainingSettings } from './training-options.js';

const shape = 'the weights have that shape';
const learned = 'it says what is learned';

const shapes =
  'model dim depth heads mlpDim decoderDim decoderDepth decoderHeads patchSize head pooling queries queryDim'.split(
    ' ',
  );

/** Other settings that a run keeps, with the reason. */
const fixed: Record<string, string> = {
  imageSize: 'the model is made for pictures of that size',
  batchSize: 'its place in the data is counted in batches of that size',
  seed: 'the order of the pictures, the crops and the masks are drawn from it',
  start: 'it counts when a run begins',
  init: 'it counts when a run begins',
  valShare: 'it says which maps are learned from',
  rowGroupMemory: 'the order of rows of Parquet files depends on it',
  unseen: 'it says what the figures are of',
};

/** Why a setting stays as it is; undefined where it may change. */
function reasonToStay(name: string, before: unknown): string | undefined {
  if (name === 'scores' && before !== undefined) return undefined; // a place, as that of the pictures
  if (name === 'labels' && before === undefined) return learned; // of one label each it cannot learn many
  if (
    (changeKeys as readonly string[]).includes(name) ||
    ['epochs', 'warmup', 'decay', 'data', 'labels', 'categories', 'decodeSize'].includes(name)
  )
    return undefined;
  return shapes.includes(name) ? shape : (fixed[name] ?? learned);
}

export interface ResumedSettings<Settings> {
  /** The run's own, with what was given on the command line. */
  settings: Settings;
  /** Names of those that were given with another value, and are not free. */
  changed: ReadonlySet<string>;
}

/** @throws {LtrpError} `ERR_LTRP_RUN_CONFLICT` naming every option that cannot be changed, with the reason. */
export function resumedSettings<Settings extends TrainingSettings>(
  command: Command,
  given: Settings,
  stored: RunConfig,
  folder: string,
): ResumedSettings<Settings> {
  const conflicts: string[] = [];
  let onlyLearned = true;
  const changed = new Set<string>();
  const values = given as unknown as Record<string, unknown>;
  const merged: Record<string, unknown> = { ...stored.settings };
  for (const option of command.options) {
    const name = option.attributeName();
    if (command.getOptionValueSource(name) !== 'cli') continue;
    const [value, before] = [values[name], stored.settings[name]];
    if (freeOptions.includes(name)) {
      merged[name] = value;
    } else if (JSON.stringify(value) !== JSON.stringify(before)) {
      const reason = reasonToStay(name, before);
      if (reason === undefined) {
        merged[name] = value;
        changed.add(name);
        continue;
      }
      onlyLearned &&= reason === learned;
      const was = before === undefined ? 'was not given' : `is ${JSON.stringify(before)}`;
      conflicts.push(
        `${option.long ?? name} (${JSON.stringify(value)}; in the run it ${was}), because ${reason}`,
      );
    }
  }
  // Two ways to say the same.
  if (changed.has('steps')) delete merged['epochs'];
  if (changed.has('epochs')) delete merged['steps'];
  if (conflicts.length > 0) {
    const weights = onlyLearned ? ` with the weights of this one: --init ${folder}` : '';
    throw conflict(
      `A resumed run keeps ${conflicts.join('; ')}. Leave ${conflicts.length > 1 ? 'them' : 'it'} out, or begin a new run in another folder${weights}.`,
    );
  }
  return { settings: merged as unknown as Settings, changed };
}

/** The native options of a resumed run. */
export function resumedOptions(
  {
    settings,
    changed,
  }: ResumedSettings<TrainingSettings & { teacher?: string; memoryBudget?: number }>,
  stored: RunConfig,
  pictures: number,
): NativeOptions {
  const options: Record<string, unknown> = { ...stored.options };
  const { batchSize, warmupSteps } = stored.options;
  const steps =
    changed.has('steps') || changed.has('epochs')
      ? stepsOf({ ...settings, batchSize }, pictures)
      : stored.options.steps;
  options['steps'] = steps;
  options['warmupSteps'] = Math.min(
    changed.has('warmup') ? (settings.warmup ?? warmupSteps) : warmupSteps,
    steps,
  );
  const { schedule } = settings;
  // Another schedule does not have the decay of the one before.
  const before = changed.has('schedule') ? undefined : stored.options.decaySteps;
  const decay = changed.has('decay') ? settings.decay : before;
  Object.assign(options, decayOf({ schedule, decay }, steps));
  for (const name of changeKeys) {
    if (name === 'steps' || !changed.has(name)) continue;
    options[name] = (settings as unknown as Record<string, unknown>)[name] ?? null;
  }
  if (changed.has('microBatchSize')) {
    options['microBatchSize'] = Math.min(settings.microBatchSize ?? batchSize, batchSize);
  }
  if (stored.options.kind === 'ranker') {
    const teacher = settings.teacher ?? stored.options.teacher;
    if (teacher !== null) options['teacher'] = resolveModel(teacher, 'mae', '--teacher');
    if (changed.has('memoryBudget') && settings.memoryBudget !== undefined) {
      options['memoryBudget'] = settings.memoryBudget * 1024 ** 2;
    }
  }
  return options as unknown as NativeOptions;
}

/** The `options` that may differ in a checkpoint written before the last change. */
export function changesOf(options: NativeOptions): TrainingChanges {
  const keys = changeKeys.filter((key) => key in options);
  return Object.fromEntries(keys.map((key) => [key, options[key as keyof NativeOptions]]));
}

/** Settings that follow from others unless they are given, as they came to be: naming them when resuming is then no change. */
export const settled = (
  options: NativeOptions,
): Pick<TrainingSettings, 'warmup' | 'microBatchSize'> & { decay: number | undefined } => ({
  warmup: options.warmupSteps,
  microBatchSize: options.microBatchSize,
  decay: options.schedule === 'wsd' ? options.decaySteps : undefined,
});

/** The settings of run.json after what `changed` names, and the record of it. */
export function changedConfig(
  command: Command,
  stored: RunConfig,
  { settings, changed }: ResumedSettings<TrainingSettings>,
  now: { options: NativeOptions; data: RunConfig['data']; step: number },
): RunConfig {
  const { options, data, step } = now;
  const record: RunChange['changed'] = {};
  const kept: Record<string, unknown> = { ...stored.settings };
  for (const option of command.options) {
    const name = option.attributeName();
    const isOther = name === 'steps' || name === 'epochs'; // one of them replaces the other
    if (!changed.has(name) && !(isOther && (changed.has('steps') || changed.has('epochs'))))
      continue;
    const [from, to] = [stored.settings[name], settings[name as keyof TrainingSettings]];
    kept[name] = to;
    if (JSON.stringify(from) === JSON.stringify(to)) continue;
    record[option.long ?? name] = { from: from ?? null, to: to ?? null };
  }
  if (data.digest !== stored.data.digest || data.labels !== stored.data.labels)
    record['pictures'] = { from: stored.data, to: data };
  // Resuming from an older checkpoint takes the later changes along.
  const earlier = (stored.changes ?? []).map((change) => ({
    ...change,
    step: Math.min(change.step, step),
  }));
  const changes =
    Object.keys(record).length > 0 ? [...earlier, { step, changed: record }] : earlier;
  return { ...stored, settings: { ...kept, ...settled(options) }, options, data, changes };
}

export const absolutePaths = <Settings extends TrainingSettings>(settings: Settings): Settings => {
  const absolute = (sources: string[] | undefined) =>
    sources?.map((source) => (isRemote(source) ? source : resolve(source)));
  const { scores, valScores } = settings;
  return {
    ...settings,
    ...(scores !== undefined && { scores: resolve(scores) }),
    ...(valScores !== undefined && { valScores: resolve(valScores) }),
    ...(settings.data && { data: absolute(settings.data) }),
    ...(settings.val && { val: absolute(settings.val) }),
  };
};
