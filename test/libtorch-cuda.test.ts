/**
 * LibTorch's CUDA build: which libraries it takes, what is said when some are missing, and how the variants are chosen. On
 * made-up folders; what loads the real one needs `ltrp libtorch install --cuda` and is skipped visibly without it.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { copyFile, mkdir, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { acceleratorLine } from '../lib/cli/doctor.js';

import { librariesOf, missingLibraries, readDynamicSection } from '../lib/libtorch/libraries.js';
import { libraryName } from '../lib/libtorch/inspect.js';
import { installLibtorch } from '../lib/libtorch/install.js';
import { releaseFor } from '../lib/libtorch/releases.js';
import { decideLibtorch, findLibtorch } from '../lib/libtorch/find.js';
import { nvidiaPackageOf, nvidiaPackages } from '../lib/libtorch/nvidia-packages.js';
import { libtorchCacheFolder } from '../lib/libtorch/folders.js';
import { coreFiles } from '../lib/native/paths.js';
import { ltrp, test } from './support/bare-user.js';
import { zipBytes } from './support/zip.js';

const run = promisify(execFile);

const linux = process.platform === 'linux' && process.arch === 'x64';

/** An ELF shared library that holds a dynamic section and nothing else. */
function sharedLibrary(needed: readonly string[], runpath?: string): Buffer {
  let strings = '\0';
  const add = (text: string): number => {
    const at = strings.length;
    strings += `${text}\0`;
    return at;
  };
  const entries: [tag: number, value: number][] = needed.map((name) => [1, add(name)]);
  if (runpath !== undefined) entries.push([29, add(runpath)]);
  const segments = 64 + 2 * 56;
  const dynamicSize = (entries.length + 2) * 16;
  const address = 0x1000; // of the file's beginning in memory
  entries.push([5, address + segments + dynamicSize], [0, 0]);
  const file = Buffer.alloc(segments + dynamicSize + strings.length);
  file.writeUInt32BE(0x7f454c46, 0);
  file[4] = 2; // 64 bit
  file[5] = 1; // little-endian
  file.writeUInt16LE(62, 18); // x86-64
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(2, 56);
  const segment = (at: number, type: number, offset: number, size: number): void => {
    file.writeUInt32LE(type, at);
    file.writeBigUInt64LE(BigInt(offset), at + 8);
    file.writeBigUInt64LE(BigInt(address + offset), at + 16);
    file.writeBigUInt64LE(BigInt(size), at + 32);
  };
  segment(64, 1, 0, file.length);
  segment(64 + 56, 2, segments, dynamicSize);
  entries.forEach(([tag, value], i) => {
    file.writeBigUInt64LE(BigInt(tag), segments + i * 16);
    file.writeBigUInt64LE(BigInt(value), segments + i * 16 + 8);
  });
  file.write(strings, segments + dynamicSize, 'latin1');
  return file;
}

/** A CUDA LibTorch as pip lays it out, `torch/` beside `nvidia/`; libraries of names that no system has. */
async function makeCudaLibtorch(
  folder: string,
  options: { nvidia: readonly string[]; version?: string },
): Promise<string> {
  const torch = path.join(folder, 'torch');
  const lib = path.join(torch, 'lib');
  await mkdir(lib, { recursive: true });
  const rpath = '$ORIGIN/../../nvidia/cudnn/lib:$ORIGIN/../../nvidia/cu13/lib:$ORIGIN';
  const needs: Record<string, string[]> = {
    c10: ['libc.so.6'],
    c10_cuda: ['libc10.so', 'libcudart.so.99'],
    torch_cpu: ['libc10.so', 'libcudart.so.99', 'libgomp.so.1'],
    torch_cuda: ['libtorch_nvshmem.so', 'libcublas.so.99', 'libcudnn.so.99', 'libc10_cuda.so'],
    torch: ['libtorch_cpu.so', 'libtorch_cuda.so'],
  };
  for (const [stem, names] of Object.entries(needs)) {
    await writeFile(path.join(lib, `lib${stem}.so`), sharedLibrary(names, rpath));
  }
  await writeFile(path.join(lib, 'libtorch_nvshmem.so'), sharedLibrary(['libtorch_cpu.so']));
  await writeFile(path.join(lib, 'libgomp.so.1'), sharedLibrary([]));
  const version = options.version ?? '2.14.1';
  await writeFile(path.join(torch, 'version.py'), `__version__ = '${version}+cu130'\n`);
  for (const file of options.nvidia) {
    const place = path.join(folder, 'nvidia', file);
    await mkdir(path.dirname(place), { recursive: true });
    const needed = file.includes('libcublas.') ? ['libcublasLt.so.99'] : [];
    await writeFile(place, sharedLibrary(needed));
  }
  return folder;
}

