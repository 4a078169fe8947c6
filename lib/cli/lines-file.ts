/** Lines of JSON on disk as soon as they are appended: whatever ends the process afterwards, they are there, and whole. */
import { createHash } from 'node:crypto';
import { open, rename, rm, type FileHandle } from 'node:fs/promises';
import { refuseSpecial, writeError } from '../output-files.js';
import type { OutputFolder } from './output-folder.js';

/** Key of a line. */
export const lineId = (line: string): string =>
  createHash('sha256').update(line).digest('hex').slice(0, 16);

export class LinesFile {
  #file: FileHandle | undefined;
  #length = 0;
  /** Bytes of earlier calls. */
  #earlier = 0;

  constructor(
    private readonly folder: OutputFolder,
    private readonly path: string,
  ) {}

  /** @throws {LtrpError} `ERR_LTRP_FILE_WRITE` when there is something of the name that can hold no lines. */
  async check(): Promise<void> {
    await refuseSpecial(this.path);
  }

  /** @throws {LtrpError} `ERR_LTRP_FILE_WRITE`; the lines before are then as they were. */
  async append(line: string): Promise<void> {
    const bytes = Buffer.from(`${line}\n`);
    try {
      this.#file ??= await this.#open();
      await this.#file.appendFile(bytes);
      this.#length += bytes.length;
    } catch (cause) {
      // Half a line where the disk is full.
      await this.#file?.truncate(this.#length).catch(() => undefined);
      throw writeError(this.path, cause);
    }
  }

  async close(): Promise<void> {
    await this.#file?.close();
    this.#file = undefined;
  }

  /**
   * Takes out lines of earlier calls. The file is replaced, so its present readers keep the old one.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_WRITE`; all lines are then there.
   */
  async drop(isSuperseded: (line: string) => boolean): Promise<void> {
    if (this.#file === undefined || this.#earlier === 0) return;
    const partial = `${this.path}.partial`;
    try {
      await rm(partial, { force: true });
      const target = await open(partial, 'wx');
      try {
        let position = 0;
        for await (const line of this.#lines()) {
          const earlier = position < this.#earlier;
          position += line.length;
          if (earlier && isSuperseded(line.toString('utf8', 0, line.length - 1))) continue;
          await target.appendFile(line);
        }
      } finally {
        await target.close();
      }
      await rename(partial, this.path);
    } catch (cause) {
      await rm(partial, { force: true }).catch(() => undefined);
      throw writeError(this.path, cause);
    }
  }

  /** With their line feeds; only those separate lines, whatever else is in a name. */
  async *#lines(): AsyncGenerator<Buffer, void, undefined> {
    const file = await open(this.path);
    let rest = Buffer.alloc(0);
    for await (const chunk of file.createReadStream()) {
      rest = Buffer.concat([rest, chunk as Buffer]);
      for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
        yield rest.subarray(0, end + 1);
        rest = rest.subarray(end + 1);
      }
    }
    if (rest.length > 0) yield rest;
  }

  async #open(): Promise<FileHandle> {
    await this.folder.make();
    await refuseSpecial(this.path);
    const file = await open(this.path, 'a+'); // after a half-written line was cut off, the next one belongs at the end
    const { size } = await file.stat();
    const whole = await wholeLines(file, size);
    const rest = Buffer.alloc(size - whole);
    await file.read(rest, 0, rest.length, whole);
    if (rest.length > 0 && isHalf(rest.toString())) await file.truncate(whole);
    else if (rest.length > 0) await file.appendFile('\n');
    this.#earlier = this.#length = (await file.stat()).size;
    return file;
  }
}

/** Whether a process that was killed left this. */
function isHalf(line: string): boolean {
  try {
    JSON.parse(line);
    return false;
  } catch {
    return line.startsWith('{"image":');
  }
}

/** Bytes up to the end of the last line. */
async function wholeLines(file: FileHandle, size: number): Promise<number> {
  const chunk = Buffer.alloc(65536);
  for (let end = size; end > 0;) {
    const start = Math.max(0, end - chunk.length);
    await file.read(chunk, 0, end - start, start);
    const at = chunk.subarray(0, end - start).lastIndexOf(10);
    if (at >= 0) return start + at + 1;
    end = start;
  }
  return 0;
}
