/** The dynamic section of an ELF shared library (Linux, 64 bit, little-endian), read without loading it. */
import { closeSync, openSync, readSync } from 'node:fs';

export interface DynamicSection {
  /** NEEDED: the names the dynamic loader will look for. */
  readonly needed: readonly string[];
  /** RPATH or RUNPATH, split, `$ORIGIN` as it is written. */
  readonly searchPath: readonly string[];
}

const nothing: DynamicSection = { needed: [], searchPath: [] };

// Numbers of the ELF specification.
const segmentLoad = 1;
const segmentDynamic = 2;
const tagNeeded = 1;
const tagStringTable = 5;
const tagRpath = 15;
const tagRunpath = 29;

/** Empty when the file is no such library, is truncated or cannot be read: whoever opens it will say why. */
export function readDynamicSection(file: string): DynamicSection {
  let descriptor: number;
  try {
    descriptor = openSync(file, 'r');
  } catch {
    return nothing;
  }
  try {
    return parse(descriptor);
  } catch {
    return nothing;
  } finally {
    closeSync(descriptor);
  }
}

function parse(descriptor: number): DynamicSection {
  const bytes = (offset: number, length: number): Buffer => {
    const buffer = Buffer.alloc(length);
    if (readSync(descriptor, buffer, 0, length, offset) !== length) throw new Error('truncated');
    return buffer;
  };
  const header = bytes(0, 64);
  if (header.readUInt32BE(0) !== 0x7f454c46 || header[4] !== 2 || header[5] !== 1) return nothing;
  const entrySize = header.readUInt16LE(54);
  const count = header.readUInt16LE(56);
  const table = bytes(Number(header.readBigUInt64LE(32)), entrySize * count);
  const segments = Array.from({ length: count }, (_, i) => {
    const at = i * entrySize;
    const number = (offset: number): number => Number(table.readBigUInt64LE(at + offset));
    return {
      type: table.readUInt32LE(at),
      offset: number(8),
      address: number(16),
      size: number(32),
    };
  });
  const dynamic = segments.find((segment) => segment.type === segmentDynamic);
  if (dynamic === undefined) return nothing;
  const section = bytes(dynamic.offset, dynamic.size);
  const entries: [tag: number, value: number][] = [];
  for (let at = 0; at + 16 <= section.length; at += 16) {
    const tag = Number(section.readBigInt64LE(at));
    if (tag === 0) break;
    entries.push([tag, Number(section.readBigUInt64LE(at + 8))]);
  }
  const address = entries.find(([tag]) => tag === tagStringTable)?.[1];
  const home = segments.find(
    (segment) =>
      segment.type === segmentLoad &&
      address !== undefined &&
      address >= segment.address &&
      address < segment.address + segment.size,
  );
  if (address === undefined || home === undefined) return nothing;
  const strings = address - home.address + home.offset;
  const string = (offset: number): string => {
    const buffer = Buffer.alloc(4096);
    const length = readSync(descriptor, buffer, 0, buffer.length, strings + offset);
    const end = buffer.subarray(0, length).indexOf(0);
    if (end < 0) throw new Error('a name without end');
    return buffer.toString('utf8', 0, end);
  };
  const values = (...tags: number[]): string[] =>
    entries.filter(([tag]) => tags.includes(tag)).map(([, value]) => string(value));
  return {
    needed: values(tagNeeded),
    searchPath: values(tagRpath, tagRunpath).flatMap((paths) =>
      paths.split(':').filter((folder) => folder !== ''),
    ),
  };
}
