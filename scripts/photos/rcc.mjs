import { readFileSync } from 'node:fs';
import { inflateSync } from 'node:zlib';

const COMPRESSED_ZLIB = 1;
const DIRECTORY = 2;
const COMPRESSED_ZSTD = 4;

/**
 * Opens a Qt resource file (format 1 to 3) and returns its files as a map from path to a function that returns the bytes.
 * Layout: header (`qres`, version, tree, data and names offsets, big-endian), then the three tables. A tree node is
 * name offset u32, flags u16, then child count u32 + first child u32 (directories) or locale u32 + data offset u32
 * (files), then from format 2 a u64 modification time. A name is length u16, hash u32, UTF-16BE. Data is length u32, bytes.
 */
export function openResources(file) {
  const bytes = readFileSync(file);
  if (bytes.length < 20 || bytes.toString('latin1', 0, 4) !== 'qres') {
    throw new Error(`${file} is not a Qt resource file (no qres header)`);
  }
  const version = bytes.readUInt32BE(4);
  if (version < 1 || version > 3)
    throw new Error(`${file}: Qt resource format ${version} is not known (1 to 3 are)`);
  const [tree, data, names] = [8, 12, 16].map((at) => bytes.readUInt32BE(at));
  const nodeSize = version >= 2 ? 22 : 14;

  const nameAt = (offset) => {
    const start = names + offset;
    const units = bytes.readUInt16BE(start);
    return Buffer.from(bytes.subarray(start + 6, start + 6 + units * 2))
      .swap16()
      .toString('utf16le');
  };
  const contentAt = (offset, flags, path) => {
    const start = data + offset;
    const size = bytes.readUInt32BE(start);
    const content = bytes.subarray(start + 4, start + 4 + size);
    if (content.length !== size) throw new Error(`${file}: ${path} ends beyond the file`);
    if (flags & COMPRESSED_ZSTD)
      throw new Error(`${file}: ${path} is compressed with zstd, which is not supported`);
    return flags & COMPRESSED_ZLIB ? inflateSync(content.subarray(4)) : content; // 4 bytes: the length inflated
  };

  const files = new Map();
  const visit = (index, prefix, depth) => {
    if (depth > 64) throw new Error(`${file}: folders nested too deeply`);
    const node = tree + index * nodeSize;
    const flags = bytes.readUInt16BE(node + 4);
    const path = index === 0 ? '' : prefix + nameAt(bytes.readUInt32BE(node));
    if (flags & DIRECTORY) {
      const count = bytes.readUInt32BE(node + 6);
      const first = bytes.readUInt32BE(node + 10);
      for (let i = 0; i < count; i++) visit(first + i, path ? `${path}/` : '', depth + 1);
    } else {
      const offset = bytes.readUInt32BE(node + 10);
      files.set(path, () => contentAt(offset, flags, path));
    }
  };
  visit(0, '', 0);
  return files;
}
