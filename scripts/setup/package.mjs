/** `npm run package`: the npm packages, as files in build/packages. */
import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { writeCudaPackage } from '../package/cuda.mjs';
import { buildCudaPackage, parseBuildOptions } from './cuda.mjs';
import { root, runNpm, runPackage, say, step } from './say.mjs';
import { buildTypeScript } from './typescript.mjs';

const output = path.join(root, 'build', 'packages');
const cudaCore = 'libltrp_core-2.14-cu130.so';

/**
 * Options: `--cuda [--arch ...]` makes the package of the CUDA core too, by default for all architectures. `--built` compiles no
 * C++: it packs what build/Release holds, for work on everything else of the package.
 */
export async function makePackages(args) {
  const options = parseBuildOptions(args.filter((arg) => arg !== '--built'));
  if (args.includes('--built')) process.env.LTRP_PACKAGE_BUILT = '1'; // for scripts/package/node-gyp.mjs
  // Otherwise, leftovers of a deleted or renamed source would be packed.
  rmSync(path.join(root, 'dist'), { recursive: true, force: true });
  await buildTypeScript();
  const files = [await packMain()];
  if (options.cuda) files.push(await packCuda(options));
  for (const file of files) {
    say(`${path.relative(root, file)}: ${(statSync(file).size / 1e6).toFixed(1)} MB`);
  }
}

async function packMain() {
  // prebuildify moves the files of build/Release: use a separate folder, not that of the working tree.
  const work = path.join(root, 'build', 'package');
  rmSync(path.join(root, 'prebuilds'), { recursive: true, force: true });
  rmSync(path.join(work, 'build'), { recursive: true, force: true });
  mkdirSync(work, { recursive: true });
  const shim = path.join(root, 'scripts', 'package', 'node-gyp.mjs');
  await runPackage('prebuildify/bin.js', [
    ...['--cwd', work, '--out', root, '--name', 'ltrp'],
    ...['--napi', '--target', process.versions.node, '--node-gyp', shim],
  ]);
  return pack(root);
}

async function packCuda(options) {
  const release = await buildCudaPackage(options);
  const folder = path.join(root, 'build', 'package', 'ltrp-cuda');
  await writeCudaPackage(path.join(release, cudaCore), folder);
  return pack(folder);
}

/** `npm pack` of a folder; returns the tarball's path. */
async function pack(folder) {
  mkdirSync(output, { recursive: true });
  const { name, version } = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'));
  const file = path.join(output, `${name}-${version}.tgz`);
  rmSync(file, { force: true });
  await step(`Packing ${name} ${version}`, () =>
    runNpm(['pack', folder, '--pack-destination', output, '--ignore-scripts']),
  );
  if (!existsSync(file)) throw new Error(`npm pack did not write ${file}.`);
  return file;
}
