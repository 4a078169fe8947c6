/** `npm run package`: the npm packages, as files in build/packages. */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { cudaReadme } from '../package/cuda-readme.mjs';
import { stripInto } from '../package/strip.mjs';
import { ensureCuda, parseBuildOptions } from './cuda.mjs';
import { ensurePackages } from './packages.mjs';
import { root, run, runPackage, say, step } from './say.mjs';
import { buildTypeScript } from './typescript.mjs';

const output = path.join(root, 'build', 'packages');
const cudaCore = 'libltrp_core-2.14-cu130.so';

/** Options: `--cuda [--arch ...]` makes the package of the CUDA core too, as for `npm run build`. */
export async function makePackages(args) {
  const options = parseBuildOptions(args);
  await ensurePackages();
  // What a deleted or renamed source left behind would be packed.
  rmSync(path.join(root, 'dist'), { recursive: true, force: true });
  await buildTypeScript();
  const files = [await packMain()];
  if (options.cuda) files.push(await packCuda(options));
  for (const file of files) {
    say(`${path.relative(root, file)}: ${(statSync(file).size / 1e6).toFixed(1)} MB`);
  }
}

async function packMain() {
  // prebuildify moves what it finds in build/Release: a folder of its own, not the one that the working tree uses.
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
  await ensureCuda({ ...options, buildOnly: true });
  const folder = path.join(root, 'build', 'package', 'ltrp-cuda');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  await stripInto(path.join(root, 'build', 'Release', cudaCore), folder);
  const { version, license, engines } = JSON.parse(
    readFileSync(path.join(root, 'package.json'), 'utf8'),
  );
  const manifest = {
    name: 'ltrp-cuda',
    version,
    description:
      'The core of ltrp for NVIDIA GPUs (LibTorch 2.14, CUDA 13.0): found by ltrp of the same version when it loads.',
    license,
    engines,
    os: ['linux'],
    cpu: ['x64'],
    libc: ['glibc'],
    exports: { './package.json': './package.json' },
    files: [cudaCore],
    // Yarn: a library cannot be opened inside an archive.
    preferUnplugged: true,
  };
  writeFileSync(path.join(folder, 'package.json'), `${JSON.stringify(manifest, null, 2)}\n`);
  writeFileSync(path.join(folder, 'README.md'), cudaReadme(version));
  copyFileSync(path.join(root, 'LICENSE'), path.join(folder, 'LICENSE'));
  return pack(folder);
}

/** `npm pack` of a folder; returns the tarball's path. */
async function pack(folder) {
  mkdirSync(output, { recursive: true });
  const { name, version } = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'));
  const file = path.join(output, `${name}-${version}.tgz`);
  rmSync(file, { force: true });
  const args = [
    'pack',
    folder,
    '--pack-destination',
    output,
    '--ignore-scripts',
    '--loglevel=error',
  ];
  const cli = process.env.npm_execpath;
  await step(`Packing ${name} ${version}`, () =>
    cli?.endsWith('npm-cli.js')
      ? run(process.execPath, [cli, ...args], { quiet: true })
      : run('npm', args, { quiet: true }),
  );
  if (!existsSync(file)) throw new Error(`npm pack did not write ${file}.`);
  return file;
}
