/** How a data set is divided into parts without counting its pictures: by the bytes of its shards. */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { conflict, readError } from '../errors.js';
import { isRemote, isShard } from '../shards/locations.js';
import { publicName, remoteSource } from '../shards/remote.js';
import { Slots } from '../slots.js';
import { openShard, type Shard, type ShardOptions } from '../shards/shard.js';

/** What is divided: a shard, or loose pictures one after the other. */
export interface Unit {
  /** As it was named, without a query; of loose pictures the first. */
  name: string;
  /** A shard's bytes, or the number of loose pictures. */
  size: number;
  /** The ETag of a shard elsewhere. */
  version?: string;
  /** Whether it is loose pictures. */
  loose?: true;
}

/** What a loose picture counts for: opening each to ask would take longer than being wrong. */
const looseBytes = 2 ** 17;
/** Of a part, where nobody says how many there are to be. */
const partBytes = 2 ** 30;

const weightOf = ({ size, loose }: Unit): number => (loose ? size * looseBytes : size);
const totalOf = (units: readonly Unit[]): number =>
  units.reduce((sum, unit) => sum + weightOf(unit), 0);

/** Parts where none were asked for. */
export const defaultParts = (units: readonly Unit[]): number =>
  Math.max(1, Math.ceil(totalOf(units) / partBytes));

/** Files that may be asked for their size at the same time. */
const asking = 32;

/** The units of files in their order. */
export async function unitsOf(files: readonly string[], signal: AbortSignal): Promise<Unit[]> {
  const units: Unit[] = [];
  for (const file of files) {
    const last = units.at(-1);
    if (isShard(file)) units.push({ name: file, size: 0 });
    else if (last?.loose) last.size++;
    else units.push({ name: file, size: 1, loose: true });
  }
  const slots = new Slots(asking);
  const ask = async (unit: Unit): Promise<void> => {
    signal.throwIfAborted();
    Object.assign(unit, await shardOf(unit.name, signal));
  };
  const shards = units.filter(({ loose }) => !loose);
  await Promise.all(shards.map((unit) => slots.run(() => ask(unit))));
  return units;
}

async function shardOf(location: string, signal: AbortSignal): Promise<Unit> {
  if (isRemote(location)) {
    const { size, version } = await remoteSource(location, { signal });
    return { name: publicName(location), size, version };
  }
  const info = await stat(resolve(location)).catch((cause: unknown) => {
    throw readError(location, cause);
  });
  return { name: location, size: info.size };
}

/** A part's pictures, and what was lost in its share of the shards. */
export interface PartPictures {
  files: string[];
  /** Of a shard that several parts share, each has it. */
  damage: Shard['damage'][number][];
}

/**
 * The pictures of part `part` (from 0) of `parts`: those that begin in its share of the bytes. Every picture begins in one part.
 *
 * @param files - those that `units` were made of.
 * @throws {LtrpError} `ERR_LTRP_RUN_CONFLICT` for a shard that is not of the size or the version it was; as `openShard`.
 */
export async function partPictures(
  files: readonly string[],
  units: readonly Unit[],
  { part, parts }: { part: number; parts: number },
  options: ShardOptions,
): Promise<PartPictures> {
  const total = BigInt(totalOf(units));
  const bound = (number: number): number => Number((total * BigInt(number)) / BigInt(parts));
  const [from, to] = [bound(part), bound(part + 1)];
  const found: PartPictures = { files: [], damage: [] };
  let start = 0;
  let file = 0;
  for (const unit of units) {
    const end = start + weightOf(unit);
    const isOurs = end > from && start < to;
    const count = unit.loose ? unit.size : 1;
    if (isOurs && unit.loose) {
      const own = files.slice(file, file + count);
      found.files.push(...own.filter((_, i) => isIn(start + i * looseBytes, from, to)));
    } else if (isOurs) {
      const shard = await openShard(files[file] as string, options);
      if (
        shard.size !== unit.size ||
        (unit.version !== undefined && shard.version !== unit.version)
      ) {
        throw conflict(
          `${shard.name} has changed since the store was begun (${unit.size} bytes then, ${shard.size} now). ` +
            'Put it back, or begin another store.',
        );
      }
      for (const [i, key] of shard.keys.entries()) {
        if (isIn(start + (shard.offsets[i] as number), from, to))
          found.files.push(`${shard.name}/${key}`);
      }
      found.damage.push(...shard.damage);
    }
    start = end;
    file += count;
  }
  return found;
}

const isIn = (place: number, from: number, to: number): boolean => place >= from && place < to;