const everything = [
  'cu13/lib/libcudart.so.99',
  'cu13/lib/libcublas.so.99',
  'cu13/lib/libcublasLt.so.99',
  'cudnn/lib/libcudnn.so.99',
];

const accept = [
  { minor: '2.14', variant: 'cu130' },
  { minor: '2.13', variant: 'cpu' },
];

test('the dynamic section of a shared library is read; what is none gives nothing', async (t) => {
  const { folder } = t.context;
  const file = path.join(folder, 'a.so');
  await writeFile(file, sharedLibrary(['libc.so.6', 'libcudart.so.13'], '$ORIGIN:/opt/lib'));
  t.deepEqual(readDynamicSection(file), {
    needed: ['libc.so.6', 'libcudart.so.13'],
    searchPath: ['$ORIGIN', '/opt/lib'],
  });
  const bytes = await readFile(file);
  const nothing = { needed: [], searchPath: [] };
  for (const length of [0, 20, 64, 100, 200]) {
    await writeFile(file, bytes.subarray(0, length));
    t.deepEqual(readDynamicSection(file), nothing, String(length));
  }
  t.deepEqual(readDynamicSection(path.join(folder, 'absent.so')), nothing);
  t.deepEqual(readDynamicSection(folder), nothing);
});

test('the dynamic section agrees with what the system says of the core', async (t) => {
  const core = coreFiles()[0];
  const listed = await run('readelf', ['-d', core?.path ?? '']).catch(() => null);
  if (core === undefined || listed === null) {
    t.log('skipped: there is no core or no readelf here');
    t.pass();
    return;
  }
  const names = [...listed.stdout.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map((match) => match[1]);
  t.deepEqual([...readDynamicSection(core.path).needed], names);
  // What LibTorch the core gets is decided by whoever opens it.
  t.deepEqual(readDynamicSection(core.path).searchPath, []);
});

(linux ? test : test.skip)(
  "what a library needs is opened before it, NVIDIA's by their own paths",
  async (t) => {
    const { folder, env } = t.context;
    await makeCudaLibtorch(folder, { nvidia: everything });
    const libFolder = path.join(folder, 'torch', 'lib');
    const { preload, missing } = librariesOf({ libFolder, variant: 'cu130' }, env);
    t.deepEqual(missing, []);
    // Not libtorch_nvshmem.so, which uses symbols of whoever needs it, and not libgomp, whose place is its user's.
    t.deepEqual(
      preload.map((file) => path.relative(folder, file)),
      [
        'torch/lib/libc10.so',
        'nvidia/cu13/lib/libcudart.so.99',
        'torch/lib/libc10_cuda.so',
        'torch/lib/libtorch_cpu.so',
        'nvidia/cu13/lib/libcublasLt.so.99',
        'nvidia/cu13/lib/libcublas.so.99',
        'nvidia/cudnn/lib/libcudnn.so.99',
        'torch/lib/libtorch_cuda.so',
        'torch/lib/libtorch.so',
      ],
    );
    const cpu = librariesOf({ libFolder, variant: 'cpu' }, env);
    t.deepEqual(
      cpu.preload.map((file) => path.basename(file)),
      [libraryName('c10'), libraryName('torch_cpu'), libraryName('torch')],
    );
  },
);

(linux ? test : test.skip)(
  "without NVIDIA's libraries: named, an error that lists them; lying around, passed over for the CPU's",
  async (t) => {
    const { folder, env } = t.context;
    const cache = libtorchCacheFolder(env);
    const cuda = await makeCudaLibtorch(path.join(cache, '2.14.1-cu130'), {
      nvidia: ['cu13/lib/libcudart.so.99'],
    });
    const search = { accept, env, systemFolders: [], musl: false, gpu: true };
    const error = await t.throwsAsync(findLibtorch({ ...search, explicit: cuda }), {
      code: 'ERR_LTRP_LIBTORCH_INVALID',
    });
    t.regex(
      error.message,
      /libcublas\.so\.99 \(nvidia-cublas\), libcudnn\.so\.99 \(nvidia-cudnn-cu13\)/,
    );
    t.regex(error.message, /`npx ltrp libtorch install --cuda` fetches them/);
    t.false(error.message.includes('libcudart'));

    const alone = await t.throwsAsync(findLibtorch(search), {
      code: 'ERR_LTRP_LIBTORCH_NOT_FOUND',
    });
    t.regex(alone.message, /libcublas\.so\.99 \(nvidia-cublas\)/);

    const cpu = path.join(cache, '2.13.0-cpu');
    await mkdir(path.join(cpu, 'lib'), { recursive: true });
    for (const stem of ['c10', 'torch_cpu', 'torch'] as const) {
      await writeFile(path.join(cpu, 'lib', libraryName(stem)), sharedLibrary([]));
    }
    await writeFile(path.join(cpu, 'build-version'), '2.13.0+cpu\n');
    const decision = await decideLibtorch(search);
    t.is(decision.chosen?.root, cpu);
    t.regex(
      decision.candidates.find((item) => item.path === cuda)?.reason ?? '',
      /NVIDIA's libraries are missing/,
    );

    // Complete, it is the newer one; found by LD_LIBRARY_PATH it is complete as well.
    const elsewhere = path.join(folder, 'elsewhere');
    await mkdir(elsewhere);
    for (const name of ['libcublas.so.99', 'libcudnn.so.99']) {
      await writeFile(path.join(elsewhere, name), sharedLibrary([]));
    }
    const helped = { ...search, env: { ...env, LD_LIBRARY_PATH: elsewhere } };
    t.is((await findLibtorch(helped)).variant, 'cu130');
    await makeCudaLibtorch(path.join(cache, '2.14.1-cu130'), { nvidia: everything });
    t.is((await findLibtorch(search)).variant, 'cu130');
    // Where there is no GPU the CPU's build starts sooner; named, the other one is taken all the same.
    t.is((await findLibtorch({ ...search, gpu: false })).root, cpu);
    t.is((await findLibtorch({ ...search, gpu: false, explicit: cuda })).variant, 'cu130');
    t.is(
      (await findLibtorch({ ...search, gpu: false, accept: accept.slice(0, 1) })).variant,
      'cu130',
    );
    // Without a core for it, it is passed over whatever it has.
    t.is((await findLibtorch({ ...search, accept: accept.slice(1) })).root, cpu);
  },
);

(linux ? test : test.skip)('building needs none of NVIDIA’s libraries', async (t) => {
  const { folder, env } = t.context;
  await makeCudaLibtorch(folder, { nvidia: [] });
  for (const name of ['ATen', 'torch']) {
    await mkdir(path.join(folder, 'torch', 'include', name), { recursive: true });
  }
  const search = { accept, env, systemFolders: [], musl: false, explicit: folder };
  t.is((await findLibtorch({ ...search, needHeaders: true })).variant, 'cu130');
  await t.throwsAsync(findLibtorch(search), { message: /NVIDIA's libraries are missing/ });
});

test('every NVIDIA package is pinned, and libraries are found in them whatever their version', (t) => {
  for (const item of nvidiaPackages) {
    t.regex(item.sha256, /^[0-9a-f]{64}$/, item.name);
    t.true(item.wheel.startsWith(`${item.name.replaceAll('-', '_')}-${item.version}-py3-none-`));
    t.true(item.libraries.length > 0, item.name);
  }
  t.is(nvidiaPackageOf('libcublasLt.so.12')?.name, 'nvidia-cublas');
  t.is(nvidiaPackageOf('libcusparse.so.12')?.name, 'nvidia-cusparse');
  t.is(nvidiaPackageOf('libcusparseLt.so.0')?.name, 'nvidia-cusparselt-cu13');
  t.is(nvidiaPackageOf('libstdc++.so.6'), null);
  t.is(
    missingLibraries(['libnccl.so.2']),
    "NVIDIA's libraries are missing: libnccl.so.2 (nvidia-nccl-cu13); `npx ltrp libtorch install --cuda` fetches them",
  );
});

test('there is a CUDA release for Linux on x86-64, and a clear refusal elsewhere', async (t) => {
  const release = releaseFor('linux', 'x64', 'cuda');
  t.is(release?.variant, 'cu130');
  t.is(Object.keys(release?.wheelSha256 ?? {}).length, 1);
  t.is(releaseFor('darwin', 'arm64', 'cuda'), null);
  t.is(releaseFor('linux', 'x64')?.variant, 'cpu');
  if (linux) return;
  await t.throwsAsync(installLibtorch({ device: 'cuda', env: t.context.env }), {
    code: 'ERR_LTRP_LIBTORCH_UNSUPPORTED',
    message: /with CUDA/,
  });
});

/** A `python3` that answers `pip download` with files of a folder, and a zip file made by the real one. */
async function fakePip(folder: string, wheels: string): Promise<string> {
  const bin = path.join(folder, 'bin');
  await mkdir(bin);
  const script = `#!/bin/sh
case "$*" in *--version) echo pip 1; exit;; esac
while [ $# -gt 0 ]; do
  if [ "$1" = --dest ]; then dest=$2; fi
  last=$1
  shift
done
name=$(printf %s "\${last%%==*}" | /usr/bin/tr - _)
echo "$last" >> ${folder}/asked
/bin/cp ${wheels}/$name-*.whl "$dest"/ || { echo "ERROR: no $last"; exit 1; }
`;
  await writeFile(path.join(bin, 'python3'), script, { mode: 0o755 });
  return bin;
}

const makeWheel = (file: string, entries: Record<string, Buffer>): Promise<void> =>
  writeFile(file, zipBytes(Object.entries(entries).map(([name, content]) => ({ name, content }))));

async function sha256(file: string): Promise<string> {
  const { createHash } = await import('node:crypto');
  return createHash('sha256')
    .update(await readFile(file))
    .digest('hex');
}

(linux ? test : test.skip)(
  'install --cuda: LibTorch, then wheel after wheel; continued where it stopped, refused when a wheel is another one',
  async (t) => {
    const { folder, env } = t.context;
    const wheels = path.join(folder, 'wheels');
    await mkdir(wheels);
    const torch = await makeCudaLibtorch(path.join(folder, 'source'), { nvidia: [] });
    const entries: Record<string, Buffer> = {
      'torch/include/ATen/ATen.h': Buffer.from(''),
      'torch/include/torch/torch.h': Buffer.from(''),
      'torch/version.py': await readFile(path.join(torch, 'torch', 'version.py')),
    };
    for (const name of await readdir(path.join(torch, 'torch', 'lib'))) {
      entries[`torch/lib/${name}`] = await readFile(path.join(torch, 'torch', 'lib', name));
    }
    const torchWheel = path.join(wheels, 'torch-2.14.1-cp311-none-any.whl');
    await makeWheel(torchWheel, entries);
    const item = async (
      name: string,
      library: string,
    ): Promise<(typeof nvidiaPackages)[number]> => {
      const wheel = `${name.replaceAll('-', '_')}-1.0-py3-none-any.whl`;
      await makeWheel(path.join(wheels, wheel), {
        [`nvidia/${library}`]: sharedLibrary([]),
        [`nvidia/${library.replace('.so', '.alt.so')}`]: sharedLibrary([]),
        'nvidia/cu13/include/header.h': Buffer.from(''),
      });
      const digest = await sha256(path.join(wheels, wheel));
      return { name, version: '1.0', size: 1000, wheel, sha256: digest, libraries: [] };
    };
    const nvidia = [
      await item('nvidia-first', 'cu13/lib/libcudart.so.99'),
      await item('nvidia-second', 'cudnn/lib/libcudnn.so.99'),
    ];
    const bin = await fakePip(folder, wheels);
    const release = {
      version: '2.14.1',
      variant: 'cu130',
      description: 'made up',
      bytesNeeded: 1_000_000,
      pip: {
        sources: [{ index: null, requirement: 'torch==2.14.1' }],
        platform: 'any',
        pythonVersion: '3.11',
      },
      wheelSha256: { [path.basename(torchWheel)]: await sha256(torchWheel) },
      archiveUrl: null,
      nvidia,
    };
    const options = { env: { ...env, PATH: bin }, release, device: 'cuda' as const };
    const asked = async (): Promise<string[]> => {
      const text = await readFile(path.join(folder, 'asked'), 'utf8').catch(() => '');
      await rm(path.join(folder, 'asked'), { force: true });
      return text.trim().split('\n');
    };

    const built = await installLibtorch({ ...options, buildOnly: true });
    t.deepEqual([built.installed, await asked()], [true, ['torch==2.14.1']]);
    t.false(existsSync(path.join(built.path, 'nvidia')));
    t.is((await installLibtorch({ ...options, buildOnly: true })).installed, false);

    // The second package cannot be had: the first stays.
    const second = path.join(wheels, nvidia[1]?.wheel ?? '');
    await copyFile(second, `${second}.kept`);
    await rm(second);
    await t.throwsAsync(installLibtorch(options), {
      code: 'ERR_LTRP_DOWNLOAD',
      message: /nvidia-second 1\.0/,
    });
    t.deepEqual(await asked(), ['nvidia-first==1.0', 'nvidia-second==1.0']);
    // It is another file than the one that is known.
    await copyFile(path.join(wheels, nvidia[0]?.wheel ?? ''), second);
    await t.throwsAsync(installLibtorch(options), { code: 'ERR_LTRP_LIBTORCH_CHECKSUM' });
    t.deepEqual(await asked(), ['nvidia-second==1.0']);
    await copyFile(`${second}.kept`, second);
    t.true((await installLibtorch(options)).installed);
    t.deepEqual(await asked(), ['nvidia-second==1.0']);
    t.false((await installLibtorch(options)).installed);

    const nvidiaFolder = path.join(built.path, 'nvidia');
    t.deepEqual((await readdir(path.join(nvidiaFolder, 'cu13'))).sort(), ['lib']);
    t.deepEqual(await readdir(path.join(nvidiaFolder, 'cu13', 'lib')), ['libcudart.so.99']);
    t.deepEqual(await readdir(path.join(nvidiaFolder, 'cudnn', 'lib')), ['libcudnn.so.99']);
    t.deepEqual((await readdir(built.path)).sort(), ['ltrp-install.json', 'nvidia', 'torch']);
    t.false(existsSync(path.join(env['HOME'] ?? '', '.cache', 'ltrp', 'downloads')));
  },
);

test('doctor says of each GPU whether it is used, and of none why', (t) => {
  const gpu = {
    name: 'cuda:0',
    model: 'NVIDIA H100 80GB HBM3',
    computeCapability: '9.0',
    memory: 80 * 2 ** 30,
    problem: null,
  };
  t.is(
    acceleratorLine({ accelerators: [gpu], acceleratorProblem: null }),
    'cuda:0 NVIDIA H100 80GB HBM3 (compute capability 9.0, 80.0 GiB)',
  );
  t.regex(
    acceleratorLine({
      accelerators: [gpu, { ...gpu, name: 'cuda:1', problem: 'too old' }],
      acceleratorProblem: null,
    }),
    /; cuda:1 .* is not used: too old$/,
  );
  t.is(acceleratorLine({ accelerators: [], acceleratorProblem: 'no driver' }), 'none: no driver');
});

interface Report {
  ok: boolean;
  core: string | null;
  device: string;
  libtorch: { root: string; variant: string } | null;
  info: { variant: string; accelerators: unknown[]; acceleratorProblem: string | null } | null;
  error: { code: string; message: string } | null;
}

async function doctor(env: Record<string, string | undefined>): Promise<Report> {
  return JSON.parse((await ltrp(['doctor', '--json'], env)).stdout) as Report;
}

/** The real one with all its libraries, or null after saying what is missing. */
async function realCuda(t: {
  log: (text: string) => void;
  pass: () => void;
}): Promise<string | null> {
  const accepted = coreFiles().filter(({ variant }) => variant.startsWith('cu'));
  const explicit = path.join(libtorchCacheFolder(), '2.14.1-cu130');
  const decision = await decideLibtorch({ accept: accepted, explicit });
  if (decision.chosen !== null) return decision.chosen.root;
  t.log(
    accepted.length === 0
      ? 'skipped: there is no CUDA core; `npm run build -- --cuda` makes one'
      : 'skipped: there is no complete CUDA LibTorch in the cache; `npx ltrp libtorch install --cuda` fetches it',
  );
  t.pass();
  return null;
}

test('the CUDA core loads, with or without a GPU, and says why there is none', async (t) => {
  const root = await realCuda(t);
  if (root === null) return;
  const report = await doctor({ ...process.env, LIBTORCH: root });
  t.true(report.ok, report.error?.message);
  t.is(report.libtorch?.root, root);
  t.regex(report.core ?? '', /libltrp_core-2\.14-cu130\.so$/);
  t.is(report.info?.variant, 'cu130');
  const { accelerators = [], acceleratorProblem = null } = report.info ?? {};
  t.log(acceleratorProblem ?? JSON.stringify(accelerators));
  if (acceleratorProblem !== null) {
    t.is(report.device, 'cpu');
    t.regex(acceleratorProblem, /driver|no NVIDIA GPU|compute capability|CUDA does not start/);
  }
  // A GPU that is hidden is no GPU.
  const hidden = await doctor({ ...process.env, LIBTORCH: root, CUDA_VISIBLE_DEVICES: '' });
  t.true(hidden.ok);
  t.is(hidden.device, 'cpu');
});

test("the CUDA core without NVIDIA's libraries is refused before anything is opened", async (t) => {
  const root = await realCuda(t);
  if (root === null) return;
  // The same LibTorch in a place with nothing beside it.
  const torch = path.join(t.context.folder, 'bare', 'torch');
  await mkdir(path.join(torch, 'lib'), { recursive: true });
  for (const name of await readdir(path.join(root, 'lib'))) {
    if (!/^lib(c10|torch).*\.so$/.test(name)) continue;
    // c10 and torch are small; the others are found by a link, whose own place counts.
    await symlink(path.join(root, 'lib', name), path.join(torch, 'lib', name));
  }
  await copyFile(path.join(root, 'version.py'), path.join(torch, 'version.py'));
  const report = await doctor({ ...process.env, LIBTORCH: torch });
  if (report.error === null) {
    t.log('skipped: this system has NVIDIA’s libraries of its own');
    t.pass();
    return;
  }
  t.is(report.error.code, 'ERR_LTRP_LIBTORCH_INVALID');
  t.regex(report.error.message, /libcublas\.so\.13 \(nvidia-cublas\)/); // a toolkit without it is common
  t.regex(report.error.message, /libcudnn\.so\.9 \(nvidia-cudnn-cu13\)/);
  t.regex(report.error.message, /ltrp libtorch install --cuda/);
});
