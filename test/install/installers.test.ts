/**
 * The real tarball installed into fresh folders in the ways of its users, with their package managers; each then ranks a
 * photograph and must get, bit for bit, what the working tree gets.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { chmod, cp, mkdir, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  bareBin,
  cpuLibtorch,
  makeProject,
  npm,
  npmProgram,
  pnpm,
  rankInWorkingTree,
  readRanking,
  run,
  suiteFolder,
  tarball,
  version,
  yarn,
  type Outcome,
  type Ranking,
  type RunOptions,
} from '../support/install.js';

const isRoot = process.getuid?.() === 0;
const nobody = 65534;
/** Everything that leads to a network leads nowhere. */
const noNetwork = Object.fromEntries(
  [
    'HTTP_PROXY',
    'HTTPS_PROXY',
    'http_proxy',
    'https_proxy',
    'npm_config_proxy',
    'npm_config_https_proxy',
  ].map((name) => [name, 'http://127.0.0.1:9']),
);

let expected: Ranking;

test.before(async () => {
  expected = await rankInWorkingTree();
});

test.after.always(async () => {
  await rm(suiteFolder, { recursive: true, force: true });
});

/** Bundled CommonJS packages call require, which an ES module does not have. */
const banner =
  "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);";

function succeeded(t: ExecutionContext, outcome: Outcome): void {
  t.is(outcome.code, 0, outcome.output);
}

/** Runs the project's program and compares what it ranks; `within`: where its binaries have to lie. */
async function ranks(
  t: ExecutionContext,
  folder: string,
  options: Partial<RunOptions> & { command?: typeof yarn; within?: string } = {},
): Promise<Ranking | undefined> {
  const { command, within = folder, ...rest } = options;
  const settings = { cwd: folder, ...rest };
  const outcome =
    command === undefined
      ? await run(process.execPath, [join(folder, 'rank.mjs')], settings)
      : await command(['node', 'rank.mjs'], settings);
  succeeded(t, outcome);
  if (outcome.code !== 0) return undefined;
  const ranking = readRanking(outcome);
  t.is(ranking.version, version);
  t.deepEqual(ranking.logits, expected.logits);
  t.deepEqual(ranking.indices, expected.indices);
  if (ranking.binaries !== null) {
    t.deepEqual(ranking.binaries.map((file) => basename(file)).sort(), [
      'libltrp_core-2.13-cpu.so',
      'ltrp.node',
    ]);
    for (const file of ranking.binaries) t.true(file.startsWith(`${within}/`), file);
  }
  return ranking;
}

test.serial('npm: installed in under 60 s, and the command works', async (t) => {
  const folder = await makeProject('plain');
  const start = performance.now();
  succeeded(t, await npm(['install', tarball], { cwd: folder }));
  const seconds = (performance.now() - start) / 1000;
  t.log(`installed in ${seconds.toFixed(1)} s, packages fetched from the registry`);
  t.true(seconds < 60);
  await ranks(t, folder);
  const command = await run(
    join(folder, 'node_modules/.bin/ltrp'),
    ['rank', 'tiger.jpg', '--json'],
    {
      cwd: folder,
    },
  );
  succeeded(t, command);
  t.true(command.output.includes('tiger.jpg'));
  // What an installed package tells people to run is not what a clone does.
  const paths = join(folder, 'node_modules/ltrp/dist/native/paths.js');
  const code = `import { coreCommand } from ${JSON.stringify(paths)};
    console.log(coreCommand('cu130') + '\\n' + coreCommand('cpu'));`;
  const told = await run(process.execPath, ['--input-type=module', '--eval', code], {
    cwd: folder,
  });
  t.deepEqual(told.output.trim().split('\n'), [
    `npm install ltrp-cuda@${version}`,
    'LTRP_BUILD_FROM_SOURCE=1 npm rebuild ltrp --foreground-scripts',
  ]);
});

test.serial('--ignore-scripts', async (t) => {
  const folder = await makeProject('ignore-scripts');
  succeeded(
    t,
    await npm(['install', '--ignore-scripts', '--prefer-offline', tarball], { cwd: folder }),
  );
  await ranks(t, folder);
});

