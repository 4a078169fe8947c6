/** The trainer of a run that goes on. */
import { LtrpError, toLtrpError, runDamaged } from '../errors.js';
import { Trainer } from '../trainer.js';
import { lastGoodStep } from '../training/divergence.js';
import type { RunFolder } from '../training/run-folder.js';
import type { Device } from '../types.js';
import { invalid } from '../validation.js';
import { changesOf } from './resumed-settings.js';
import type { NativeOptions } from './run-config.js';
import { say } from './training-progress.js';

/** From the newest good checkpoint; from the beginning without one. */
export async function openTrainer(
  folder: RunFolder,
  options: NativeOptions,
  place: { device: Device | undefined; signal: AbortSignal },
): Promise<Trainer> {
  const good = await lastGoodStep(folder.readLog({ lines: 0 }));
  const checkpoints = folder.checkpoints();
  let failure: LtrpError | undefined;
  for (const { step, path } of checkpoints) {
    if (step > good) {
      say(`passing over ${path}: the run diverged after it`);
      continue;
    }
    if (step > options.steps) {
      throw invalid(
        `--steps must be at least the ${step} steps that are done; got ${options.steps}.`,
      );
    }
    try {
      return await Trainer.resume(path, { ...place, changes: changesOf(options) });
    } catch (cause) {
      place.signal.throwIfAborted();
      const error = toLtrpError(cause);
      // Of the checkpoint itself; anything else would befall the next one too.
      const own = [
        'ERR_LTRP_CHECKPOINT_FORMAT',
        'ERR_LTRP_CHECKPOINT_CONTENT',
        'ERR_LTRP_FILE_READ',
      ];
      if (!own.includes(error.code)) throw cause;
      failure ??= error;
      say(`passing over ${path}: ${error.message}`);
    }
  }
  if (failure !== undefined) {
    throw runDamaged(
      `No checkpoint in ${folder.path} can be used: ${failure.message} Remove them to begin this run again from its first step, or ` +
        'begin a new one in another folder.',
      failure,
    );
  }
  if (checkpoints.length > 0)
    say('no checkpoint is left: the run begins again from its first step');
  return Trainer.create(options, place);
}
