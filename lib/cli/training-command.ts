/** What `pretrain` and `train` do alike: new or resumed run, signals, progress, the report at the end. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { Dataset } from '../data/dataset.js';
import { LtrpError, toLtrpError } from '../errors.js';
import { loadCore } from '../native/loader.js';
import { packageVersion } from '../native/paths.js';
import { Trainer, type PretrainOptions, type RankerTrainingOptions } from '../trainer.js';
import { decodeValidation, runTraining, type LoopResult } from '../training/loop.js';
import { RunFolder } from '../training/run-folder.js';
import type { Device } from '../types.js';
import { invalid } from '../validation.js';
import { exitCodes } from './exit-codes.js';
import { complain, errorLine } from './image-command.js';
import { interruption, interruptSignal } from './interrupt.js';
import { freeOptions, type TrainingSettings } from './training-options.js';
import { duration, TrainingProgress } from './training-progress.js';

type NativeOptions = PretrainOptions | RankerTrainingOptions;

/** What run.json holds. */
interface RunConfig {
  format: 'ltrp-run-1';
  command: string;
  version: string;
  /** The command's options as they were understood; paths are absolute. */
  settings: Record<string, unknown>;
  options: NativeOptions;
  data: { digest: string; images: number };
  /** SHA-256 of the teacher's file; null for pre-training and for folders. */
  teacher: string | null;
}

/** Runs a training command to its end, to Ctrl-C or to SIGTERM; sets the exit code. */
export async function trainingCommand<Settings extends TrainingSettings>(
  command: Command,
  build: Build<Settings>,
): Promise<void> {
  const stop = interruptSignal();
  try {
    await train(command, build, stop);
  } catch (error) {
    const stopped = interruption();
    if (stopped === undefined) throw error;
    if (error === stop.reason) {
      say(
        `${stopped.word} before a step was done; the same command with --resume begins or goes on.`,
      );
      process.exitCode = stopped.exitCode;
    } else {
      // A save after Ctrl-C that failed must not pass for a clean stop.
      complain(errorLine(error));
      process.exitCode = exitCodes.failed;
    }
  }
}

type Build<Settings> = (settings: Settings, images: number) => Promise<NativeOptions>;

async function train<Settings extends TrainingSettings>(
  command: Command,
  build: Build<Settings>,
  stop: AbortSignal,
): Promise<void> {
  const given = absolutePaths(command.opts<Settings>());
  const folder = new RunFolder(resolve(given.out));
  if (folder.exists() && !given.resume) {
    throw new LtrpError(
      'ERR_LTRP_RUN_EXISTS',
      `${folder.path} holds a run already; continue it with --resume or choose another --out.`,
    );
  }
  const stored = folder.exists() ? readConfig(folder, command.name()) : null;
  if (given.resume && stored === null) say(`${folder.path} holds no run yet; a new one begins.`);
  const settings = stored === null ? given : mergeSettings(command, given, stored);
  if (settings.data === undefined) throw invalid('Name the training pictures with --data.');

  const core = await loadCore({ libtorch: settings.libtorch });
  if (settings.threads !== undefined) core.setThreads(settings.threads);
  stop.throwIfAborted();
  const dataset = await Dataset.open(settings.data);
  stop.throwIfAborted();
  if (stored !== null) checkData(dataset, stored);
  const options = stored?.options ?? (await build(settings, dataset.size));
  const teacher = options.kind === 'ranker' ? await fileDigest(options.teacher) : null;
  if (stored !== null && stored.teacher !== teacher) {
    throw new LtrpError(
      'ERR_LTRP_RUN_CONFLICT',
      `The teacher of the run in ${folder.path} has changed since it began; its curve cannot be continued.`,
    );
  }
  const trainer = await openTrainer(folder, options, settings.device, stop);
  await folder.create();
  if (stored === null) {
    const config: RunConfig = {
      format: 'ltrp-run-1',
      command: command.name(),
      version: packageVersion(),
      settings: {
        ...(settings as object),
        // Defaults that depend on others, so that naming them when resuming is no conflict.
        ...(settings.epochs === undefined && { steps: options.steps }),
        warmup: options.warmupSteps,
        microBatchSize: options.microBatchSize,
      },
      options,
      data: { digest: dataset.digest, images: dataset.size },
      teacher,
    };
    await folder.writeConfig(config);
  }

  const { imageHeight, imageWidth } = options.model;
  const side = Math.max(imageHeight, imageWidth);
  const unreadable = (path: string, error: LtrpError): void => {
    const text = error.message.includes(path) ? error.message : `${path}: ${error.message}`;
    if (progress) progress.say(`skipped: ${text}`);
    else say(`skipped: ${text}`);
  };
  let progress: TrainingProgress | undefined;
  // Said only once there are steps: while things are prepared, a stop is one at once.
  const stopping = (): void => {
    say('\nstopping after this step; Ctrl-C again ends at once');
  };
  try {
    const validation = settings.val
      ? await decodeValidation(await Dataset.open(settings.val), {
          limit: settings.valCount,
          shortSide: Math.ceil((side * 8) / 7),
          concurrency: settings.decodeThreads,
          maxUnreadable: settings.maxUnreadable,
          signal: stop,
          onUnreadable: unreadable,
        })
      : [];
    say(
      `${dataset.size} images, ${options.steps} steps of ${options.batchSize}` +
        `${trainer.step > 0 ? `, continuing after step ${trainer.step}` : ''}: ${folder.path}`,
    );
    progress = new TrainingProgress({
      steps: options.steps,
      firstStep: trainer.step,
      batchSize: options.batchSize,
    });
    const view = progress;
    stop.throwIfAborted();
    stop.addEventListener('abort', stopping, { once: true });
    const result = await runTraining({
      trainer,
      folder,
      dataset,
      validation,
      validateEvery: settings.valEvery ?? Math.ceil(options.steps / 20),
      checkpointEvery: settings.checkpointEvery,
      exportType: settings.exportType,
      decodeSize: settings.decodeSize ?? 2 * side,
      cacheBytes: settings.cacheMemory,
      decodeConcurrency: settings.decodeThreads,
      prefetch: settings.prefetch,
      maxUnreadable: settings.maxUnreadable,
      stop,
      onEntry: (entry) => {
        view.show(entry);
      },
      onUnreadable: unreadable,
    });
    progress.stop();
    report(result, settings.json);
  } finally {
    stop.removeEventListener('abort', stopping);
    progress?.stop();
    trainer.dispose();
  }
}

