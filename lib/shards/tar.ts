/** WebDataset shards: which members of a tar file are pictures, and where their bytes lie. */
import headers from 'tar-stream/headers.js';
import type { ByteSource } from './byte-source.js';
import type { Damage } from './damage.js';

/** Fields of a record that are its picture; of several the first. */
const pictureFields = ['jpg', 'jpeg', 'png', 'webp'] as const;

export interface TarIndex {
  /** Of the pictures' members: their names in the archive. Of equal names the later ones have `#2` and so on at their end. */
  names: string[];
  /** Where the bytes of each begin, and how many they are. */
  offsets: number[];
  sizes: number[];
  damage: Damage[];
  /** What people should know, as clauses. */
  notes: string[];
}

interface Member {
  name: string;
  offset: number;
  size: number;
}

/** Adjacent members of one key. */
interface TarRecord {
  key: string;
  fields: Map<string, Member>;
  repeated: string | undefined;
}

const block = 512;
/** As tar-stream has it: long names and PAX headers are not larger. */
const largestHeader = 4 * 2 ** 20;
const padded = (size: number): number => Math.ceil(size / block) * block;

/**
 * Reads all headers of an archive. Where one is damaged, or its member would reach beyond the end, the next valid header at a
 * multiple of 512 bytes is searched; what lies between is lost. A later member's bytes that look like a header are taken for one.
 *
 * @throws {LtrpError} as {@link ByteSource.read}; `signal.reason`.
 */
export async function scanTar(source: ByteSource, signal?: AbortSignal): Promise<TarIndex> {
  return new Scan(source, signal).run();
}

class Scan {
  readonly #index: TarIndex = { names: [], offsets: [], sizes: [], damage: [], notes: [] };
  readonly #seen = new Map<string, number>();
  /** Bytes read ahead, from `#start` on. */
  #bytes: Buffer = Buffer.alloc(0);
  #start = 0;
  #record: TarRecord | undefined;
  /** Of records without a picture: those with one behind a second dot. */
  readonly #dotted: string[] = [];

  constructor(
    private readonly source: ByteSource,
    private readonly signal: AbortSignal | undefined,
  ) {}

