/** Which files are shards, and the names of those that lie elsewhere. */
import { join } from 'node:path';
import { LtrpError } from '../errors.js';
import { invalid } from '../validation.js';
import { persistently, publicName, type RemoteOptions } from './remote.js';
import { listQuery, parseList, s3Location, signed } from './s3.js';

export const isRemote = (name: string): boolean => /^(https?|s3):\/\//.test(name);

const shardName = /\.(tar|parquet)$/i;

/** A name that is relative to a root; what lies in a shard keeps its spelling. */
export const joinName = (root: string, name: string): string =>
  isRemote(root) || /\.(tar|parquet)\//i.test(name) ? `${root}/${name}` : join(root, name);

/** By its extension, of a path or an address. */
export const isShard = (name: string): boolean =>
  shardName.test(isRemote(name) ? publicName(name) : name);

/**
 * The shards that an address stands for: of `s3://bucket/prefix` all below it, sorted; otherwise one, or with braces
 * (`{000..127}`, `{a,b}`) several.
 *
 * @throws {LtrpError} `ERR_LTRP_DATA_EMPTY`; `ERR_LTRP_INVALID_ARGUMENT` for an address of something else; as reading.
 */
export async function remoteShards(name: string, options: RemoteOptions = {}): Promise<string[]> {
  const urls = expandBraces(name);
  if (urls.every(isShard)) return urls;
  if (!name.startsWith('s3:')) {
    throw invalid(
      `${publicName(name)} is neither a .tar nor a .parquet file; web servers have no lists of files, so name each, or write {000..127}.`,
    );
  }
  const { bucket } = s3Location(name);
  const keys: string[] = [];
  let next: string | undefined;
  do {
    const { url, query } = listQuery(name, next);
    const page = await persistently(name, options, async (attempt) => {
      const ready = await signed(url, {}, options.env, query);
      return attempt.text(ready.url, ready.headers);
    });
    const list = parseList(name, page);
    keys.push(...list.keys.filter((key) => shardName.test(key)));
    next = list.next;
  } while (next !== undefined);
  if (keys.length === 0) {
    throw new LtrpError('ERR_LTRP_DATA_EMPTY', `There is no .tar or .parquet file below ${name}.`);
  }
  return keys.sort().map((key) => `s3://${bucket}/${key}`);
}

/** `{08..11}` and `{a,b}`, as in a shell. */
function expandBraces(text: string): string[] {
  const match = /^(.*?)\{([^{}]*)\}(.*)$/.exec(text);
  if (match === null) return [text];
  const [, before = '', inside = '', after = ''] = match;
  const range = /^(\d+)\.\.(\d+)$/.exec(inside);
  const [from, to] = [Number(range?.[1]), Number(range?.[2])];
  if (range !== null && !(to - from < 1_000_000)) throw invalid(`${text} names too many files.`);
  const width = range?.[1]?.length ?? 0;
  const words =
    range === null
      ? inside.split(',')
      : Array.from({ length: Math.max(0, to - from + 1) }, (_, i) =>
          String(from + i).padStart(width, '0'),
        );
  return words.flatMap((word) => expandBraces(`${before}${word}${after}`));
}
