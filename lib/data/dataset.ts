/** The order in which training sees its pictures. */
import { createHash } from 'node:crypto';
import { LtrpError } from '../errors.js';
import { invalid } from '../validation.js';
import { defaultRowGroupMemory, type MemberGroup, type ShardOptions } from '../shards/shard.js';
import { permutation, shuffle } from './shuffle.js';
import { resolveSources, type ResolvedSources, type Source } from './sources.js';

interface Part {
  /** Index of the source's first file in `files`. */
  offset: number;
  size: number;
  /** Pictures of this source in an epoch. */
  quota: number;
}

/**
 * Pictures of one or more sources and, for a seed, an endless sequence of them: epochs, each in another order. The sequence is
 * a pure function of (seed, position), so a resumed run continues exactly where it stood.
 *
 * An epoch has as many pictures as there are files. Without shares it has every file once. With shares each source gives its
 * part of the epoch in shuffled rounds: no file occurs twice before all of the source occurred once.
 */
export class Dataset {
  readonly files: readonly string[];
  /** Identifies the files and their order by their names within the sources, not by where the sources lie. */
  readonly digest: string;
  /** Files skipped when the sources were searched, as sentences. */
  readonly passedOver: readonly string[];
  /** A line for each damage of a shard, and how many records are lost by all. */
  readonly damage: readonly string[];
  readonly lost: number;
  /** Files that are read together, by their places in `files`. */
  readonly #groups: readonly MemberGroup[];
  /** Bytes of the groups of a window, at most; two windows are needed where one follows the other. */
  readonly #windowBytes: number;
  readonly #problems = new Map<string, LtrpError>();
  readonly #parts: readonly Part[];
  #pictures: number | undefined;
  readonly #orders = new Map<string, Uint32Array>();

