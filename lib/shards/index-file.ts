/** Indexes of shards in the user's cache folder: a shard is scanned once, until it changes. */
import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import writeFileAtomic from 'write-file-atomic';
import { cacheFolder } from '../user-folders.js';
import type { ParquetIndex } from './parquet.js';
import type { TarIndex } from './tar.js';

/** Another format is another name: older files are not read. */
const format = 'ltrp-shard-1';

export type ShardIndex = ({ kind: 'tar' } & TarIndex) | ({ kind: 'parquet' } & ParquetIndex);

function cachePath(key: string): string {
  const digest = createHash('sha256').update(`${format}\0${key}`).digest('hex');
  return join(cacheFolder(), 'shards', `${digest}.json`);
}

/** @param key - the shard's place and version, and what else the index depends on. */
export async function cachedIndex(
  key: string,
  scan: () => Promise<ShardIndex>,
): Promise<ShardIndex> {
  const path = cachePath(key);
  try {
    const { key: owner, index } = JSON.parse(await readFile(path, 'utf8')) as {
      key?: unknown;
      index: ShardIndex;
    };
    if (owner === key) return index;
  } catch {
    // Not there, or damaged: the shard tells.
  }
  const index = await scan();
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFileAtomic(path, JSON.stringify({ key, index }), { fsync: false });
  } catch {
    // Without a cache the next command scans again.
  }
  return index;
}
