/** Zip files with whatever names and modes a test wants. */
import { crc32, deflateRawSync } from 'node:zlib';

export interface ZipEntry {
  name: string;
  content: Uint8Array | string;
  /** Of Unix: kind and permissions. */
  mode?: number;
}

export function zipBytes(entries: readonly ZipEntry[]): Buffer {
  const files: Buffer[] = [];
  const directory: Buffer[] = [];
  let offset = 0;
  for (const { name, content, mode = 0o100644 } of entries) {
    const [path, bytes] = [Buffer.from(name), Buffer.from(content)];
    const packed = deflateRawSync(bytes);
    const both = Buffer.alloc(26); // what the file's own header and the directory have in common
    both.writeUInt16LE(20, 0);
    both.writeUInt16LE(8, 4); // deflated
    both.writeUInt16LE(0x21, 8); // 1 January 1980
    both.writeUInt32LE(crc32(bytes), 10);
    both.writeUInt32LE(packed.length, 14);
    both.writeUInt32LE(bytes.length, 18);
    both.writeUInt16LE(path.length, 22);
    const file = Buffer.concat([Buffer.from('PK\x03\x04'), both, path, packed]);
    const place = Buffer.alloc(14);
    place.writeUInt32LE(mode * 2 ** 16, 6);
    place.writeUInt32LE(offset, 10);
    files.push(file);
    directory.push(Buffer.from('PK\x01\x02\x14\x03'), both, place, path);
    offset += file.length;
  }
  const end = Buffer.alloc(18);
  end.writeUInt16LE(entries.length, 4);
  end.writeUInt16LE(entries.length, 6);
  end.writeUInt32LE(Buffer.concat(directory).length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...files, ...directory, Buffer.from('PK\x05\x06'), end]);
}
