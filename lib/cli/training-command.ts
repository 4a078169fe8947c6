/** What the training commands do alike: new or resumed run, signals, progress, the report at the end. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import type { Dataset } from '../data/dataset.js';
import { withLabels, type Labels } from '../data/labels.js';
import type { OpenedScores } from '../data/stored-scores.js';
import { LtrpError, toLtrpError, conflict } from '../errors.js';
import { modelDigest } from '../file-digest.js';
import { resolveModel } from '../models.js';
import type { CoreBinding } from '../native/binding.js';
import { loadCore } from '../native/loader.js';
import { packageVersion } from '../native/paths.js';
import { Trainer } from '../trainer.js';
import { decodeValidation, runTraining, type LoopResult } from '../training/loop.js';
import { finiteOrWord, RunFolder } from '../training/run-folder.js';
import { alone, type Ranks } from '../training/ranks.js';
import { lockRun, type RunLock } from '../training/run-lock.js';
import { toldOnce } from '../shards/shard.js';
import { invalid } from '../validation.js';
import { exitCodes } from './exit-codes.js';
import { complain, errorLine } from './image-command.js';
import { interruption, interruptSignal } from './interrupt.js';
import { openTrainer } from './open-trainer.js';
import { inOptions } from './option-names.js';
import {
  absolutePaths,
  changedConfig,
  resumedOptions,
  resumedSettings,
  settled,
} from './resumed-settings.js';
import { damaged, readRunConfig, type NativeOptions, type RunConfig } from './run-config.js';
import { checkAlike, openRanks, type RankedCommand } from './training-ranks.js';
import { heldOut, openDataset, openHeld, openMaps, type HeldOut } from './training-data.js';
import { trainingLabels } from './training-labels.js';
import { refuseUnused, type TrainingSettings } from './training-options.js';
import { duration, onlyOneSpeaks, say, TrainingProgress } from './training-progress.js';

/** The sources of a new run's options. */
export interface Beginning<Settings> {
  settings: Settings;
  /** Number of them. */
  pictures: number;
  core: CoreBinding;
  /** Of --scores. */
  maps: OpenedScores | undefined;
  /** Whether an option was given on the command line, by its name in the settings. */
  given: (name: keyof Settings & string) => boolean;
  signal: AbortSignal;
  /** Names of the classes; none where there are no labels. */
  classes: readonly string[];
}

type Build<Settings> = (beginning: Beginning<Settings>) => Promise<NativeOptions>;

/** Runs a training command to its end or to a signal; sets the exit code. */
export async function trainingCommand<Settings extends TrainingSettings>(
  command: Command,
  build: Build<Settings>,
  { labelled = false }: { labelled?: boolean } = {},
): Promise<void> {
  const stop = interruptSignal();
  let ranks = alone;
  try {
    const given = absolutePaths(command.opts<Settings>());
    const isGiven = (name: string): boolean => command.getOptionValueSource(name) === 'cli';
    const ranked = await openRanks(given, isGiven, stop);
    ranks = ranked.ranks;
    onlyOneSpeaks(ranks.leads);
    ranked.notes.forEach(say);
    await train(command, { build, labelled, ranked, given, isGiven, stop });
    await ranks.leave();
  } catch (error) {
    const stopped = interruption();
    ranks.fail(toLtrpError(error).message);
    if (stopped === undefined && !ranks.leads) {
      complain(`rank ${ranks.rank}: ${errorLine(error)}`);
      process.exitCode = exitCodes.failed;
      return;
    }
    if (stopped === undefined) throw error;
    if (error === stop.reason) {
      say(
        `${stopped.word} before a step was done; the same command with --resume starts or continues.`,
      );
      process.exitCode = stopped.exitCode;
    } else {
      // A save after Ctrl-C that failed must not pass for a clean stop.
      complain(errorLine(error));
      process.exitCode = exitCodes.failed;
    }
  }
}

