/** The folder of a training run: run.json (what defines it), log.jsonl (its curve), checkpoints, the model at the end. */
import { appendFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { LtrpError } from '../errors.js';

/** A line of the log. `step` is the number of optimizer steps done. */
export type LogEntry = { step: number } & Record<string, unknown>;

const CHECKPOINT = /^checkpoint-(\d{9})\.safetensors$/;
/** What a killed save leaves behind. */
const UNFINISHED = /^\.checkpoint-\d{9}\.safetensors\.tmp$/;
/** Checkpoints that are kept: the newest and, should that one turn out damaged, the one before. */
const KEPT_CHECKPOINTS = 2;

export class RunFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

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

  /** Whether a run was begun here. */
  exists(): boolean {
    return existsSync(this.configPath);
  }

  async create(): Promise<void> {
    await mkdir(this.path, { recursive: true }).catch((cause: unknown) => {
      throw writeError(this.path, cause);
    });
    for (const name of readdirSync(this.path)) {
      if (UNFINISHED.test(name)) await rm(join(this.path, name), { force: true });
    }
  }

  readConfig(): unknown {
    try {
      return JSON.parse(readFileSync(this.configPath, 'utf8'));
    } catch (cause) {
      throw new LtrpError(
        'ERR_LTRP_RUN_DAMAGED',
        `${this.configPath} cannot be read: ${(cause as Error).message}. Begin anew in another folder.`,
        { cause },
      );
    }
  }

  async writeConfig(config: unknown): Promise<void> {
    await writeAtomic(this.configPath, `${JSON.stringify(config, null, 2)}\n`);
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

  /** Every entry of the log; a line that a kill cut off is left out. */
  readLog(): LogEntry[] {
    if (!existsSync(this.logPath)) return [];
    return readFileSync(this.logPath, 'utf8')
      .split('\n')
      .flatMap((line) => {
        try {
          return line === '' ? [] : [JSON.parse(line) as LogEntry];
        } catch {
          return [];
        }
      });
  }

  /** Appends one line. Synchronous: when a checkpoint is written, the log up to its step is already there. */
  log(entry: LogEntry): void {
    try {
      appendFileSync(this.logPath, `${JSON.stringify(entry)}\n`);
    } catch (cause) {
      throw writeError(this.logPath, cause);
    }
  }

  /** Takes back what was logged after `step`; what is returned is what remains. */
  async truncateLog(step: number): Promise<LogEntry[]> {
    const kept = this.readLog().filter((entry) => entry.step <= step);
    await writeAtomic(this.logPath, kept.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
    return kept;
  }
}

function writeError(path: string, cause: unknown): LtrpError {
  return new LtrpError(
    'ERR_LTRP_FILE_WRITE',
    `${path} cannot be written: ${(cause as Error).message}`,
    { cause },
  );
}

async function writeAtomic(path: string, text: string): Promise<void> {
  const partial = `${path}.partial`;
  try {
    const file = await open(partial, 'w');
    try {
      await file.writeFile(text);
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
