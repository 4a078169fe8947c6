/** The user's folders, the variables that name them, and what is in folders and files. */
import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import type { Environment } from '../download/environment.js';

export { isOn, type Environment } from '../download/environment.js';

/** An XDG folder; the specification says that a relative value is to be ignored. */
function xdgFolder(env: Environment, variable: string, fallback: string): string {
  const value = env[variable];
  const base =
    value !== undefined && path.isAbsolute(value) ? value : path.join(homeFolder(env), fallback);
  return path.join(base, 'ltrp');
}

function homeFolder(env: Environment): string {
  const home = env['HOME'];
  return home !== undefined && path.isAbsolute(home) ? home : homedir();
}

/** `$XDG_CACHE_HOME/ltrp`, by default `~/.cache/ltrp`. */
export function cacheFolder(env: Environment = process.env): string {
  return xdgFolder(env, 'XDG_CACHE_HOME', '.cache');
}

/** `$XDG_CONFIG_HOME/ltrp`, by default `~/.config/ltrp`. */
export function configFolder(env: Environment = process.env): string {
  return xdgFolder(env, 'XDG_CONFIG_HOME', '.config');
}

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
