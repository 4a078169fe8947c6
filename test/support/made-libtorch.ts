/** Made-up LibTorchs in folders and archives, and a server that serves them: enough for what looks at and fetches one. */
import { readFileSync } from 'node:fs';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import path from 'node:path';
import type { ExecutionContext } from 'ava';
import { libraryName } from '../../lib/libtorch/inspect.js';
import type { LibtorchRelease } from '../../lib/libtorch/releases.js';
import { listen } from './listen.js';
import { zipBytes } from './zip.js';

/** The first bytes of a shared library for this processor. */
function elfHeader(machine = process.arch === 'arm64' ? 183 : 62): Buffer {
  const header = Buffer.alloc(64);
  header.writeUInt32BE(0x7f454c46, 0);
  header[4] = 2;
  header.writeUInt16LE(machine, 18);
  return header;
}

export async function makeLibtorch(
  folder: string,
  options: {
    version?: string | null;
    variant?: string;
    headers?: boolean;
    machine?: number;
  } = {},
): Promise<string> {
  const variant = options.variant ?? 'cpu';
  const version = options.version === undefined ? '2.13.0' : options.version;
  await mkdir(path.join(folder, 'lib'), { recursive: true });
  for (const stem of ['c10', 'torch_cpu', 'torch'] as const) {
    await writeFile(path.join(folder, 'lib', libraryName(stem)), elfHeader(options.machine));
  }
  for (const stem of variant === 'cpu' ? [] : (['c10_cuda', 'torch_cuda'] as const)) {
    await writeFile(path.join(folder, 'lib', libraryName(stem)), elfHeader());
  }
  if (options.headers !== false) {
    await mkdir(path.join(folder, 'include', 'ATen'), { recursive: true });
    await writeFile(path.join(folder, 'include', 'ATen', 'ATen.h'), '');
    await mkdir(path.join(folder, 'include', 'torch', 'headeronly'), { recursive: true });
    if (version !== null) {
      await writeFile(
        path.join(folder, 'include', 'torch', 'headeronly', 'version.h'),
        `#define TORCH_VERSION \\\n  "${version}"\n`,
      );
    }
  }
  if (version !== null) {
    await writeFile(path.join(folder, 'build-version'), `${version}+${variant}\n`);
  }
  return folder;
}

/** Serves `content` with ranges; each of the first `breaks` answers stops in the middle. */
export async function serve(
  t: ExecutionContext,
  content: Buffer,
  breaks: number,
): Promise<{ url: string; ranges: string[] }> {
  const ranges: string[] = [];
  const server = createServer((request, response) => {
    const start = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    ranges.push(request.headers.range ?? '');
    const rest = content.subarray(start);
    response.writeHead(start > 0 ? 206 : 200, { 'content-length': rest.length, etag: '"one"' });
    if (breaks-- > 0) {
      response.write(rest.subarray(0, Math.ceil(rest.length / 2)));
      response.socket?.end(); // what was written arrives, the rest never comes
    } else {
      response.end(rest);
    }
  });
  return { url: `${await listen(t, server)}/f.zip`, ranges };
}

/** A zip file of a made-up LibTorch; returns its path. */
export async function makeArchive(folder: string, name: string, version: string): Promise<string> {
  const source = path.join(folder, 'source', 'libtorch');
  await makeLibtorch(source, { version });
  const names = await readdir(source, { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile());
  const entries = files.map(({ parentPath, name: file }) => {
    const place = path.join(parentPath, file);
    return {
      name: path.join('libtorch', path.relative(source, place)),
      content: readFileSync(place),
    };
  });
  const archive = path.join(folder, name);
  await writeFile(archive, zipBytes(entries));
  return archive;
}

export const release: LibtorchRelease = {
  version: '2.13.0',
  variant: 'cpu',
  description: 'made up',
  bytesNeeded: 1_000_000,
  pip: {
    sources: [{ index: null, requirement: 'torch==2.13.0+cpu' }],
    platform: 'any',
    pythonVersion: '3.11',
  },
  wheelSha256: {},
  archiveUrl: null,
  nvidia: [],
};
