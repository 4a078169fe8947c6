/** A machine without LibTorch: what works, what the first call that needs it says, and what several cores do side by side. */
import { execFile } from 'node:child_process';
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { decideLibtorch, findLibtorch } from '../lib/libtorch/find.js';
import { bootstrapFile, coreFiles } from '../lib/native/paths.js';
import { ltrp, test } from './support/bare-user.js';
import { makeLibtorch } from './support/made-libtorch.js';
import { repository } from './support/paths.js';

const run = promisify(execFile);

/** Runs a module that imports the package by its name; returns what it prints as JSON. */
async function program(code: string, env: Record<string, string | undefined>): Promise<unknown> {
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', code], {
    cwd: repository,
    env,
  });
  return JSON.parse(stdout);
}

test('import works, and so does everything that needs no tensor', async (t) => {
  const result = await program(
    `
    import * as ltrp from 'ltrp';
    const { existsSync } = await import('node:fs');
    const codes = [];
    const attempt = async (call) => {
      try { await call(); codes.push('worked'); } catch (error) { codes.push(error.code ?? error); }
    };
    await attempt(() => ltrp.PatchRanker.load('tiny', { signal: AbortSignal.abort('reason') }));
    await attempt(() => ltrp.PatchRanker.load('tiny', { devise: 'cpu' }));
    await attempt(() => ltrp.PatchRanker.load('nonesuch'));
    await attempt(() => ltrp.readImages([], { size: 224 }));
    await attempt(() => ltrp.registerSelector('own', { score: () => null }));
    await attempt(() => { throw new ltrp.LtrpError('ERR_LTRP_OWN', 'own'); });
    console.log(JSON.stringify({
      version: ltrp.version,
      models: ltrp.embeddedModels,
      mean: ltrp.imageNetMean,
      codes,
    }));`,
    t.context.env,
  );
  const { version, mean, codes } = result as { version: string; mean: number[]; codes: string[] };
  t.regex(version, /^\d+\.\d+\.\d+/);
  t.is(mean.length, 3);
  t.deepEqual(codes, [
    'reason',
    'ERR_LTRP_INVALID_ARGUMENT',
    'ERR_LTRP_FILE_NOT_FOUND',
    'ERR_LTRP_INVALID_ARGUMENT',
    'worked',
    'ERR_LTRP_OWN',
  ]);
});

test('each first call that needs LibTorch rejects with what was tried and the command that mends it', async (t) => {
  const result = await program(
    `
    import * as ltrp from 'ltrp';
    const images = { data: new Float32Array(3 * 64 * 64), shape: [1, 3, 64, 64] };
    const logits = new Float32Array(16);
    const calls = {
      ranker: () => ltrp.PatchRanker.load('tiny'),
      mae: () => ltrp.MaskedAutoencoder.load('tiny'),
      readImages: () => ltrp.readImages(['demo/photos/tiger.jpg'], { size: 224 }),
      readNothing: () => ltrp.readImages(['/nowhere.jpg'], { size: 224 }),
      selectPatches: () => ltrp.selectPatches(images, logits, { keepRatio: 0.5 }),
      rankAgreement: () => ltrp.rankAgreement(logits, logits, [1, 16]),
      keepFor: () => ltrp.keepFor({ logits, grid: { rows: 4, columns: 4 }, width: 64, height: 64 }, { spatialShape: [2, 2] }, { keep: 1 }),
      denseRegions: () => ltrp.denseRegions({ logits, grid: { rows: 4, columns: 4 }, width: 64, height: 64 }),
      qualityMap: () => ltrp.qualityMap({ logits, grid: { rows: 4, columns: 4 }, width: 64, height: 64 }),
      squeezePicture: () => ltrp.squeezePicture('demo/photos/tiger.jpg'),
      rankingLoss: () => ltrp.rankingLoss('listMle', logits, logits, [1, 16]),
      asymmetricLoss: () => ltrp.asymmetricLoss(logits, logits, [1, 16]),
      selector: () => ltrp.selectors.variance.score(images),
      meanAveragePrecision: () => ltrp.meanAveragePrecision(logits, logits, [1, 16]),
      convert: () => ltrp.convertCheckpoint('models/tiny-ranker.safetensors', '/nowhere/x.safetensors', { kind: 'ranker' }),
    };
    const results = {};
    for (const [name, call] of Object.entries(calls)) {
      let promise;
      try { promise = call(); } catch (error) { results[name] = 'thrown: ' + error; continue; }
      results[name] = await promise.then(() => 'worked', ({ name, code, message }) => ({ name, code, message }));
    }
    console.log(JSON.stringify(results));`,
    t.context.env,
  );
  const results = Object.entries(
    result as Record<string, { name: string; code: string; message: string }>,
  );
  t.is(results.length, 15);
  for (const [name, error] of results) {
    t.is(error.name, 'LtrpError', `${name}: ${JSON.stringify(error)}`);
    t.is(error.code, 'ERR_LTRP_LIBTORCH_NOT_FOUND', name);
    t.regex(error.message, /^No usable LibTorch was found\. `npx ltrp libtorch install` fetches/);
    for (const source of ['LIBTORCH_LIB', 'LIBTORCH', 'ltrp libtorch use', 'VIRTUAL_ENV']) {
      t.true(error.message.includes(`\n  ${source}: not set`), `${name}: ${source}`);
    }
    for (const source of ['option libtorch', 'CONDA_PREFIX', 'python3', 'system', 'cache']) {
      t.true(error.message.includes(`\n  ${source}`), `${name}: ${source}`);
    }
  }
});