async function train<Settings extends TrainingSettings>(
  command: Command,
  run: {
    build: Build<Settings>;
    labelled: boolean;
    ranked: RankedCommand;
    given: Settings;
    isGiven: (name: string) => boolean;
    stop: AbortSignal;
  },
): Promise<void> {
  const { build, labelled, ranked, given, isGiven, stop } = run;
  const { ranks } = ranked;
  const folder = new RunFolder(resolve(given.out));
  if (ranks.leads && folder.exists() && !given.resume) throw existing(folder);
  const foreign = ranks.leads ? folder.foreignFile() : undefined;
  if (foreign !== undefined) throw notOfARun(folder, foreign);
  const [stored = null] = await ranks.exchange(
    ranks.leads && folder.exists() ? readRunConfig(folder, command) : null,
  );
  if (given.resume && stored === null) say(`${folder.path} holds no run yet; a new one begins.`);
  const resumed = stored && resumedSettings(command, given, stored, folder.path);
  const settings = {
    ...(resumed?.settings ?? { ...given, ...heldOut(given) }),
    ...ranked.settings,
  };
  refuseUnused(settings, isGiven);
  if (settings.data === undefined && settings.scores === undefined)
    throw invalid('Name the training pictures with --data.');

  const core = await loadCore({ libtorch: settings.libtorch });
  if (settings.threads !== undefined) core.setThreads(settings.threads);
  stop.throwIfAborted();
  let lock: RunLock | undefined;
  let trainer: Trainer | undefined;
  try {
    if (ranks.leads && stored !== null) lock = await lockRun(folder.path, stop);
    // Naming the pictures again, be it by the same name, says that those that are there now are meant.
    const source = settings.scores === undefined ? 'data' : 'scores';
    const remembered = stored !== null && !isGiven(source);
    const maps = await openMaps(core, settings, stop);
    const dataset =
      maps?.training.dataset ??
      (await openDataset(
        settings.data ?? [],
        remembered && 'If the pictures have moved, name their new place with --data.',
        settings,
      ));
    stop.throwIfAborted();
    if (remembered) checkData(dataset, stored, source);
    const labels = labelled ? await trainingLabels(dataset, settings) : undefined;
    for (const sentence of labels?.notes ?? []) say(sentence);
    if (stored !== null && JSON.stringify(stored.classes) !== JSON.stringify(labels?.classes))
      throw otherClasses(folder);
    if (remembered && stored.data.labels !== labels?.digest) throw otherLabels(folder);
    const options =
      stored === null || resumed === null
        ? await build({
            settings,
            pictures: dataset.size,
            core,
            maps,
            given: isGiven,
            signal: stop,
            classes: labels?.classes ?? [],
          })
        : resumedOptions(resumed, stored, dataset.size);
    const asked = askedModel(options);
    const teacher = asked === undefined ? null : await modelDigest(asked);
    // Earlier versions had none of a folder.
    if (stored !== null && stored.teacher !== null && stored.teacher !== teacher)
      throw otherTeacher(folder, options.kind);
    const held = await openHeld(core, settings, { maps, classes: labels?.classes, signal: stop });
    const place = { device: settings.device, signal: stop };
    const data = {
      digest: dataset.digest,
      images: dataset.size,
      ...(labels?.digest !== undefined && { labels: labels.digest }),
    };
    if (ranks.size > 1) await checkAlike(ranks, { options, data, settings });
    // The one that leads hands on its weights and where it stands.
    const others = { ...options, init: undefined };
    trainer = !ranks.leads
      ? await ranks.together(() => Trainer.create(others, place))
      : stored === null
        ? await Trainer.create(options, place)
        : await openTrainer(folder, options, place).catch((error: unknown) => {
            // A typed value is the command line's fault, a value read from a file the file's.
            const typed = (resumed?.changed.size ?? 0) > 0;
            const { code, message } = toLtrpError(error);
            if (code !== 'ERR_LTRP_INVALID_ARGUMENT' || typed) throw error;
            throw damaged(folder, `cannot be used: ${inOptions(message)}`);
          });
    if (!ranks.leads) {
      // It writes nothing.
    } else if (stored === null) {
      await folder.create();
      lock = await lockRun(folder.path, stop);
      if (folder.exists()) throw existing(folder); // somebody was faster
      await folder.writeConfig({
        ...newConfig(command, settings, options, data, teacher),
        ...(labels && { classes: labels.classes }),
      });
      if (labels !== undefined) await folder.writeClasses(labels.classes);
    } else if (resumed !== null) {
      const now = { options, data, step: trainer.step };
      const config = changedConfig(command, stored, resumed, now);
      if (JSON.stringify(config) !== JSON.stringify(stored)) await folder.writeConfig(config);
      if (data.digest !== stored.data.digest) {
        say(
          `Other pictures from step ${trainer.step} on: ${stored.data.images} before, ${data.images} now; only with both can the run be repeated.`,
        );
      }
    }
    if (ranks.leads) await folder.tidy();
    const otherValidation =
      stored !== null &&
      (['val', 'valScores', 'valLabels', 'valCount'] as const).some(
        (name) =>
          isGiven(name) && JSON.stringify(given[name]) !== JSON.stringify(stored.settings[name]),
      );
    await trainIn({
      ...{ ranks, folder, lock, trainer, dataset, maps, labels, held, otherValidation },
      ...{ settings, stop },
    });
  } finally {
    trainer?.dispose();
    await lock?.release();
  }
}

