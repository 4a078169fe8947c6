/** What is in the tarball, file by file, and what its binaries ask of a system. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { crc32 } from 'node:zlib';
import test from 'ava';
import { decideLibtorch } from '../../lib/native/libtorch.js';
import { cpuLibtorch, suiteFolder, tarball } from '../support/install.js';
import { repository } from '../support/paths.js';

// The packaging scripts are plain JavaScript, which the compiler is not asked to look into.
const script = async <T>(name: string): Promise<T> =>
  (await import(new URL(`../../scripts/package/${name}.mjs`, import.meta.url).href)) as T;
const { notices } = await script<{ notices: () => string }>('notices');
const { symbolFolder } = await script<{ symbolFolder: string }>('strip');
const { limits, neededVersions, newerSymbols } = await script<{
  limits: Record<string, string>;
  neededVersions: (file: string) => Record<string, string>;
  newerSymbols: (file: string, libtorch: string | null) => string[];
}>('oldest-system');

const unpacked = join(suiteFolder, 'unpacked', 'package');
let files: string[];

test.before(async () => {
  await mkdir(dirname(unpacked), { recursive: true });
  execFileSync('tar', ['-xzf', tarball, '-C', dirname(unpacked)]);
  files = readdirSync(unpacked, { recursive: true, encoding: 'utf8' })
    .filter((name) => statSync(join(unpacked, name)).isFile())
    .sort();
});

test.after.always(() => rm(suiteFolder, { recursive: true, force: true }));

/** Everything that may be in it. A file that fits none of these needs a reason to be added here. */
const allowed: readonly [what: RegExp, why: string][] = [
  [/^package\.json$/, 'the manifest'],
  [/^(README|THIRD_PARTY_NOTICES|CHANGELOG)\.md$/, 'for readers'],
  [/^LICENSE$/, 'the licence'],
  [/^dist\/.+\.(js|d\.ts)(\.map)?$/, 'compiled JavaScript, types, maps of both'],
  [/^lib\/.+\.ts$/, 'the sources that the maps lead to'],
  [/^models\/(README\.md|tiny-(mae|ranker)\.(safetensors|log\.jsonl))$/, 'embedded models'],
  [/^prebuilds\/linux-x64\/(ltrp\.node|libltrp_core-2\.13-cpu\.so)$/, 'the binaries'],
  [/^scripts\/install\.mjs$/, 'the install script'],
  [/^CMakeLists\.txt$|^cmake\/Ltrp\w+\.cmake$/, 'to compile from source'],
  [/^native\/(binding|bootstrap|core|kernels|portable)\/[\w/]+\.(cpp|h|cu|cuh)$/, 'the same'],
  [/^native\/third_party\/(README\.md|(nlohmann|pytorch)\/(LICENSE|[\w/]+\.hpp))$/, 'the same'],
];

test('it holds what it should and nothing else', (t) => {
  const strangers = files.filter((name) => !allowed.some(([pattern]) => pattern.test(name)));
  t.deepEqual(strangers, []);
  for (const [pattern, why] of allowed) {
    t.true(
      files.some((name) => pattern.test(name)),
      `${String(pattern)}: ${why}`,
    );
  }
});

test('it is smaller than 30 MB', (t) => {
  const size = statSync(tarball).size;
  const inside = files.reduce((sum, name) => sum + statSync(join(unpacked, name)).size, 0);
  t.log(`${(size / 1e6).toFixed(1)} MB packed, ${(inside / 1e6).toFixed(1)} MB unpacked`);
  t.true(size < 30e6);
});

