/** Where LibTorch is kept, and what is in folders and files. */
import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import path from 'node:path';
import type { Environment } from '../download/environment.js';
import { cacheFolder } from '../user-folders.js';

export { isOn, type Environment } from '../download/environment.js';
export { cacheFolder, configFolder } from '../user-folders.js';

/** One folder per version and variant, for example `2.13.0-cpu`. */
export function libtorchCacheFolder(env: Environment = process.env): string {
  return path.join(cacheFolder(env), 'libtorch');
}

/** Names in a folder, sorted; none where it cannot be read. */
export function listFolder(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

/** The beginning of a file, shorter where the file is. Throws the file system's errors. */
export function firstBytes(file: string, length: number): Buffer {
  const descriptor = openSync(file, 'r');
  try {
    const bytes = Buffer.alloc(length);
    return bytes.subarray(0, readSync(descriptor, bytes, 0, length, 0));
  } finally {
    closeSync(descriptor);
  }
}
