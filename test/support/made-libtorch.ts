/** Made-up LibTorchs in folders and archives, and a server that serves them: enough for what looks at and fetches one. */
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { libraryName } from '../../lib/libtorch/inspect.js';
import type { LibtorchRelease } from '../../lib/libtorch/releases.js';

const run = promisify(execFile);

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

export async function listen(t: ExecutionContext, server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** A zip file of a made-up LibTorch, written by Python. */
export async function makeArchive(
  folder: string,
  name: string,
  version: string,
): Promise<string | null> {
  const libtorch = await makeLibtorch(path.join(folder, 'source', 'libtorch'), { version });
  const script = `
import os, sys, zipfile
root, out = sys.argv[1:]
with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z:
    for folder, _, names in os.walk(root):
        for n in names:
            p = os.path.join(folder, n)
            z.write(p, 'libtorch/' + os.path.relpath(p, root))
`;
  const archive = path.join(folder, name);
  return run('python3', ['-c', script, libtorch, archive]).then(
    () => archive,
    () => null,
  );
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
