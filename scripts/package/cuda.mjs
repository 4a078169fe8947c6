#!/usr/bin/env node
/**
 * The folder of the package ltrp-cuda: the core for NVIDIA GPUs and nothing else.
 *
 *   node scripts/package/cuda.mjs <libltrp_core-....so> <folder>   from a core that is built
 */
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from '../setup/say.mjs';
import { cudaReadme } from './cuda-readme.mjs';
import { stripInto } from './strip.mjs';

/** Writes `folder` afresh. */
export async function writeCudaPackage(core, folder) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  await stripInto(core, folder);
  writeCudaTexts(path.basename(core), folder);
}

/** Everything but the core itself: manifest, README, licences. */
export function writeCudaTexts(coreName, folder) {
  const text = readFileSync(path.join(root, 'package.json'), 'utf8');
  const { version, license, engines, binary } = JSON.parse(text);
  const manifest = {
    name: 'ltrp-cuda',
    version,
    description:
      'The core of ltrp for NVIDIA GPUs (LibTorch 2.14, CUDA 13.0), found by ltrp of the same version when it loads.',
    license,
    type: 'module',
    engines,
    os: ['linux'],
    cpu: ['x64'],
    libc: ['glibc'],
    exports: { './package.json': './package.json' },
    files: [coreName, 'THIRD_PARTY_NOTICES.md'],
    // Yarn: a library cannot be opened inside an archive.
    preferUnplugged: true,
  };
  writeFileSync(path.join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  writeFileSync(path.join(folder, 'README.md'), cudaReadme(version, binary.glibc));
  for (const name of ['LICENSE', 'THIRD_PARTY_NOTICES.md']) {
    copyFileSync(path.join(root, name), path.join(folder, name));
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [core, folder] = process.argv.slice(2);
  await writeCudaPackage(path.resolve(core), path.resolve(folder));
}