  constructor(
    /** Where they come from, in the order of the files. */
    readonly sources: readonly Source[],
    {
      passedOver = [],
      damage = [],
      lost = 0,
      rowGroupMemory = defaultRowGroupMemory,
    }: Partial<Omit<ResolvedSources, 'sources'>> & Pick<ShardOptions, 'rowGroupMemory'> = {},
  ) {
    if (sources.length === 0) throw invalid('There must be at least one source of images.');
    this.files = sources.flatMap((source) => source.files);
    [this.passedOver, this.damage, this.lost] = [passedOver, damage, lost];
    this.#windowBytes = rowGroupMemory / 2;
    let before = 0;
    this.#groups = sources.flatMap(({ groups = [], files }) => {
      const moved = groups.map((group) => ({ ...group, first: group.first + before }));
      before += files.length;
      return moved;
    });
    for (const { problems } of sources) {
      for (const [path, problem] of problems) this.#problems.set(path, problem);
    }
    const hash = createHash('sha256');
    for (const source of sources) {
      hash.update(`${source.share ?? 'all'}\0`);
      // One by one: together they may be longer than a string can be.
      for (const [i, name] of source.names.entries()) hash.update(i === 0 ? name : `\0${name}`);
      hash.update('\0\0');
    }
    this.digest = hash.digest('hex');
    this.#parts = divide(sources, this.files.length);
  }

  /** @throws {LtrpError} as {@link resolveSources}. */
  static async open(names: readonly string[], options: ShardOptions = {}): Promise<Dataset> {
    const { sources, ...found } = await resolveSources(names, options);
    const { rowGroupMemory } = options;
    return new Dataset(sources, { ...found, rowGroupMemory });
  }

  /** A problem found when the sources were searched. It says more than that the file is missing. */
  problemOf(path: string): LtrpError | undefined {
    return this.#problems.get(path);
  }

  /** Number of files, and of pictures in an epoch. */
  get size(): number {
    return this.files.length;
  }

  /** Number of different files: of a source whose pictures come several times, fewer than {@link size}. */
  get pictures(): number {
    return (this.#pictures ??= new Set(this.files).size);
  }

  /** Index into {@link files} of the picture at `position` (0, 1, …) of the sequence of `seed`. */
  at(position: number, seed: number): number {
    const epoch = Math.floor(position / this.size);
    return this.#epoch(epoch, seed)[position % this.size] as number;
  }

  #epoch(epoch: number, seed: number): Uint32Array {
    return this.#remember(`${seed} ${epoch}`, () => {
      const order = new Uint32Array(this.size);
      let filled = 0;
      for (const [number, part] of this.#parts.entries()) {
        for (let i = 0; i < part.quota; i++) {
          const draw = epoch * part.quota + i;
          const round = Math.floor(draw / part.size);
          const files = this.#remember(`${seed} ${number} ${round}`, () =>
            permutation(part.size, seed, number, round, 1),
          );
          order[filled++] = part.offset + (files[draw % part.size] as number);
        }
      }
      const shuffled = shuffle(order, seed, epoch, 0);
      return this.#groups.length === 0 ? shuffled : this.#windowed(shuffled, seed, epoch);
    });
  }

  /**
   * The same pictures, so that few row groups are needed at a time: the groups are shuffled and cut into windows of bounded memory,
   * pictures of no group are dealt to the windows evenly, and each window is shuffled.
   */
  #windowed(order: Uint32Array, seed: number, epoch: number): Uint32Array {
    const loose = 0xffffffff;
    const windowOf = new Uint32Array(this.size).fill(loose);
    let windows = 0;
    let bytes = Infinity;
    for (const number of permutation(this.#groups.length, seed, epoch, 2)) {
      const group = this.#groups[number] as MemberGroup;
      if (bytes + group.bytes > this.#windowBytes) {
        windows++;
        bytes = 0;
      }
      bytes += group.bytes;
      windowOf.fill(windows - 1, group.first, group.first + group.count);
    }
    const inWindows: number[][] = Array.from({ length: windows }, () => []);
    const others: number[] = [];
    for (const picture of order) (inWindows[windowOf[picture] as number] ?? others).push(picture);
    const grouped = order.length - others.length;
    if (grouped === 0) return order;
    let [dealt, passed] = [0, 0];
    for (const window of inWindows) {
      passed += window.length;
      const until = Math.round((others.length * passed) / grouped);
      while (dealt < until) window.push(others[dealt++] as number);
    }
    const result = new Uint32Array(order.length);
    let filled = 0;
    for (const [number, window] of inWindows.entries()) {
      result.set(shuffle(Uint32Array.from(window), seed, epoch, 3, number), filled);
      filled += window.length;
    }
    return result;
  }

  /** Prefetching looks ahead, never far back: a few newest orders are enough. */
  #remember(key: string, make: () => Uint32Array): Uint32Array {
    let order = this.#orders.get(key);
    if (order === undefined) {
      order = make();
      this.#orders.set(key, order);
      const limit = 2 + 2 * this.#parts.length;
      for (const old of this.#orders.keys()) {
        if (this.#orders.size <= limit) break;
        this.#orders.delete(old);
      }
    }
    return order;
  }
}

/** How many pictures of an epoch each source gives: shares first, the rest in proportion to size; the sum is `total`. */
function divide(sources: readonly Source[], total: number): Part[] {
  const claimed = sources.reduce((sum, source) => sum + (source.share ?? 0), 0);
  const open = sources.filter((source) => source.share === null);
  const openFiles = open.reduce((sum, source) => sum + source.files.length, 0);
  if (claimed > 1 + 1e-9 || (open.length > 0 && claimed > 1 - 1e-9)) {
    throw invalid(
      `The shares of the sources add up to ${claimed}; together they may be at most 1, and less where a source has none.`,
    );
  }
  // Sources that all have shares need not add up to 1: they are scaled.
  const scale = open.length > 0 || claimed === 0 ? 1 : 1 / claimed;
  const exact = sources.map((source) =>
    source.share === null
      ? (1 - claimed) * total * (source.files.length / openFiles)
      : source.share * scale * total,
  );
  const quotas = exact.map((value) => Math.floor(value + 1e-9));
  const byRemainder = exact
    .map((value, i) => ({ i, remainder: value - (quotas[i] as number) }))
    .sort((a, b) => b.remainder - a.remainder || a.i - b.i);
  let missing = total - quotas.reduce((sum, quota) => sum + quota, 0);
  for (const { i } of byRemainder) {
    if (missing-- <= 0) break;
    quotas[i] = (quotas[i] as number) + 1;
  }
  let offset = 0;
  return sources.map((source, i) => {
    const part = { offset, size: source.files.length, quota: quotas[i] as number };
    offset += source.files.length;
    return part;
  });
}