/** The run itself, when all is open. */
async function trainIn(run: {
  ranks: Ranks;
  folder: RunFolder;
  lock: RunLock | undefined;
  trainer: Trainer;
  dataset: Dataset;
  maps: OpenedScores | undefined;
  labels: Labels | undefined;
  held: HeldOut | undefined;
  otherValidation: boolean;
  settings: TrainingSettings;
  stop: AbortSignal;
}): Promise<void> {
  const { ranks, folder, lock, trainer, dataset, maps, labels, held, settings, stop } = run;
  const { options } = trainer;
  const { imageHeight, imageWidth } = options.model;
  const side = Math.max(imageHeight, imageWidth);
  let progress: TrainingProgress | undefined;
  const tell = (sentence: string): void => {
    if (progress) progress.say(sentence);
    else say(sentence);
  };
  const unreadable = (path: string, error: LtrpError): void => {
    const known = dataset.problemOf(path) ?? held?.dataset.problemOf(path);
    const line = toldOnce(path, error);
    if (line !== undefined) tell(`skipped: ${known?.message ?? line}`);
  };
  // Said only once there are steps: while things are prepared, a stop is one at once.
  const stopping = (): void => say('\nstopping after this step; Ctrl-C again ends at once');
  try {
    const validation = held
      ? await decodeValidation(held.dataset, {
          ranks,
          limit: settings.valCount,
          complete: held.complete,
          digests: held.areMaps,
          shortSide: maps?.store.manifest.decodeSize ?? Math.ceil((side * 8) / 7),
          concurrency: settings.decodeThreads,
          maxUnreadable: settings.maxUnreadable,
          signal: stop,
          onUnreadable: unreadable,
        })
      : [];
    say(
      `${dataset.size} ${maps === undefined ? 'images' : `maps of ${dataset.pictures} images`}, ${options.steps} steps of ${options.batchSize}` +
        `${trainer.step > 0 ? `, continuing after step ${trainer.step}` : ''}: ${folder.path}`,
    );
    if (ranks.leads)
      progress = new TrainingProgress({
        steps: options.steps,
        firstStep: trainer.step,
        batchSize: options.batchSize,
      });
    stop.throwIfAborted();
    stop.addEventListener('abort', stopping, { once: true });
    const result = await runTraining({
      trainer,
      ranks,
      folder,
      lock,
      dataset,
      complete: labels === undefined ? maps?.training.complete : withLabels(labels),
      digests: maps !== undefined,
      validation,
      otherValidation: run.otherValidation,
      validateEvery: settings.valEvery ?? Math.ceil(options.steps / 20),
      checkpointEvery: settings.checkpointEvery,
      exportType: settings.exportType,
      decodeSize: maps?.store.manifest.decodeSize ?? settings.decodeSize ?? 2 * side,
      cacheBytes: settings.cacheMemory,
      decodeConcurrency: settings.decodeThreads,
      prefetch: settings.prefetch,
      maxUnreadable: settings.maxUnreadable,
      stop,
      onEntry: (entry) => progress?.show(entry),
      onUnreadable: unreadable,
      onNotice: tell,
    });
    progress?.stop();
    report(result, settings.json, ranks.leads);
  } finally {
    stop.removeEventListener('abort', stopping);
    progress?.stop();
  }
}