const offline = ['install', '--offline', '--foreground-scripts', tarball];

test.serial('--offline', async (t) => {
  const folder = await makeProject('offline');
  succeeded(t, await npm(offline, { cwd: folder }));
  await ranks(t, folder);
});

// Not every system lets its users make one; a skipped test is counted, a line of a log is not.
const canUnshare = spawnSync('unshare', ['--net', 'true']).status === 0;

(canUnshare ? test.serial : test.serial.skip)(
  'in a network namespace without a network',
  async (t) => {
    const folder = await makeProject('no-network');
    const [program, ...args] = npmProgram;
    const unshare = ['--net', program, ...args, ...offline];
    succeeded(t, await run('unshare', unshare, { cwd: folder }));
    await ranks(t, folder);
  },
);

test.serial('a proxy that leads nowhere: nothing of ours needs the network', async (t) => {
  const folder = await makeProject('proxy');
  // The packages of others come from npm's cache; install scripts run with the same settings.
  const args = ['install', '--offline', '--foreground-scripts', tarball];
  succeeded(t, await npm(args, { cwd: folder, env: noNetwork }));
  await ranks(t, folder, { env: noNetwork });
});

test.serial('pnpm, whose packages see only what they declare', async (t) => {
  const folder = await makeProject('pnpm');
  const store = join(suiteFolder, 'pnpm-store');
  const env = { XDG_DATA_HOME: store, XDG_STATE_HOME: store, CI: '1' };
  succeeded(t, await pnpm(['add', '--store-dir', store, tarball], { cwd: folder, env }));
  t.true(existsSync(join(folder, 'node_modules/.pnpm')));
  await ranks(t, folder);
});

test.serial('Yarn Plug’n’Play, without node_modules', async (t) => {
  const folder = await makeProject('yarn-pnp');
  await writeFile(
    join(folder, '.yarnrc.yml'),
    `nodeLinker: pnp\nenableTelemetry: false\nenableGlobalCache: false\nenableImmutableInstalls: false\n`,
  );
  await writeFile(join(folder, 'yarn.lock'), '');
  const env = { YARN_GLOBAL_FOLDER: join(suiteFolder, 'yarn-global') };
  succeeded(t, await yarn(['add', `ltrp@file:${tarball}`], { cwd: folder, env }));
  t.true(existsSync(join(folder, '.pnp.cjs')));
  t.false(existsSync(join(folder, 'node_modules/ltrp')));
  await ranks(t, folder, { command: yarn, env });
});

test.serial('a path with spaces, quotes and letters beyond ASCII, also for LibTorch', async (t) => {
  const folder = await makeProject("Müller & Söhne 'photos' 写真");
  succeeded(t, await npm(['install', '--prefer-offline', tarball], { cwd: folder }));
  const cache = join(folder, 'mein cache');
  await mkdir(join(cache, 'ltrp/libtorch'), { recursive: true });
  await symlink(await cpuLibtorch(), join(cache, 'ltrp/libtorch/2.13.0-cpu'));
  await ranks(t, folder, { env: { XDG_CACHE_HOME: cache } });
});

test.serial('no compiler: a PATH with nothing but Node and a shell', async (t) => {
  const folder = await makeProject('no-compiler');
  const env = { PATH: await bareBin(folder) };
  succeeded(
    t,
    await npm(['install', '--prefer-offline', '--foreground-scripts', tarball], {
      cwd: folder,
      env,
    }),
  );
  await ranks(t, folder, { env });
});