  async run(): Promise<TarIndex> {
    const { size } = this.source;
    let position = 0;
    let ended = false; // at the first of the zero blocks
    let path: string | undefined;
    let pax: Record<string, string> = {};
    let global: Record<string, string> = {};
    while (position + block <= size) {
      const header = decoded(await this.#at(position, block), true);
      if (header === null) {
        ended = true;
        break;
      }
      const own = header === undefined ? NaN : Number(pax['size'] ?? header.size);
      const data = position + block;
      if (header === undefined || !(own >= 0) || data + own > size) {
        const why =
          header === undefined || !(own >= 0)
            ? 'bad header'
            : `${path ?? header.name} is cut off (${size - data} of ${own} bytes are there)`;
        position = await this.#resynchronise(position, why);
        [path, pax] = [undefined, {}];
        continue;
      }
      const isLong = own <= largestHeader;
      if (header.type === 'gnu-long-path' && isLong) {
        path = headers.decodeLongPath(await this.#at(data, own), 'utf-8');
      } else if (header.type === 'pax-header' && isLong) {
        pax = { ...global, ...headers.decodePax(await this.#at(data, own)) };
      } else if (header.type === 'pax-global-header' && isLong) {
        global = headers.decodePax(await this.#at(data, own));
      } else if (header.type !== 'gnu-long-link-path') {
        const name = pax['path'] ?? path ?? header.name;
        if (header.type === 'file' || header.type === 'contiguous-file') {
          this.#add({ name, offset: data, size: own });
        }
        [path, pax] = [undefined, {}];
      }
      position = data + padded(own);
    }
    this.#finish();
    if (!ended && size > 0 && position <= size + block) this.#endIsMissing(position);
    if (this.#dotted.length > 0) {
      this.#index.notes.push(
        `${this.#dotted.length} records such as ${String(this.#dotted[0])} have no picture, as a key ends at the first dot of the name`,
      );
    }
    return this.#index;
  }

  /** Cut between two members, nothing else tells. */
  #endIsMissing(position: number): void {
    const { size } = this.source;
    const rest = size - position;
    // A member that is whole but for its padding is the end, too. What was resynchronised to the end has been told.
    if (this.#index.damage.at(-1)?.what.endsWith('to the end') === true) return;
    const what =
      rest > 0
        ? `cut off in a header at byte ${position}`
        : 'ends without the empty blocks that close an archive, so it may have been cut off';
    this.#index.damage.push({ what, records: 1 });
  }

  /** Bytes of the archive, mostly from what was read ahead. */
  async #at(offset: number, length: number): Promise<Buffer> {
    const from = offset - this.#start;
    if (from < 0 || from + length > this.#bytes.length) {
      const { chunk, size } = this.source;
      const wanted = Math.min(size - offset, Math.max(length, chunk));
      this.#bytes = await this.source.read(offset, wanted, this.signal);
      this.#start = offset;
      return this.#bytes.subarray(0, length);
    }
    return this.#bytes.subarray(from, from + length);
  }

  /** Where the next valid header is; records what was lost. */
  async #resynchronise(position: number, why: string): Promise<number> {
    this.#finish();
    const { size } = this.source;
    let next = position + block;
    let found = false;
    for (; next + block <= size; next += block) {
      const header = decoded(await this.#at(next, block), false);
      if (header === undefined || header === null) continue;
      if (!(header.size >= 0) || next + block + header.size > size) continue;
      found = true;
      break;
    }
    const lost = found ? next - position : size - position;
    const until = found ? `up to the header at byte ${next}` : 'to the end';
    const what = `${why} at byte ${position}; ${lost} bytes lost ${until}`;
    this.#index.damage.push({ what, records: 1 });
    return found ? next : Infinity;
  }

  #add({ name: path, ...place }: Member): void {
    const name = path.replace(/^(\.\/+)+/, '');
    const member = { name, ...place };
    const slash = name.lastIndexOf('/') + 1;
    const dot = name.indexOf('.', slash);
    // As WebDataset: no key, or a member about the shard itself.
    if (dot <= slash || /^__.*__$/.test(name)) return;
    const key = name.slice(0, dot);
    const field = name.slice(dot + 1).toLowerCase();
    if (this.#record?.key !== key) {
      this.#finish();
      this.#record = { key, fields: new Map(), repeated: undefined };
    }
    const { fields } = this.#record;
    if (fields.has(field)) this.#record.repeated ??= field;
    fields.set(field, member);
  }

  #finish(): void {
    const record = this.#record;
    this.#record = undefined;
    if (record === undefined) return;
    const { key, fields, repeated } = record;
    if (repeated !== undefined) {
      this.#index.damage.push({ what: `${key} has the field ${repeated} twice`, records: 1 });
      return;
    }
    const field = pictureFields.find((name) => fields.has(name));
    if (field === undefined) {
      const dotted = [...fields].find(([name]) => /\.(jpe?g|png|webp)$/.test(name));
      if (dotted !== undefined) this.#dotted.push(dotted[1].name);
      return;
    }
    const { name, offset, size } = fields.get(field) as Member;
    const count = (this.#seen.get(name) ?? 0) + 1;
    this.#seen.set(name, count);
    this.#index.names.push(count === 1 ? name : `${name}#${count}`);
    this.#index.offsets.push(offset);
    this.#index.sizes.push(size);
  }
}

/** Null for a block of zeros, undefined for what is no header. Old archives have no magic number; noise may have a valid sum. */
function decoded(bytes: Buffer, old: boolean): headers.Header | null | undefined {
  try {
    return headers.decode(bytes, 'utf-8', old);
  } catch {
    return undefined;
  }
}