function existing(folder: RunFolder): LtrpError {
  return new LtrpError(
    'ERR_LTRP_RUN_EXISTS',
    `${folder.path} holds a run already; continue it with --resume or choose another --out.`,
  );
}

function notOfARun(folder: RunFolder, file: string): LtrpError {
  return new LtrpError(
    'ERR_LTRP_RUN_EXISTS',
    `${folder.path} has a ${file}, but no run.json of a run that could be continued; choose another --out.`,
  );
}

function newConfig(
  command: Command,
  settings: TrainingSettings,
  options: NativeOptions,
  data: RunConfig['data'],
  teacher: string | null,
): RunConfig {
  return {
    format: 'ltrp-run-1',
    command: command.name(),
    version: packageVersion(),
    settings: {
      ...settings,
      ...(settings.epochs === undefined && { steps: options.steps }),
      ...settled(options),
      ...(options.kind === 'finetune' && {
        cropScale: options.cropScale,
        labelSmoothing: options.labelSmoothing,
      }),
    },
    options,
    data,
    teacher,
  };
}

function checkData(dataset: Dataset, stored: RunConfig, source: 'data' | 'scores'): void {
  if (dataset.digest === stored.data.digest) return;
  if (source === 'scores') {
    throw conflict(
      `The stored maps are not those of the run (${stored.data.images} then, ${dataset.size} now, or others). ` +
        'Put them back, or continue with the present ones by naming them again with --scores.',
    );
  }
  throw conflict(
    `The images are not those of the run (${stored.data.images} then, ${dataset.size} now, or other names). ` +
      'Put them back, or continue with the present ones by naming them again with --data.',
  );
}

/** The file of the frozen model that a run learns from or asks. */
function askedModel(options: NativeOptions): string | undefined {
  if (options.kind === 'ranker') return options.teacher ?? undefined;
  if (options.kind === 'pretrain' || options.selectorModel == null) return undefined;
  const ranks = options.selector.startsWith('ranker');
  return resolveModel(options.selectorModel, ranks ? 'ranker' : 'mae', '--selector-model');
}

function otherClasses(folder: RunFolder): LtrpError {
  return conflict(
    `The classes are not those that the run in ${folder.path} had (its classes.txt). Put those back, or begin a new run.`,
  );
}

function otherLabels(folder: RunFolder): LtrpError {
  return conflict(
    `The labels are not those that the run in ${folder.path} had. Put them back, or continue with the present ones by naming the ` +
      'pictures again with --data.',
  );
}

function otherTeacher(folder: RunFolder, kind: NativeOptions['kind']): LtrpError {
  if (kind === 'finetune') {
    return conflict(
      `The selector's model is not the one that the run in ${folder.path} had. Put it back, or begin a new run in another folder.`,
    );
  }
  return conflict(
    `The teacher is not the one that the run in ${folder.path} had. Name that one with --teacher, or start a new run in another ` +
      `folder from the weights of this one: --init ${folder.path}.`,
  );
}

function report(result: LoopResult, json: boolean, leads: boolean): void {
  const stopped = result.status === 'stopped';
  if (stopped) process.exitCode = interruption()?.exitCode ?? exitCodes.interrupted;
  if (!leads) return;
  if (json) {
    process.stdout.write(`${JSON.stringify(result, finiteOrWord, 2)}\n`);
    return;
  }
  const wait = `data wait: ${(100 * result.dataWait).toFixed(1)}%`;
  const unreadable =
    (result.unreadable > 0 ? `, ${result.unreadable} unreadable images` : '') +
    (result.lost > 0 ? `, ${result.lost} records lost` : '');
  const skipped =
    result.skipped > 0 ? `, ${result.skipped} steps not applied (log.jsonl says why)` : '';
  process.stdout.write(
    `${result.steps} steps in ${duration(result.seconds)}, ${wait}${unreadable}${skipped}\n` +
      (stopped
        ? `stopped after step ${result.step}; continue with --resume (${result.checkpoint})\nmodel so far: ${result.model}\n`
        : `model: ${result.model}\n`),
  );
}