test.serial('two copies in one tree, both used by one process', async (t) => {
  for (const name of ['one', 'other']) {
    const dependent = await makeProject(`two-copies-${name}`, {
      name,
      type: 'module',
      exports: './rank.mjs',
      dependencies: { ltrp: `file:${tarball}` },
    });
    await rm(join(dependent, 'node_modules'), { recursive: true, force: true });
  }
  const folder = await makeProject('two-copies');
  const dependents = ['one', 'other'].map((name) => join(suiteFolder, `two-copies-${name}`));
  const args = ['install', '--prefer-offline', '--install-links', '--install-strategy=nested'];
  succeeded(t, await npm([...args, ...dependents], { cwd: folder }));
  await writeFile(join(folder, 'both.mjs'), `await import('one');\nawait import('other');\n`);
  const outcome = await run(process.execPath, ['both.mjs'], { cwd: folder });
  succeeded(t, outcome);
  const lines = outcome.output.trim().split('\n');
  t.is(lines.length, 2, outcome.output);
  for (const line of lines) {
    t.deepEqual((JSON.parse(line) as Ranking).logits, expected.logits);
  }
  const { binaries } = JSON.parse(lines[1] ?? '') as Ranking;
  if (binaries !== null) {
    const folders = new Set(binaries.map((file) => /node_modules\/(one|other)\//.exec(file)?.[1]));
    t.deepEqual([...folders].sort(), ['one', 'other']);
  }
});

test.serial('a user who is not root, from installation to ranking', async (t) => {
  if (!isRoot) {
    t.log('nothing to change: the tests run as such a user');
    t.pass();
    return;
  }
  const folder = await makeProject('not-root');
  const home = join(folder, 'home');
  const libtorch = await readableLibtorch(join(suiteFolder, 'libtorch'));
  await mkdir(home);
  await cp(tarball, join(folder, 'ltrp.tgz'));
  await cp(join(suiteFolder, 'npm-cache'), join(folder, 'npm-cache'), { recursive: true });
  succeeded(t, await run('chown', ['-R', `${nobody}:${nobody}`, folder], { cwd: folder }));
  const env = {
    HOME: home,
    XDG_CACHE_HOME: undefined,
    npm_config_cache: join(folder, 'npm-cache'),
    LIBTORCH: libtorch,
  };
  const options = { cwd: folder, uid: nobody, env };
  const args = ['install', '--offline', '--foreground-scripts', './ltrp.tgz'];
  succeeded(t, await npm(args, options));
  await ranks(t, folder, { uid: nobody, env });
});

test.serial('node_modules that cannot be written to', async (t) => {
  const folder = await makeProject('read-only');
  succeeded(t, await npm(['install', '--prefer-offline', tarball], { cwd: folder }));
  const modules = join(folder, 'node_modules');
  succeeded(t, await run('chmod', ['-R', 'a-w', modules], { cwd: folder }));
  const before = await listing(modules);
  // Permissions do not stop root: its program runs as somebody else, who owns nothing there.
  const other = isRoot
    ? {
        uid: nobody,
        env: {
          HOME: '/nonexistent',
          LIBTORCH: await readableLibtorch(join(suiteFolder, 'libtorch')),
        },
      }
    : {};
  await ranks(t, folder, other);
  t.deepEqual(await listing(modules), before);
  succeeded(t, await run('chmod', ['-R', 'u+w', modules], { cwd: folder }));
});

test.serial(
  'without binaries for the system: installs, says what to do, and so does the first call',
  async (t) => {
    const folder = await makeProject('no-binaries');
    const install = ['install', '--prefer-offline', '--ignore-scripts', tarball];
    succeeded(t, await npm(install, { cwd: folder }));
    await rm(join(folder, 'node_modules/ltrp/prebuilds'), { recursive: true });
    const env = { PATH: await bareBin(folder) };
    const rebuild = ['rebuild', 'ltrp', '--foreground-scripts'];
    const outcome = await npm(rebuild, { cwd: folder, env });
    succeeded(t, outcome);
    t.regex(
      outcome.output,
      /The package has no binaries for \w+-\w+, and compiling needs what is missing here: CMake .*; Ninja .*; a C\+\+20 compiler .*npm rebuild ltrp --foreground-scripts/,
    );
    t.not(
      (await npm(rebuild, { cwd: folder, env: { ...env, LTRP_BUILD_FROM_SOURCE: '1' } })).code,
      0,
    );

    await writeFile(
      join(folder, 'first-call.mjs'),
      `import { PatchRanker, version } from 'ltrp';
     console.log(version);
     try { await PatchRanker.load('tiny'); } catch (error) { console.log(error.code, error.message); }`,
    );
    const { output } = await run(process.execPath, ['first-call.mjs'], { cwd: folder, env });
    t.regex(
      output,
      /^\d+\.\d+\.\d+\nERR_LTRP_NOT_BUILT ltrp\.node for \w+-\w+ was found in none of .*LTRP_BUILD_FROM_SOURCE=1 npm rebuild ltrp --foreground-scripts/,
    );
  },
);

test.serial(
  'bundled without being external: the installed copy beside the bundle, or a sentence',
  async (t) => {
    const folder = await makeProject('bundled');
    const install = ['install', '--prefer-offline', tarball, 'esbuild@0.28'];
    succeeded(t, await npm(install, { cwd: folder }));
    await writeFile(
      join(folder, 'bundle.mjs'),
      `import { build } from 'esbuild';
       const [entry, outfile, format, js] = process.argv.slice(2);
       await build({
         entryPoints: [entry], outfile, format, bundle: true, platform: 'node', external: ['sharp'], banner: { js },
         logLevel: 'error', logOverride: { 'empty-import-meta': 'silent' },
       });`,
    );
    const esbuild = (...args: string[]): Promise<Outcome> =>
      run(process.execPath, ['bundle.mjs', ...args], { cwd: folder });
    const out = join(folder, 'out');
    succeeded(t, await esbuild('rank.mjs', join(out, 'rank.mjs'), 'esm', banner));
    await cp(join(folder, 'tiger.jpg'), join(out, 'tiger.jpg'));
    const outcome = await run(process.execPath, ['out/rank.mjs'], { cwd: folder });
    succeeded(t, outcome);
    t.deepEqual(readRanking(outcome).logits, expected.logits);

    // Elsewhere, and in a format that leaves a module without an address, there is nothing beside it.
    const elsewhere = await makeProject('bundled-elsewhere');
    await writeFile(
      join(folder, 'version.mjs'),
      `import { version } from 'ltrp';\nconsole.log(version);\n`,
    );
    succeeded(t, await esbuild('version.mjs', join(elsewhere, 'version.cjs'), 'cjs', ''));
    await cp(join(folder, 'node_modules/sharp'), join(elsewhere, 'node_modules/sharp'), {
      recursive: true,
    });
    const alone = await run(process.execPath, ['version.cjs'], { cwd: elsewhere });
    t.not(alone.code, 0);
    t.regex(
      alone.output,
      /ltrp was bundled into .* without its binaries and models\. Tell the bundler that ltrp is external/,
    );
  },
);

// Takes as long as compiling the project.
const compiles = process.env['LTRP_TEST_SOURCE_BUILD'] === '1' ? test.serial : test.serial.skip;

compiles(
  'without binaries, with a compiler and LibTorch: it is compiled (LTRP_TEST_SOURCE_BUILD=1)',
  async (t) => {
    t.timeout(3_600_000);
    const folder = await makeProject('compiled');
    const env = {
      LTRP_BUILD_FROM_SOURCE: '1',
      LTRP_BUILD_JOBS: process.env['LTRP_BUILD_JOBS'],
      LIBTORCH: await cpuLibtorch(),
    };
    const args = ['install', '--prefer-offline', '--foreground-scripts', tarball];
    succeeded(t, await npm(args, { cwd: folder, env }));
    const own = join(folder, 'node_modules/ltrp');
    t.deepEqual(await readdir(join(own, 'build')), ['Release']);
    await ranks(t, folder, { within: join(own, 'build/Release') });
  },
);

/** LibTorch where any user can read it: linked, or copied where links do not reach. */
async function readableLibtorch(into: string): Promise<string> {
  if (existsSync(into)) return into;
  await mkdir(into);
  const from = join(await cpuLibtorch(), 'lib');
  const linked = await run('cp', ['--recursive', '--link', from, into], { cwd: dirname(into) });
  if (linked.code !== 0) await cp(from, join(into, 'lib'), { recursive: true });
  await writeFile(join(into, 'build-version'), '2.13.0+cpu\n');
  await chmod(into, 0o755);
  return into;
}

async function listing(folder: string): Promise<string[]> {
  return (await readdir(folder, { recursive: true })).sort();
}
