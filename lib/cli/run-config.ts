/** run.json: what defines a run, and what was changed since it began. */
import type { Command, Option } from 'commander';
import { LtrpError, conflict, runDamaged } from '../errors.js';
import type { AnyTrainingOptions } from '../trainer.js';
import type { RunFolder } from '../training/run-folder.js';

export type NativeOptions = AnyTrainingOptions;

/** A change of a resumed run. */
export interface RunChange {
  /** Optimizer steps that were done before it took effect. */
  step: number;
  /** By the option's name on the command line, or `pictures`. */
  changed: Record<string, { from: unknown; to: unknown }>;
}

export interface RunConfig {
  format: 'ltrp-run-1';
  command: string;
  version: string;
  /** The command's options as they were understood; paths are absolute. */
  settings: Record<string, unknown>;
  options: NativeOptions;
  /** `labels`: a digest of those that a file lists. */
  data: { digest: string; images: number; labels?: string };
  /** SHA-256 of the teacher, or of the selector's model; null without one, and of earlier versions for a folder. */
  teacher: string | null;
  /** Names of the classes; absent where there are no labels. */
  classes?: readonly string[];
  /** Absent before there are any. */
  changes?: RunChange[];
}

/**
 * The run of `folder`, which `command` must have started. Settings in the file are checked like typed ones.
 *
 * @throws {LtrpError} `ERR_LTRP_RUN_DAMAGED`, `ERR_LTRP_RUN_CONFLICT`.
 */
export function readRunConfig(folder: RunFolder, command: Command): RunConfig {
  const config = folder.readConfig() as RunConfig | null;
  const kind = { pretrain: 'pretrain', train: 'ranker', finetune: 'finetune' }[
    config?.command ?? ''
  ];
  const good =
    config?.format === 'ltrp-run-1' &&
    isRecord(config.settings) &&
    isRecord(config.options) &&
    config.options.kind === kind &&
    [config.options.steps, config.options.batchSize, config.options.warmupSteps].every(
      (value) => Number.isSafeInteger(value) && value >= 0,
    ) &&
    isRecord(config.data) &&
    typeof config.data.digest === 'string' &&
    Number.isSafeInteger(config.data.images);
  if (!good) {
    throw damaged(folder, 'is not the description of a run');
  }
  if (config.command !== command.name()) {
    throw conflict(
      `The run in ${folder.path} was begun with ltrp ${config.command}; continue it with that command.`,
    );
  }
  const settings: Record<string, unknown> = {};
  for (const option of command.options) {
    const name = option.attributeName();
    const stored = config.settings[name];
    try {
      settings[name] =
        stored === undefined || stored === null
          ? (option.defaultValue ?? (option.negate ? true : undefined))
          : understood(option, stored);
    } catch (cause) {
      const found = JSON.stringify(stored).slice(0, 200);
      throw damaged(folder, `has ${found} for ${option.long ?? name}: ${(cause as Error).message}`);
    }
  }
  return { ...config, settings, changes: Array.isArray(config.changes) ? config.changes : [] };
}

export function damaged(folder: RunFolder, what: string): LtrpError {
  return runDamaged(
    `${folder.configPath} ${what.replace(/\.$/, '')}. Repair it, or start again in another folder.`,
  );
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A stored value, read as if it had been typed. */
function understood(option: Option, stored: unknown): unknown {
  if (option.variadic) {
    if (Array.isArray(stored) && stored.length > 0 && stored.every((s) => typeof s === 'string')) {
      return stored;
    }
    throw new Error('It must be a list of texts.');
  }
  if (!option.required && !option.optional) {
    if (typeof stored === 'boolean') return stored;
    throw new Error('It must be true or false.');
  }
  const text = typed(stored);
  if (text === null) throw new Error('That is not a possible value.');
  const parse = option.parseArg as ((text: string, before: unknown) => unknown) | undefined;
  return parse ? parse(text, undefined) : text;
}

/** How a value would have been typed: the inverse of the parsers in training-options.ts. */
function typed(stored: unknown): string | null {
  if (typeof stored === 'string') return stored;
  if (typeof stored === 'number') return String(stored);
  if (Array.isArray(stored)) return stored.join(',');
  if (!isRecord(stored)) return null;
  const { height, width, steps, seconds } = stored as Record<string, number | undefined>;
  if (height !== undefined) return `${JSON.stringify(height)}x${JSON.stringify(width)}`;
  if (steps !== undefined) return JSON.stringify(steps);
  return `${JSON.stringify(seconds)}s`;
}
