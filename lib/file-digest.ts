/** Tells whether a file is still the one that it was. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { shardsOf } from './hub/cache.js';

/** SHA-256 of bytes, in hexadecimal digits. */
export const bytesDigest = (bytes: Uint8Array): string =>
  createHash('sha256').update(bytes).digest('hex');

/** SHA-256 of a file's bytes, in hexadecimal digits. */
async function fileDigest(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** What is read of a model's folder. */
const modelFile = /\.(safetensors|pth|pt|bin|ckpt|json)$/;

/** Of the folder of a model, or of an index and the shards that it names; null for a file that is all of its model. */
async function partsOf(path: string): Promise<{ folder: string; names: string[] } | null> {
  if ((await stat(path)).isDirectory()) {
    const entries = await readdir(path, { withFileTypes: true });
    const files = entries.filter((entry) => !entry.isDirectory() && modelFile.test(entry.name));
    return { folder: path, names: files.map(({ name }) => name) };
  }
  if (!path.endsWith('.index.json')) return null;
  const shards = shardsOf(await readFile(path, 'utf8')) ?? [];
  return { folder: dirname(path), names: [basename(path), ...shards] };
}

/**
 * SHA-256 of a model, in hexadecimal digits: of its file; of a folder or an index, of the names and bytes of all files that are read.
 * Errors of the disk come as they are.
 */
export async function modelDigest(path: string): Promise<string> {
  const parts = await partsOf(path);
  if (parts === null) return fileDigest(path);
  const { folder, names } = parts;
  const hash = createHash('sha256');
  for (const name of names.sort())
    hash.update(`${name}\0${await fileDigest(join(folder, name))}\0`);
  return hash.digest('hex');
}
