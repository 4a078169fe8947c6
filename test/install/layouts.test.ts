/** What depends on how a package manager lays out its packages: the second package, and compiling without binaries. */
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { basename, delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { decideLibtorch } from '../../lib/libtorch/find.js';
import {
  bareBin,
  cpuLibtorch,
  makeProject,
  managers,
  npm,
  readRanking,
  run,
  suiteFolder,
  tarball,
  tarballWithoutBinaries,
  version,
  type Outcome,
} from '../support/install.js';
import { repository } from '../support/paths.js';

const { writeCudaTexts } = (await import(
  new URL('../../scripts/package/cuda.mjs', import.meta.url).href
)) as { writeCudaTexts: (core: string, folder: string) => void };

const coreName = 'libltrp_core-2.14-cu130.so';
const core = ['cuda-package/Release', 'Release']
  .map((name) => join(repository, 'build', name, coreName))
  .find((file) => existsSync(file));

test.after.always(() => rm(suiteFolder, { recursive: true, force: true }));

function succeeded(t: ExecutionContext, outcome: Outcome): void {
  t.is(outcome.code, 0, outcome.output);
}

/** ltrp-cuda as a tarball: with the real core where it is built, else with a file in its place, which is only looked at. */
async function cudaTarball(t: ExecutionContext, folder: string): Promise<string> {
  const content = join(folder, 'ltrp-cuda');
  if (core === undefined) {
    t.log('the CUDA core is not built here: a file in its place');
    await mkdir(content);
    await writeFile(join(content, coreName), 'stands in for the core');
    writeCudaTexts(coreName, content);
  } else {
    const script = fileURLToPath(new URL('../../scripts/package/cuda.mjs', import.meta.url));
    succeeded(t, await run(process.execPath, [script, core, content], { cwd: folder }));
  }
  t.deepEqual(
    (await readdir(content)).sort(),
    ['LICENSE', 'README.md', 'THIRD_PARTY_NOTICES.md', coreName, 'package.json'].sort(),
  );
  succeeded(t, await npm(['pack', content, '--pack-destination', folder], { cwd: folder }));
  await rm(content, { recursive: true });
  return join(folder, `ltrp-cuda-${version}.tgz`);
}

interface Listed {
  minor: string;
  variant: string;
  path: string;
}

for (const manager of managers) {
  test.serial(
    `${manager.name}: the package of another core is found where it was installed, and only in the same version`,
    async (t) => {
      const folder = await makeProject(`further-core-${manager.name}`);
      succeeded(t, await manager.add(folder, [tarball, await cudaTarball(t, folder)]));
      const doctor = async (): Promise<Listed[]> => {
        const { output } = await manager.ltrp(folder, ['doctor', '--json']);
        return (JSON.parse(output.slice(output.indexOf('{'))) as { cores: Listed[] }).cores;
      };
      const names = (cores: Listed[]): string[] =>
        cores.map(({ minor, variant }) => `${minor}-${variant}`);
      const cores = await doctor();
      t.deepEqual(names(cores), ['2.13-cpu', '2.14-cu130']);
      const file = cores[1]?.path ?? '';
      t.true(file.startsWith(`${folder}/`) && existsSync(file), file);
      t.is(basename(file), coreName);

      const { chosen } = await decideLibtorch({ accept: [{ minor: '2.14', variant: 'cu130' }] });
      if (core === undefined || chosen === null) {
        t.log('skipped: no CUDA core, or no complete CUDA build of LibTorch to load it with');
      } else if (manager.name === 'pnpm') {
        const env = { LIBTORCH: chosen.root };
        const outcome = await run(process.execPath, ['rank.mjs'], { cwd: folder, env });
        succeeded(t, outcome);
        const { logits, binaries } = readRanking(outcome);
        t.true(logits.length === 196 && (binaries?.includes(file) ?? true), String(binaries));
      }
      // A new file: pnpm links to its store, where the manifest must not be changed.
      const manifest = join(file, '..', 'package.json');
      const text = await readFile(manifest, 'utf8');
      await rm(manifest);
      await writeFile(manifest, text.replace(`"version": "${version}"`, '"version": "0.0.1"'));
      t.deepEqual(names(await doctor()), ['2.13-cpu']);
    },
  );

  test.serial(
    `${manager.name}: without binaries and tools it installs, and names what ${manager.name} takes to compile`,
    async (t) => {
      const folder = await makeProject(`no-tools-${manager.name}`);
      const env = { PATH: await bareBin(folder) };
      const added = await manager.add(folder, [await tarballWithoutBinaries()], env);
      succeeded(t, added);
      const again = {
        npm: 'npm rebuild ltrp --foreground-scripts',
        pnpm: 'node node_modules/ltrp/scripts/install.mjs',
        'Yarn Plug’n’Play': 'yarn rebuild ltrp',
      }[manager.name] as string;
      const rebuilt = await manager.rebuild(folder, env);
      succeeded(t, rebuilt);
      // pnpm runs no script that was not approved.
      for (const { output } of manager.name === 'pnpm' ? [rebuilt] : [added, rebuilt]) {
        t.regex(output, new RegExp(`compiling needs what is missing here: [^]*With those in place: ${again}\\b`)); // prettier-ignore
      }
      const first = await manager.ltrp(folder, ['rank', 'tiger.jpg']);
      t.not(first.code, 0);
      t.true(first.output.includes(`\`LTRP_BUILD_FROM_SOURCE=1 ${again}\``), first.output);
    },
  );

  test.serial(
    `${manager.name}: the compiler is given headers that lie outside of archives`,
    async (t) => {
      const folder = await makeProject(`headers-${manager.name}`);
      const bin = join(folder, 'tools');
      const record = join(folder, 'headers.txt');
      await mkdir(bin);
      // A shell sees the disk as a compiler does, without what Yarn adds to Node.
      const cmake = `#!/bin/sh
for word; do case "$word" in -DLTRP_NODE_API_HEADERS=*) list=\${word#*=};; esac; done
[ -n "$list" ] || exit 0
IFS=';'
for folder in $list; do for header in node_api.h js_native_api_types.h napi.h napi-inl.h; do
  [ -s "$folder/$header" ] && echo "$header" >> '${record}'
done; done
exit 0
`;
      for (const [name, text] of [
        ['cmake', cmake],
        ['ninja', '#!/bin/sh\n'],
        ['c++', '#!/bin/sh\n'],
      ] as const) {
        await writeFile(join(bin, name), text);
        await chmod(join(bin, name), 0o755);
      }
      const env = {
        PATH: [bin, await bareBin(folder)].join(delimiter),
        LIBTORCH: await cpuLibtorch(),
      };
      succeeded(t, await manager.add(folder, [await tarballWithoutBinaries()], env));
      await rm(record, { force: true });
      succeeded(t, await manager.rebuild(folder, env));
      const found = (await readFile(record, 'utf8')).trim().split('\n');
      t.deepEqual(found.sort(), ['js_native_api_types.h', 'napi-inl.h', 'napi.h', 'node_api.h']);
    },
  );
}
