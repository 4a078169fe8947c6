/** NVIDIA's disassembler, out of the wheel of `triton`, for the tests that read machine code. An explicit download. */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { run, say, SetupError, step } from './say.mjs';
import { importBuilt } from './typescript.mjs';

const version = '3.8.0';
const wheel = `triton-${version}-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl`;
const sha256 = '68988ac85d5e7086baeda0ddc175af9667db7529b3c5e11a5c0601b8bef2200a';

/** Fetches 250 MB, keeps 6 MB of it: nvdisasm and cuobjdump in the user's cache. */
export async function ensureCudaTools() {
  const { cacheFolder } = await importBuilt('libtorch/folders.js');
  const folder = path.join(cacheFolder(), 'cuda-tools');
  if (existsSync(path.join(folder, 'nvdisasm'))) {
    say(`nvdisasm is there already: ${folder}`);
    return;
  }
  const temporary = `${folder}.fetching`;
  rmSync(temporary, { recursive: true, force: true });
  mkdirSync(temporary, { recursive: true });
  try {
    await step(`Fetching triton ${version} for its nvdisasm (250 MB)`, async () => {
      const args = ['-m', 'pip', 'download', '--no-deps', '--only-binary=:all:', '--quiet'];
      args.push('--disable-pip-version-check', '--dest', temporary, '--python-version', '3.11');
      args.push('--implementation', 'cp', '--abi', 'cp311');
      for (const minor of [27, 28]) args.push('--platform', `manylinux_2_${minor}_x86_64`);
      await run('python3', [...args, `triton==${version}`], { quiet: true });
      await extract(temporary);
    });
    rmSync(folder, { recursive: true, force: true });
    renameSync(temporary, folder);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  say(`nvdisasm and cuobjdump are in ${folder}`);
}

async function extract(folder) {
  const file = path.join(folder, wheel);
  if (!existsSync(file)) {
    throw new SetupError(
      `pip brought ${readdirSync(folder).join(', ') || 'nothing'}, not ${wheel}.`,
    );
  }
  const hash = createHash('sha256');
  await pipeline(createReadStream(file), hash);
  const actual = hash.digest('hex');
  if (actual !== sha256)
    throw new SetupError(`${wheel} has SHA-256 ${actual}, expected ${sha256}.`);
  const script = `
import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as z:
    for name in ('nvdisasm', 'cuobjdump'):
        with z.open('triton/backends/nvidia/bin/' + name) as source, open(sys.argv[2] + '/' + name, 'wb') as target:
            shutil.copyfileobj(source, target)
`;
  await run('python3', ['-c', script, file, folder], { quiet: true });
  for (const name of ['nvdisasm', 'cuobjdump']) chmodSync(path.join(folder, name), 0o755);
  rmSync(file);
}
