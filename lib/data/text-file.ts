/** Text that people and their programs wrote: lists of pictures and files of labels. */
import { readFile } from 'node:fs/promises';
import { readError } from '../errors.js';
import { invalid } from '../validation.js';

/**
 * The file's text without a mark of the byte order: UTF-16 where there is its mark (PowerShell's `>` and Excel write it), the
 * encoding that an XML declaration names, else UTF-8.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_READ`; `ERR_LTRP_INVALID_ARGUMENT` for an encoding that is not known.
 */
export async function readTextFile(path: string): Promise<string> {
  const bytes = await readFile(path).catch((cause: unknown) => {
    throw readError(path, cause);
  });
  const encoding = byMark(bytes) ?? declared(bytes) ?? 'utf-8';
  try {
    return new TextDecoder(encoding).decode(bytes);
  } catch (cause) {
    throw invalid(`${path} is in an encoding that is not known: ${encoding}.`, cause);
  }
}

function byMark([first, second]: Uint8Array): string | undefined {
  if (first === 0xff && second === 0xfe) return 'utf-16le';
  return first === 0xfe && second === 0xff ? 'utf-16be' : undefined;
}

const declared = (bytes: Buffer): string | undefined =>
  /^<\?xml[^>]*\bencoding=["']([\w.:-]+)["']/.exec(bytes.toString('latin1', 0, 200))?.[1];