test('once LibTorch is there, the next call in the same process works', async (t) => {
  const { root } = await findLibtorch({ accept: coreFiles() });
  const result = await program(
    `
    import { PatchRanker } from 'ltrp';
    const codes = [];
    for (const root of [undefined, ${JSON.stringify(root)}]) {
      if (root !== undefined) process.env.LIBTORCH = root;
      try { (await PatchRanker.load('tiny')).dispose(); codes.push('loaded'); }
      catch (error) { codes.push(error.code); }
    }
    console.log(JSON.stringify(codes));`,
    t.context.env,
  );
  t.deepEqual(result, ['ERR_LTRP_LIBTORCH_NOT_FOUND', 'loaded']);
});

test('the command: help and version work; rank ends with 1 and the remedy, before it reads a picture', async (t) => {
  const { env } = t.context;
  for (const args of [['--version'], ['--help'], ['rank', '--help'], ['libtorch', '--help']]) {
    t.is((await ltrp(args, env)).code, 0, args.join(' '));
  }
  const { code, stdout, stderr } = await ltrp(
    ['rank', path.join(repository, 'demo/photos/tiger.jpg')],
    env,
  );
  t.is(code, 1);
  t.is(stdout, '');
  t.regex(stderr, /npx ltrp libtorch install/);
  t.notRegex(stderr, /\n {4}at /);
});

test('an unsupported minor names itself and the supported ones', async (t) => {
  const { folder, env } = t.context;
  const accept = ['2.13', '2.14'].map((minor) => ({ minor, variant: 'cpu' }));
  const old = await makeLibtorch(path.join(folder, 'home/.cache/ltrp/libtorch/2.6.0-cpu'), {
    version: '2.6.0',
  });
  const search = { accept, env, systemFolders: [], musl: false };
  const { error, candidates } = await decideLibtorch(search);
  t.is(error?.code, 'ERR_LTRP_LIBTORCH_NOT_FOUND');
  const reason = 'it is LibTorch 2.6.0 (cpu), this installation has a core for 2.13-cpu, 2.14-cpu';
  t.is(candidates.find((item) => item.path === old)?.reason, reason);
  t.true(error?.message.includes(reason));
  await t.throwsAsync(findLibtorch({ ...search, explicit: old }), {
    code: 'ERR_LTRP_LIBTORCH_INVALID',
    message:
      /it is LibTorch 2\.6\.0 \(cpu\), this installation has a core for 2\.13-cpu, 2\.14-cpu/,
  });
});

test('cores for several minors lie side by side: the newest pair of LibTorch and core is used', async (t) => {
  const { folder, env } = t.context;
  const binaries = path.join(folder, 'binaries');
  await mkdir(binaries);
  const cores = (): ReturnType<typeof coreFiles> =>
    coreFiles({ LTRP_BINARIES: binaries }).filter((core) => path.dirname(core.path) === binaries);
  for (const version of ['2.12.0', '2.13.0', '2.14.1']) {
    await makeLibtorch(path.join(folder, `home/.cache/ltrp/libtorch/${version}-cpu`), { version });
  }
  const found = async (): Promise<string> => {
    const search = { accept: cores(), env, systemFolders: [], musl: false, gpu: false };
    return (await findLibtorch(search)).version;
  };
  await writeFile(path.join(binaries, 'libltrp_core-2.13-cpu.so'), '');
  t.is(await found(), '2.13.0');
  await writeFile(path.join(binaries, 'libltrp_core-2.14-cpu.so'), '');
  t.is(await found(), '2.14.1');
  await rm(path.join(folder, 'home/.cache/ltrp/libtorch/2.14.1-cpu'), { recursive: true });
  t.is(await found(), '2.13.0');
});

test('a core of another minor beside the right one is not opened', async (t) => {
  const { folder } = t.context;
  const real = await findLibtorch({ accept: coreFiles() });
  const core = coreFiles().find(
    ({ minor, variant }) => minor === real.minor && variant === real.variant,
  );
  const bootstrap = bootstrapFile();
  if (core === undefined || bootstrap === null) throw new Error('The addon is not built.');
  await copyFile(bootstrap, path.join(folder, 'ltrp.node'));
  await copyFile(core.path, path.join(folder, path.basename(core.path)));
  await writeFile(path.join(folder, 'libltrp_core-2.99-cpu.so'), 'no library');
  const result = await program(
    `
    import { PatchRanker } from 'ltrp';
    import { readFileSync } from 'node:fs';
    (await PatchRanker.load('tiny')).dispose();
    const maps = process.platform === 'linux' ? readFileSync('/proc/self/maps', 'utf8') : '';
    console.log(JSON.stringify([...new Set(maps.match(/[^ ]*libltrp_core[^ ]*\\.so/g))]));`,
    { ...process.env, LIBTORCH: real.root, LTRP_BINARIES: folder },
  );
  if (process.platform === 'linux') {
    t.deepEqual(result, [path.join(folder, path.basename(core.path))]);
  } else t.pass();
});