function say(message: string): void {
  process.stderr.write(`${message}\n`);
}

function absolutePaths<Settings extends TrainingSettings>(settings: Settings): Settings {
  const absolute = (sources: string[] | undefined) => sources?.map((source) => resolve(source));
  return {
    ...settings,
    ...(settings.data && { data: absolute(settings.data) }),
    ...(settings.val && { val: absolute(settings.val) }),
  };
}

function readConfig(folder: RunFolder, command: string): RunConfig {
  const config = folder.readConfig() as Partial<RunConfig>;
  if (config.format !== 'ltrp-run-1' || !config.options || !config.settings || !config.data) {
    throw new LtrpError(
      'ERR_LTRP_RUN_DAMAGED',
      `${folder.configPath} is not the description of a run; begin anew in another folder.`,
    );
  }
  if (config.command !== command) {
    throw new LtrpError(
      'ERR_LTRP_RUN_CONFLICT',
      `The run in ${folder.path} was begun with ltrp ${config.command}; continue it with that command.`,
    );
  }
  return config as RunConfig;
}

/** The run's own settings; what was given on the command line must agree with them or be free to change. */
function mergeSettings<Settings extends TrainingSettings>(
  command: Command,
  given: Settings,
  stored: RunConfig,
): Settings {
  const conflicts: string[] = [];
  const values = { ...given } as unknown as Record<string, unknown>;
  const merged: Record<string, unknown> = { ...stored.settings };
  for (const option of command.options) {
    const name = option.attributeName();
    if (command.getOptionValueSource(name) !== 'cli') continue;
    const value = values[name];
    if (freeOptions.includes(name)) {
      merged[name] = value;
    } else if (JSON.stringify(value) !== JSON.stringify(stored.settings[name])) {
      const before = stored.settings[name];
      const was = before === undefined ? 'was not given' : `is ${JSON.stringify(before)}`;
      conflicts.push(`${option.long ?? name} (${JSON.stringify(value)}; in the run it ${was})`);
    }
  }
  if (conflicts.length > 0) {
    throw new LtrpError(
      'ERR_LTRP_RUN_CONFLICT',
      `A resumed run keeps its options, but these differ: ${conflicts.join(', ')}. Leave them out, or begin a new run in another folder.`,
    );
  }
  return merged as unknown as Settings;
}

function checkData(dataset: Dataset, stored: RunConfig): void {
  if (dataset.digest === stored.data.digest) return;
  throw new LtrpError(
    'ERR_LTRP_RUN_CONFLICT',
    `The images are not the ones the run was begun with (${stored.data.images} then, ${dataset.size} now, or other names), ` +
      'so its curve cannot be continued; put them back, or begin a new run in another folder.',
  );
}

/** From the newest checkpoint that can be read; from the beginning where there is none. */
async function openTrainer(
  folder: RunFolder,
  options: NativeOptions,
  device: Device | undefined,
  signal: AbortSignal,
): Promise<Trainer> {
  const checkpoints = folder.checkpoints();
  let failure: unknown;
  for (const { path } of checkpoints) {
    try {
      return await Trainer.resume(path, { device, signal });
    } catch (error) {
      signal.throwIfAborted();
      // The device's fault, not the checkpoint's.
      if (toLtrpError(error).code === 'ERR_LTRP_UNSUPPORTED') throw error;
      failure ??= error;
      say(`${path} cannot be used: ${toLtrpError(error).message}`);
    }
  }
  if (checkpoints.length > 0) throw failure;
  return Trainer.create(options, { device, signal });
}

/** SHA-256 of a file; null for a folder. */
async function fileDigest(path: string): Promise<string | null> {
  const info = await stat(path).catch((cause: unknown) => {
    throw new LtrpError('ERR_LTRP_FILE_NOT_FOUND', `There is no teacher ${path}.`, { cause });
  });
  if (info.isDirectory()) return null;
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

function report(result: LoopResult, json: boolean): void {
  const stopped = result.status === 'stopped';
  if (stopped) process.exitCode = interruption()?.exitCode ?? exitCodes.interrupted;
  if (json) {
    process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
    return;
  }
  const wait = `data wait: ${(100 * result.dataWait).toFixed(1)}%`;
  const skipped = result.unreadable > 0 ? `, ${result.unreadable} unreadable images` : '';
  process.stdout.write(
    `${result.steps} steps in ${duration(result.seconds)}, ${wait}${skipped}\n` +
      (stopped
        ? `stopped after step ${result.step}; continue with --resume (${result.checkpoint})\n`
        : `model: ${result.model}\n`),
  );
}
