import { realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Everything that is fetched or generated lives under one folder of the user's cache. */
export function cacheRoot() {
  const base = process.env.XDG_CACHE_HOME
    ? resolve(process.env.XDG_CACHE_HOME)
    : join(homedir(), '.cache');
  return join(base, 'ltrp');
}

export const photosRoot = () => join(cacheRoot(), 'photos');
export const scenesRoot = () => join(cacheRoot(), 'scenes');

/** Whether the module of this URL is the script that node was started with. */
export function isMain(url) {
  return process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(url);
}
