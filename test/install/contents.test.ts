/** What is in the tarball, file by file, and what its binaries ask of a system. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { crc32 } from 'node:zlib';
import test from 'ava';
import { decideLibtorch } from '../../lib/libtorch/find.js';
import { deadLinks, relativeLinks } from '../support/documents.js';
import { cpuLibtorch, npm, suiteFolder, tarball, version } from '../support/install.js';
import { repository } from '../support/paths.js';

// The packaging scripts are plain JavaScript, which the compiler is not asked to look into.
const script = async <T>(name: string): Promise<T> =>
  (await import(new URL(`../../scripts/package/${name}.mjs`, import.meta.url).href)) as T;
const { notices } = await script<{ notices: () => string }>('notices');
const { writeCudaTexts } = await script<{
  writeCudaTexts: (core: string, folder: string) => void;
}>('cuda');
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

const pageParts = ['page-script.js', 'page-style.css'];

/** Files of these names: every one must be there, and of their folders nothing else may be. */
const required: readonly [names: readonly string[], why: string][] = [
  [['package.json'], 'the manifest'],
  [
    ['README', 'CHANGELOG', 'CONTRIBUTING', 'SECURITY', 'THIRD_PARTY_NOTICES'].map(
      (name) => `${name}.md`,
    ),
    'for readers',
  ],
  [['LICENSE'], 'the licence'],
  [
    ['tiny-mae', 'tiny-ranker'].flatMap((name) => [
      `models/${name}.safetensors`,
      `models/${name}.log.jsonl`,
    ]),
    'embedded models and their curves',
  ],
  [['models/README.md'], 'the model card'],
  [
    ['ltrp.node', 'libltrp_core-2.13-cpu.so'].map((name) => `prebuilds/linux-x64/${name}`),
    'the binaries',
  ],
  [['scripts/install.mjs'], 'the install script'],
  [
    ['dist', 'lib'].flatMap((folder) => pageParts.map((name) => `${folder}/cli/report/${name}`)),
    'the script and the style of the HTML page',
  ],
  [['CMakeLists.txt'], 'to compile from source'],
  [
    ['nlohmann', 'pytorch'].map((name) => `native/third_party/${name}/LICENSE`),
    'licences of what is compiled in',
  ],
  [['native/third_party/README.md', 'native/gloo_names/README.md'], 'where it comes from'],
  [['docs/benchmarks.json', 'docs/benchmarks.svg', 'docs/demo.jpg'], 'what documents show'],
  [
    readdirSync(join(repository, 'docs'))
      .filter((name) => name.endsWith('.md'))
      .map((name) => `docs/${name}`),
    'the documents, for readers offline',
  ],
];

/** What else may be in it, at least one file of each. A file that fits none of these needs a reason to be added here. */
const allowed: readonly [what: RegExp, why: string][] = [
  [/^dist\/.+\.(js|d\.ts)(\.map)?$/, 'compiled JavaScript, types, maps of both'],
  [/^lib\/.+\.ts$/, 'the sources that the maps lead to'],
  [/^examples\/[\w/]+\.(html|css|js|mjs|py|sbatch|yaml)$/, 'the examples that documents lead to'],
  [/^cmake\/Ltrp\w+\.cmake$/, 'to compile from source'],
  [
    /^native\/(binding|bootstrap|core|gloo_names|kernels|portable)\/[\w/]+\.(cpp|h|cu|cuh)$/,
    'the same',
  ],
  [/^native\/third_party\/(nlohmann|pytorch)\/[\w/]+\.hpp$/, 'the same'],
];

test('it holds what it should and nothing else', (t) => {
  const names = required.flatMap(([list]) => list);
  const strangers = files.filter(
    (name) => !names.includes(name) && !allowed.some(([pattern]) => pattern.test(name)),
  );
  t.deepEqual(strangers, []);
  for (const [list, why] of required) {
    t.deepEqual(
      list.filter((name) => !files.includes(name)),
      [],
      why,
    );
  }
  for (const [pattern, why] of allowed) {
    t.true(
      files.some((name) => pattern.test(name)),
      `${String(pattern)}: ${why}`,
    );
  }
});

