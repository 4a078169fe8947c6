/** The folder of a training run: run.json (what defines it), log.jsonl (its curve), checkpoints, the model at the end. */
import { appendFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { LtrpError, readError, runDamaged } from '../errors.js';
import { makeFolders, writeError } from '../output-files.js';

/** A line of the log. `step` is the number of optimizer steps done. */
export type LogEntry = { step: number } & Record<string, unknown>;

const CHECKPOINT = /^checkpoint-(\d{9,})\.safetensors$/;
/** Files left behind by a save that was killed. */
const UNFINISHED = /^\.checkpoint-\d{9,}\.safetensors\b.*\.tmp$/;
/** Checkpoints that are kept: the newest and, should that one turn out damaged, the one before. */
const KEPT_CHECKPOINTS = 2;

export class RunFolder {
  constructor(readonly path: string) {}

  get logPath(): string {
    return join(this.path, 'log.jsonl');
  }

  get modelPath(): string {
    return join(this.path, 'model.safetensors');
  }

  get configPath(): string {
    return join(this.path, 'run.json');
  }

  checkpointPath(step: number): string {
    return join(this.path, `checkpoint-${String(step).padStart(9, '0')}.safetensors`);
  }

  /** Whether a run started here. */
  exists(): boolean {
    return existsSync(this.configPath);
  }

  async create(): Promise<void> {
    await makeFolders(this.path).catch((cause: unknown) => {
      throw writeError(this.path, cause);
    });
  }

  /** A file that a run here would take for its own or write over, where no run is; undefined where there is none. */
  foreignFile(): string | undefined {
    if (this.exists() || !existsSync(this.path)) return undefined;
    const written = ['model.safetensors', 'classes.txt', 'log.jsonl'];
    return readdirSync(this.path).find((name) => written.includes(name) || CHECKPOINT.test(name));
  }

  /** For the owner of the folder: removes what a killed save left behind. */
  async tidy(): Promise<void> {
    for (const name of readdirSync(this.path)) {
      if (UNFINISHED.test(name)) await rm(join(this.path, name), { force: true });
    }
  }

  readConfig(): unknown {
    try {
      return JSON.parse(readFileSync(this.configPath, 'utf8'));
    } catch (cause) {
      throw runDamaged(
        `${this.configPath} cannot be read: ${(cause as Error).message.slice(0, 200)}. Start again in another folder.`,
        cause,
      );
    }
  }

  async writeConfig(config: unknown): Promise<void> {
    await writeAtomic(this.configPath, (file) =>
      file.writeFile(`${JSON.stringify(config, null, 2)}\n`),
    );
  }

  /** Names of the classes in the order of the logits, one a line. */
  async writeClasses(classes: readonly string[]): Promise<void> {
    await writeAtomic(join(this.path, 'classes.txt'), (file) =>
      file.writeFile(`${classes.join('\n')}\n`),
    );
  }

  /** Checkpoints, newest first. */
  checkpoints(): { step: number; path: string }[] {
    if (!existsSync(this.path)) return [];
    return readdirSync(this.path)
      .flatMap((name) => {
        const match = CHECKPOINT.exec(name);
        return match === null ? [] : [{ step: Number(match[1]), path: join(this.path, name) }];
      })
      .sort((a, b) => b.step - a.step);
  }

  /** Removes all but the newest checkpoints. */
  async rotate(): Promise<void> {
    for (const { path } of this.checkpoints().slice(KEPT_CHECKPOINTS))
      await rm(path, { force: true });
  }

  /** The entries of the log, one after the other; whatever else stands there is counted, but for a last line that a kill cut off. */
  async *readLog(damaged: { lines: number }): AsyncGenerator<LogEntry> {
    let file: FileHandle;
    try {
      file = await open(this.logPath);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw readError(this.logPath, cause);
    }
    let bad = 0;
    try {
      for await (const line of file.readLines()) {
        damaged.lines += bad;
        const entry = parseEntry(line);
        bad = entry === null && line !== '' ? 1 : 0;
        if (entry !== null) yield entry;
      }
    } catch (cause) {
      if (cause instanceof LtrpError) throw cause;
      throw readError(this.logPath, cause);
    } finally {
      await file.close();
    }
  }

  /** Appends one line. Synchronous: when a checkpoint is written, the log up to its step is already there. */
  log(entry: LogEntry): void {
    try {
      appendFileSync(this.logPath, lineOf(entry));
    } catch (cause) {
      throw writeError(this.logPath, cause);
    }
  }

  /** Takes back what was logged after `step`; `seen` gets what remains, in order. Returns how many lines were no entries. */
  async truncateLog(step: number, seen: (entry: LogEntry) => void): Promise<number> {
    const damaged = { lines: 0 };
    await writeAtomic(this.logPath, async (file) => {
      let pending = '';
      for await (const entry of this.readLog(damaged)) {
        if (entry.step > step) continue;
        seen(entry);
        pending += lineOf(entry);
        if (pending.length < 2 ** 16) continue;
        await file.writeFile(pending);
        pending = '';
      }
      await file.writeFile(pending);
    });
    return damaged.lines;
  }
}

/** JSON has no NaN and no infinities: they are written as words, so that they do not become `null`. */
export const finiteOrWord = (_key: string, value: unknown): unknown =>
  typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;

const lineOf = (entry: LogEntry): string => `${JSON.stringify(entry, finiteOrWord)}\n`;

function parseEntry(line: string): LogEntry | null {
  try {
    const value = JSON.parse(line) as LogEntry | null;
    return Number.isSafeInteger(value?.step) ? value : null;
  } catch {
    return null;
  }
}

async function writeAtomic(
  path: string,
  write: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const partial = `${path}.partial`;
  try {
    const file = await open(partial, 'w');
    try {
      await write(file);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(partial, path);
  } catch (cause) {
    await rm(partial, { force: true });
    throw writeError(path, cause);
  }
}
