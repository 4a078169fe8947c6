/** Asked for every picture, so it loads what reads shards only for paths that may lead through one. */
import type { Member } from './shard.js';

const inside = /\.(?:tar|parquet)\//gi;

/** The picture that a path below a shard names; undefined where the path leads through no shard. */
export async function memberOf(path: string): Promise<Member | undefined> {
  if (path.search(inside) < 0) return undefined;
  const { findMember } = await import('./shard.js');
  return findMember(path, inside);
}