test('every module of lib is there compiled, with types, and no module more', (t) => {
  const modules = (folder: string, ending: string): string[] =>
    files
      .filter((name) => name.startsWith(`${folder}/`) && name.endsWith(ending))
      .map((name) => name.slice(folder.length + 1, -ending.length))
      .sort();
  const expected = readdirSync(join(repository, 'lib'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts'))
    .map((name) => name.slice(0, -'.ts'.length))
    .sort();
  for (const ending of ['.js', '.js.map', '.d.ts', '.d.ts.map']) {
    t.deepEqual(modules('dist', ending), expected, ending);
  }
});

test('maps lead to files that are in the package', (t) => {
  const missing: string[] = [];
  for (const name of files.filter((file) => file.endsWith('.map'))) {
    const { sources } = JSON.parse(readFileSync(join(unpacked, name), 'utf8')) as {
      sources: string[];
    };
    for (const source of sources) {
      const file = resolve(unpacked, dirname(name), source);
      if (!existsSync(file)) missing.push(`${name}: ${relative(unpacked, file)}`);
    }
  }
  t.deepEqual(missing, []);
});

test('the manifest names files that are there, and the programs can be executed', (t) => {
  const manifest = JSON.parse(readFileSync(join(unpacked, 'package.json'), 'utf8')) as {
    exports: Record<string, string | Record<string, string>>;
    types: string;
    bin: Record<string, string>;
    scripts: { install: string };
    dependencies: Record<string, string>;
  };
  const targets = Object.values(manifest.exports).flatMap((target) =>
    typeof target === 'string' ? [target] : Object.values(target),
  );
  const install = manifest.scripts.install.replace(/^node /, '');
  for (const file of [...targets, manifest.types, ...Object.values(manifest.bin), install]) {
    t.true(existsSync(join(unpacked, file)), file);
  }
  for (const file of Object.values(manifest.bin)) {
    t.true(readFileSync(join(unpacked, file), 'utf8').startsWith('#!/usr/bin/env node\n'), file);
  }
  // A bare import of something that is only a development dependency works in the clone and nowhere else.
  const imported = new Set<string>();
  for (const name of files.filter((file) => /^dist\/.*\.js$/.test(file))) {
    const text = readFileSync(join(unpacked, name), 'utf8');
    for (const [, specifier = ''] of text.matchAll(
      /^(?:import|export) [^'";]*?from '([^'.][^']*)'|import\('([^'.][^']*)'\)/gm,
    )) {
      if (!specifier.startsWith('node:') && specifier !== '') imported.add(specifier);
    }
  }
  const undeclared = [...imported].filter(
    (name) =>
      !Object.keys(manifest.dependencies).some((own) => name === own || name.startsWith(`${own}/`)),
  );
  t.deepEqual(undeclared, []);
  t.true(imported.has('sharp'));
});

test('nothing in it names a folder of the machine that built it', async (t) => {
  const own = [repository.replace(/\/$/, ''), homedir(), await cpuLibtorch()].filter(
    (folder) => folder.length > 1,
  );
  const found = files.filter((name) => {
    const content = readFileSync(join(unpacked, name));
    return own.some((folder) => content.includes(`${folder}/`));
  });
  t.deepEqual(found, []);
});

test('it has the headers and sources that compiling took', (t) => {
  const listed = spawnSync('ninja', ['-C', 'build', '-t', 'deps'], {
    cwd: repository,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (listed.status !== 0) {
    t.log('skipped: the working tree was not built with Ninja');
    t.pass();
    return;
  }
  const needed = new Set<string>();
  let ours = false;
  for (const line of listed.stdout.split('\n')) {
    const target = /^(\S+): #deps/.exec(line)?.[1];
    if (target !== undefined)
      ours = /ltrp_(core|core_lib|kernels|bootstrap|simd_\w+)\.dir/.test(target);
    else if (ours && line.trim() !== '') {
      const name = relative(repository, resolve(repository, 'build', line.trim()));
      if (name.startsWith('native/')) needed.add(name);
    }
  }
  t.true(needed.size > 100, `${needed.size}`);
  t.deepEqual(
    [...needed].filter((name) => !files.includes(name) && existsSync(join(repository, name))),
    [],
  );
});

test('the notices carry the licences of what is compiled in', (t) => {
  t.is(readFileSync(join(unpacked, 'THIRD_PARTY_NOTICES.md'), 'utf8'), notices());
});

const binaries = ['ltrp.node', 'libltrp_core-2.13-cpu.so'];
const onLinux = process.platform === 'linux' ? test : test.skip;

onLinux('the binaries ask for no newer glibc and libstdc++ than the package says', async (t) => {
  const libtorch = join(await cpuLibtorch(), 'lib');
  for (const name of binaries) {
    const file = join(unpacked, 'prebuilds/linux-x64', name);
    t.deepEqual(newerSymbols(file, name === 'ltrp.node' ? null : libtorch), [], name);
    const versions = neededVersions(file);
    t.log(`${name}: ${JSON.stringify(versions)}`);
    t.truthy(versions['GLIBC']);
  }
  // LibTorch sets the same limit: ours may be lower, and being higher would serve nobody.
  t.is(neededVersions(join(libtorch, 'libtorch_cpu.so'))['GLIBC'], limits.GLIBC);
});

onLinux('so does the CUDA core, where it is built', async (t) => {
  const core = ['cuda-package/Release', 'Release']
    .map((name) => join(repository, 'build', name, 'libltrp_core-2.14-cu130.so'))
    .find((file) => existsSync(file));
  const accept = [{ minor: '2.14', variant: 'cu130' }];
  const { chosen } = await decideLibtorch({ accept, needHeaders: true });
  if (core === undefined || chosen === null) {
    t.log('skipped: the CUDA core is not built here');
    t.pass();
    return;
  }
  t.log(JSON.stringify(neededVersions(core)));
  t.deepEqual(newerSymbols(core, chosen.libFolder), [], `${core} (npm run build -- --cuda)`);
});

onLinux('the check of symbol versions finds what was linked against this machine', (t) => {
  const library = join(suiteFolder, 'newer.so');
  execFileSync('c++', ['-shared', '-fPIC', '-x', 'c++', '-', '-o', library], {
    input: '#include <sys/stat.h>\nint f(struct stat* s) { return stat("/", s); }\n',
  });
  // A function of every caller before glibc 2.33, a name with that version since.
  const report = process.report.getReport() as unknown as {
    header: { glibcVersionRuntime: string };
  };
  const minor = Number(report.header.glibcVersionRuntime.split('.')[1]);
  t.deepEqual(newerSymbols(library, null), minor < 33 ? [] : ['stat of GLIBC_2.33']);
});

onLinux('the binaries are stripped, and name debug symbols that lie outside the package', (t) => {
  for (const name of binaries) {
    const file = join(unpacked, 'prebuilds/linux-x64', name);
    const sections = execFileSync('readelf', ['--sections', '--wide', file], { encoding: 'utf8' });
    t.notRegex(sections, /\.debug_|\.symtab/, name);
    t.regex(sections, /\.gnu_debuglink/, name);
    const linkFile = join(suiteFolder, `${name}.debuglink`);
    execFileSync('objcopy', ['--dump-section', `.gnu_debuglink=${linkFile}`, file, '/dev/null']);
    const link = readFileSync(linkFile);
    const end = link.indexOf(0);
    const symbols = join(symbolFolder, link.toString('utf8', 0, end));
    // The checksum lies behind the name, at the next multiple of four.
    t.is(link.readUInt32LE((end + 4) & ~3), crc32(readFileSync(symbols)), symbols);
    const debug = execFileSync('readelf', ['--sections', '--wide', symbols], { encoding: 'utf8' });
    t.regex(debug, /\.debug_line/, symbols);
  }
});

onLinux('the binaries find LibTorch through nothing but the bootstrap', (t) => {
  for (const name of binaries) {
    const file = join(unpacked, 'prebuilds/linux-x64', name);
    const dynamic = execFileSync('readelf', ['--dynamic', '--wide', file], { encoding: 'utf8' });
    t.notRegex(dynamic, /RPATH|RUNPATH/, name);
    if (name === 'ltrp.node') t.notRegex(dynamic, /torch|c10/);
  }
});