test('every link of its documents leads to a file of its own', (t) => {
  const read = (name: string): string => readFileSync(join(unpacked, name), 'utf8');
  const documents = files.filter((name) => name.endsWith('.md'));
  t.true(documents.reduce((sum, name) => sum + relativeLinks(read(name)).length, 0) > 30);
  t.deepEqual(
    documents.flatMap((name) => deadLinks(name, files, read)),
    [],
  );
});

test('the check of links finds files and headings that are not there', (t) => {
  const made: Record<string, string> = {
    'a.md': '# A b, `c`!\n[x](docs/b.md#two) [y](gone.md) [z](#a-b-c) [v](docs/b.md#three)',
    'docs/b.md': '## Two\n[up](../a.md) [out](../../a.md) [web](https://example.com/x.md)',
  };
  const names = Object.keys(made);
  t.deepEqual(
    names.flatMap((name) => deadLinks(name, names, (file) => made[file] ?? '')),
    ['a.md -> gone.md', 'a.md -> docs/b.md#three', 'docs/b.md -> ../../a.md'],
  );
});

test('the package of the CUDA core: its texts, and links that lead to its own files', async (t) => {
  const core = 'libltrp_core-2.14-cu130.so';
  const folder = join(suiteFolder, 'cuda-texts');
  await mkdir(folder);
  await writeFile(join(folder, core), 'stands in for the core');
  writeCudaTexts(core, folder);
  const packed = await npm(['pack', folder, '--pack-destination', folder], { cwd: folder });
  t.is(packed.code, 0, packed.output);
  const list = execFileSync('tar', ['-tzf', join(folder, `ltrp-cuda-${version}.tgz`)], {
    encoding: 'utf8',
  });
  const names = list.trim().split('\n').map((name) => name.replace(/^package\//, '')); // prettier-ignore
  t.deepEqual(
    names.sort(),
    ['LICENSE', 'README.md', 'THIRD_PARTY_NOTICES.md', core, 'package.json'].sort(),
  );
  const read = (name: string): string => readFileSync(join(folder, name), 'utf8');
  const documents = names.filter((name) => name.endsWith('.md'));
  t.deepEqual(
    documents.flatMap((name) => deadLinks(name, names, read)),
    [],
  );
});

test('packing the clone itself is refused, and says which file is to be published', async (t) => {
  const { code, output } = await npm(['pack', '--dry-run'], { cwd: repository });
  t.not(code, 0);
  t.true(output.includes(`npm publish build/packages/ltrp-${version}.tgz`), output);
  const text = readFileSync(join(repository, 'CONTRIBUTING.md'), 'utf8');
  t.true(text.includes('npm publish build/packages/ltrp-'));
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
      .filter((name) => !pageParts.some((part) => name.endsWith(`/report/${part}`)))
      .map((name) => name.slice(folder.length + 1, -ending.length))
      .sort();
  const expected = readdirSync(join(repository, 'lib'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
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
    peerDependencies: Record<string, string>;
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
    for (const [, statically, dynamically] of text.matchAll(
      /^(?:import|export) [^'";]*?from '([^'.][^']*)'|import\('([^'.][^']*)'\)/gm,
    )) {
      const specifier = statically ?? dynamically ?? '';
      if (!specifier.startsWith('node:') && specifier !== '') imported.add(specifier);
    }
  }
  const declared = Object.keys({ ...manifest.dependencies, ...manifest.peerDependencies });
  const undeclared = [...imported].filter(
    (name) => !declared.some((own) => name === own || name.startsWith(`${own}/`)),
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
      ours = /ltrp_(core|core_lib|kernels|bootstrap|simd_(?!wide)\w+)\.dir/.test(target);
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
    if (name === 'ltrp.node') t.notRegex(dynamic, /Shared library: \[lib(torch|c10)/);
  }
});
