/** Around Node: a bundler, TypeScript's module resolutions, Bun. */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Outcome } from '../support/command.js';
import { bunBinary, hostModules, output, packageOf, userFolder } from '../support/hosts.js';
import { repository, temporaryFolder } from '../support/paths.js';

const photo = join(repository, 'demo', 'photos', 'tiger.jpg');
const esbuild = join(hostModules, 'esbuild', 'bin', 'esbuild');
const tsc = join(repository, 'node_modules', 'typescript', 'bin', 'tsc');

const withEsbuild = existsSync(esbuild) ? test : test.skip;

async function bundle(t: ExecutionContext, args: readonly string[]): Promise<string> {
  const user = await userFolder(t);
  const { code, stderr } = await output(
    esbuild,
    ['--bundle', '--platform=node', '--log-level=warning', ...args],
    user,
  );
  t.is(code, 0, stderr);
  return user;
}

withEsbuild('esbuild, the package left out: ES modules and CommonJS run', async (t) => {
  const esm = await bundle(t, [
    'smoke.mjs',
    '--format=esm',
    '--external:ltrp',
    '--outfile=out.mjs',
  ]);
  const bundled = await output(process.execPath, ['out.mjs', photo], esm);
  const plain = await output(process.execPath, ['smoke.mjs', photo], esm);
  t.deepEqual(bundled, plain);
  t.is(bundled.code, 0);
  const cjs = await bundle(t, [
    'dynamic.cjs',
    '--format=cjs',
    '--external:ltrp',
    '--outfile=out.cjs',
  ]);
  t.regex((await output(process.execPath, ['out.cjs'], cjs)).stdout, / 224$/);
});

withEsbuild(
  'esbuild, the package bundled in: it runs beside an installed ltrp, else one clear error says so',
  async (t) => {
    const banner = "import{createRequire as r}from'module';const require=r(import.meta.url);";
    for (const [format, file, more] of [
      // commander and other CommonJS want require() in a bundle of ES modules.
      ['esm', 'out.mjs', `--banner:js=${banner}`],
      ['cjs', 'out.cjs', '--log-override:empty-import-meta=silent'],
    ] as const) {
      const args = ['dynamic.cjs', `--format=${format}`, '--external:sharp', more];
      const user = await bundle(t, [...args, `--outfile=${file}`]);
      if (format === 'esm') {
        t.regex((await output(process.execPath, [file], user)).stdout, / 224$/);
      }
      // Elsewhere, with sharp alone.
      const alone = await temporaryFolder(t);
      await mkdir(join(alone, 'node_modules'));
      const modules = join(packageOf(user), '..');
      await symlink(join(modules, 'sharp'), join(alone, 'node_modules', 'sharp'));
      await copyFile(join(user, file), join(alone, file));
      const { code, stderr } = await output(process.execPath, [file], alone);
      t.is(code, 1);
      t.regex(stderr, /ERR_LTRP_NOT_BUILT/);
      t.regex(stderr, /ltrp was bundled into .* ltrp is external/);
    }
  },
);

const withExpectType = existsSync(join(hostModules, 'expect-type')) ? test : test.skip;

for (const [module, moduleResolution] of [
  ['node16', 'node16'],
  ['nodenext', 'nodenext'],
  ['esnext', 'bundler'],
] as const) {
  withExpectType(
    `TypeScript, moduleResolution ${moduleResolution}: types are found and are what they should be`,
    async (t) => {
      const user = await userFolder(t);
      await symlink(join(hostModules, 'expect-type'), join(user, 'node_modules', 'expect-type'));
      await symlink(
        join(repository, 'node_modules', '@types'),
        join(user, 'node_modules', '@types'),
      );
      const files = moduleResolution === 'bundler' ? ['types.mts'] : ['types.mts', 'common.cts'];
      const config = {
        compilerOptions: {
          module,
          moduleResolution,
          target: 'es2022',
          lib: ['es2022', 'esnext.disposable'],
          types: ['node'],
          strict: true,
          exactOptionalPropertyTypes: true,
          noEmit: true,
        },
        files,
      };
      await writeFile(join(user, 'tsconfig.json'), JSON.stringify(config));
      const { code, stdout } = await output(process.execPath, [tsc, '-p', '.'], user);
      t.is(stdout, '');
      t.is(code, 0);
      // The check is one: a wrong expectation is found.
      const types = await readFile(join(user, 'types.mts'), 'utf8');
      await writeFile(join(user, 'types.mts'), types.replace('<string>();', '<number>();'));
      const wrong = await output(process.execPath, [tsc, '-p', '.'], user);
      t.not(wrong.code, 0);
      t.regex(wrong.stdout, /types\.mts\(\d+,\d+\): error/);
    },
  );
}

test('TypeScript, plain es2022: @types/node is all that the types need, and they need it', async (t) => {
  const user = await userFolder(t);
  await writeFile(
    join(user, 'plain.mts'),
    "import { PatchRanker } from 'ltrp';\nawait using r = await PatchRanker.load('tiny');\n",
  );
  const compile = async (more: Record<string, unknown>): Promise<Outcome> => {
    const own = { module: 'nodenext', target: 'es2022', lib: ['es2022'], strict: true };
    const compilerOptions = { ...own, noEmit: true, ...more };
    const config = { compilerOptions, files: ['plain.mts'] };
    await writeFile(join(user, 'tsconfig.json'), JSON.stringify(config));
    return output(process.execPath, [tsc, '-p', '.'], user);
  };
  const without = await compile({ types: [] });
  t.is(without.code, 2);
  t.regex(without.stdout, /node_modules\/ltrp\/.*Cannot find name 'AbortSignal'/);
  t.regex(without.stdout, /node_modules\/ltrp\/.*Property 'asyncDispose' does not exist/);
  await symlink(join(repository, 'node_modules', '@types'), join(user, 'node_modules', '@types'));
  t.like(await compile({ types: ['node'] }), { code: 0, stdout: '' });
});

const vitest = join(hostModules, 'vitest');

(existsSync(vitest) ? test : test.skip)(
  "vitest's vmThreads, where a test has a JavaScript realm of its own: a picture is ranked",
  async (t) => {
    const user = await userFolder(t);
    await symlink(vitest, join(user, 'node_modules', 'vitest'));
    await copyFile(photo, join(user, 'tiger.jpg'));
    // vitest's own limit of 5 s is less than a first ranking takes while the other tests of this file run.
    const limits = ['--testTimeout=120000'];
    const args = [join(vitest, 'vitest.mjs'), 'run', '--pool=vmThreads', '--root', '.', ...limits];
    const { code, stdout, stderr } = await output(process.execPath, args, user);
    t.is(code, 0, stdout + stderr);
  },
);

const bun = bunBinary();

(bun === null ? test.skip : test)('Bun: what happens is what the documentation says', async (t) => {
  const user = await userFolder(t);
  const here = await output(process.execPath, ['smoke.mjs', photo], user);
  const there = await output(bun ?? '', ['smoke.mjs', photo], user);
  t.log(`exit code ${String(there.code)}, signal ${String(there.signal)}`, there.stderr);
  t.deepEqual([there.code, there.stdout], [0, here.stdout]);
});
