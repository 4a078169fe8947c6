/** Pictures that the command writes say so in a text chunk: it never takes them for pictures to work on. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';

const keyword = 'ltrp source';
/** Signature and IHDR, after which the chunk stands. */
const headLength = 33;
const idLength = 32;
const chunkLength = 12 + keyword.length + 1 + idLength;

/** The suffixes of all pictures that the command writes. */
export const outputSuffixes = {
  heat: '-heat.png',
  kept: '-kept.png',
  score: '-score.png',
  reconstruction: '-reconstruction.png',
} as const;

/** Identifies the real path `source` without revealing it. */
export function sourceId(source: string): string {
  return createHash('sha256').update(source).digest('hex').slice(0, idLength);
}

/** `png`, with the picture that it was made from. */
export function markPng(png: Uint8Array, id: string): Buffer {
  const body = Buffer.from(`tEXt${keyword}\0${id}`, 'latin1');
  const chunk = Buffer.alloc(body.length + 8);
  chunk.writeUInt32BE(body.length - 4, 0);
  body.copy(chunk, 4);
  chunk.writeUInt32BE(crc32(body), body.length + 4);
  return Buffer.concat([png.subarray(0, headLength), chunk, png.subarray(headLength)]);
}

/** The id that {@link markPng} gave to a file; undefined for every other file. */
export async function markOf(path: string): Promise<string | undefined> {
  // Never a FIFO or a device, which would be waited for.
  if (!((await stat(path).catch(() => undefined))?.isFile() ?? false)) return undefined;
  const file = await open(path).catch(() => undefined);
  if (file === undefined) return undefined;
  try {
    const bytes = Buffer.alloc(headLength + chunkLength);
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    const text = bytes.toString('latin1', headLength + 4, bytesRead);
    return text.startsWith(`tEXt${keyword}\0`)
      ? text.slice(4 + keyword.length + 1, 4 + keyword.length + 1 + idLength)
      : undefined;
  } finally {
    await file.close();
  }
}

/** Of files without a mark: what has to lie beside one that an earlier version wrote. */
const companions: Partial<Record<string, (stem: string) => string[]>> = {
  [outputSuffixes.heat]: (stem) => ['rank.jsonl', 'index.html', stem + outputSuffixes.kept],
  [outputSuffixes.kept]: (stem) => ['rank.jsonl', 'index.html', stem + outputSuffixes.heat],
  [outputSuffixes.score]: () => ['score.jsonl', 'index.html'],
};

/** Whether the command wrote this picture. */
export async function isOutput(path: string): Promise<boolean> {
  const suffix = Object.values(outputSuffixes).find((end) => path.endsWith(end));
  if (suffix === undefined) return false;
  if ((await markOf(path)) !== undefined) return true;
  const beside = companions[suffix]?.(basename(path).slice(0, -suffix.length));
  return beside?.every((name) => existsSync(join(dirname(path), name))) ?? false;
}
