/** Which LibTorch is used: the search order on made-up folders, the refusals, the fetch, and `ltrp doctor`. */
import { execFile } from 'node:child_process';
import { createServer } from 'node:http';
import { chmod, mkdir, readFile, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { download } from '../lib/download/download.js';
import { inspectLibtorch, libraryName } from '../lib/libtorch/inspect.js';
import { installLibtorch } from '../lib/libtorch/install.js';
import { decideLibtorch, findLibtorch, type LibtorchSearch } from '../lib/libtorch/find.js';
import { coreFiles } from '../lib/native/paths.js';
import { ltrp, test, withPython } from './support/bare-user.js';
import { listen } from './support/listen.js';
import { makeArchive, makeLibtorch, release, serve } from './support/made-libtorch.js';

const run = promisify(execFile);
const accept = [{ minor: '2.13', variant: 'cpu' }];

function search(
  context: { env: Record<string, string | undefined> },
  more: Partial<LibtorchSearch> & { vars?: Record<string, string> } = {},
): LibtorchSearch {
  const { vars, ...rest } = more;
  return { accept, env: { ...context.env, ...vars }, systemFolders: [], musl: false, ...rest };
}

test('the search order: each place wins over the ones behind it', async (t) => {
  const { folder, env } = t.context;
  const make = (name: string): Promise<string> => makeLibtorch(path.join(folder, name));
  const cache = await make('home/.cache/ltrp/libtorch/2.13.0-cpu');
  const system = await make('system');
  const conda = await make('conda/lib/python3.11/site-packages/torch');
  const venv = await make('venv/lib/python3.11/site-packages/torch');
  const selected = await make('selected');
  const libtorch = await make('libtorch');
  const libtorchLib = await make('libtorch-lib');
  const option = await make('option');

  const steps: [source: string, found: string, extra: Parameters<typeof search>[1]][] = [];
  const vars: Record<string, string> = {};
  steps.push(['cache', cache, {}]);
  const systemFolders = [system];
  steps.push(['system', system, { systemFolders }]);
  vars['CONDA_PREFIX'] = path.join(folder, 'conda');
  steps.push(['CONDA_PREFIX', conda, { systemFolders, vars: { ...vars } }]);
  vars['VIRTUAL_ENV'] = path.join(folder, 'venv');
  steps.push(['VIRTUAL_ENV', venv, { systemFolders, vars: { ...vars } }]);
  for (const [source, found, extra] of steps) {
    const chosen = await findLibtorch(search({ env }, extra));
    t.deepEqual([chosen.source, chosen.root], [source, found]);
  }
  await mkdir(path.join(folder, 'home/.config/ltrp'), { recursive: true });
  await writeFile(
    path.join(folder, 'home/.config/ltrp/libtorch.json'),
    JSON.stringify({ path: selected }),
  );
  t.is((await findLibtorch(search({ env }, { vars }))).root, selected);
  vars['LIBTORCH'] = libtorch;
  t.is((await findLibtorch(search({ env }, { vars }))).root, libtorch);
  vars['LIBTORCH_LIB'] = path.join(libtorchLib, 'lib');
  t.is((await findLibtorch(search({ env }, { vars }))).root, libtorchLib);
  const decision = await decideLibtorch(search({ env }, { vars, explicit: option }));
  t.is(decision.chosen?.root, option);
  t.true(decision.candidates.slice(1).every((candidate) => candidate.verdict === 'unused'));
});

withPython('python3 is asked where torch is, and torch is not imported', async (t) => {
  const { folder, env } = t.context;
  const python = await run('python3', ['-c', 'import sys; print(sys.executable)']);
  const torch = await makeLibtorch(path.join(folder, 'packages', 'torch'));
  await writeFile(path.join(torch, '__init__.py'), 'raise SystemExit("torch was imported")\n');
  await symlink(python.stdout.trim(), path.join(folder, 'empty', 'python3'));
  const vars = { PYTHONPATH: path.join(folder, 'packages') };
  t.is((await findLibtorch(search({ env }, { vars }))).root, torch);
  t.is((await findLibtorch(search({ env }, { vars }))).source, 'python3');
});

test('explicit and wrong is an error that says why', async (t) => {
  const { folder, env } = t.context;
  await makeLibtorch(path.join(folder, 'home/.cache/ltrp/libtorch/2.13.0-cpu'));
  const old = await makeLibtorch(path.join(folder, 'old'), { version: '2.6.0' });
  const cuda = await makeLibtorch(path.join(folder, 'cuda'), { variant: 'cu130' });
  const unversioned = await makeLibtorch(path.join(folder, 'unversioned'), { version: null });
  const foreign = await makeLibtorch(path.join(folder, 'foreign'), { machine: 20 });
  const empty = await makeLibtorch(path.join(folder, 'half'));
  await writeFile(path.join(empty, 'lib', libraryName('torch_cpu')), '');
  const incomplete = await makeLibtorch(path.join(folder, 'incomplete'));
  await rm(path.join(incomplete, 'lib', libraryName('c10')));

  const cases: [libtorch: string, reason: RegExp][] = [
    [path.join(folder, 'nowhere'), /does not exist/],
    [path.join(folder, 'empty'), /no libtorch_cpu\.\w+ there or in lib/],
    [old, /LibTorch 2\.6\.0 \(cpu\).*core for 2\.13-cpu/],
    [cuda, /LibTorch 2\.13\.0 \(cu130\).*core for 2\.13-cpu/],
    [unversioned, /version cannot be read/],
    [incomplete, /libc10\.\w+ is missing/],
  ];
  if (process.platform === 'linux') {
    cases.push([empty, /is not a shared library/], [foreign, /another processor/]);
  }
  for (const [libtorch, message] of cases) {
    await t.throwsAsync(findLibtorch(search({ env }, { explicit: libtorch })), {
      code: 'ERR_LTRP_LIBTORCH_INVALID',
      message,
    });
    for (const variable of ['LIBTORCH', 'LIBTORCH_LIB']) {
      const error = await t.throwsAsync(
        findLibtorch(search({ env }, { vars: { [variable]: libtorch } })),
      );
      t.regex(error.message, new RegExp(`^${variable} does not lead to a usable LibTorch`));
    }
  }
  await t.throwsAsync(findLibtorch(search({ env }, { vars: { LIBTORCH_USE_PYTORCH: '1' } })), {
    code: 'ERR_LTRP_LIBTORCH_INVALID',
    message: /no Python with torch/,
  });
});

test('implicit and wrong is skipped, with its reason; nothing at all names every place and the remedy', async (t) => {
  const { folder, env } = t.context;
  const old = await makeLibtorch(path.join(folder, 'venv/lib/python3.9/site-packages/torch'), {
    version: '2.1.0',
  });
  const vars = { VIRTUAL_ENV: path.join(folder, 'venv') };
  const error = await t.throwsAsync(findLibtorch(search({ env }, { vars })), {
    code: 'ERR_LTRP_LIBTORCH_NOT_FOUND',
  });
  t.regex(error.message, /ltrp libtorch install/);
  t.true(error.message.includes(`VIRTUAL_ENV ${old}: it is LibTorch 2.1.0 (cpu)`));
  for (const source of ['LIBTORCH', 'CONDA_PREFIX', 'python3', 'cache']) {
    t.true(error.message.includes(source), source);
  }
  const cache = await makeLibtorch(path.join(folder, 'home/.cache/ltrp/libtorch/2.13.0-cpu'));
  const decision = await decideLibtorch(search({ env }, { vars }));
  t.is(decision.chosen?.root, cache);
  t.is(decision.candidates.find((item) => item.path === old)?.verdict, 'refused');
});

test('musl is refused before anything is looked at', async (t) => {
  const { candidates, error } = await decideLibtorch(search(t.context, { musl: true }));
  t.is(error?.code, 'ERR_LTRP_LIBTORCH_UNSUPPORTED');
  t.regex(error?.message ?? '', /musl/);
  t.deepEqual(candidates, []);
});

test('building needs headers, running does not', async (t) => {
  const { folder, env } = t.context;
  const bare = await makeLibtorch(path.join(folder, 'bare'), { headers: false });
  t.is((await findLibtorch(search({ env }, { explicit: bare }))).includeFolder, null);
  await t.throwsAsync(findLibtorch(search({ env }, { explicit: bare, needHeaders: true })), {
    message: /headers/,
  });
});

test('a damaged file of `ltrp libtorch use` is named', async (t) => {
  const { folder, env } = t.context;
  await mkdir(path.join(folder, 'home/.config/ltrp'), { recursive: true });
  await writeFile(path.join(folder, 'home/.config/ltrp/libtorch.json'), '{"path":');
  await t.throwsAsync(findLibtorch(search({ env })), {
    code: 'ERR_LTRP_LIBTORCH_INVALID',
    message: /^ltrp libtorch use .*libtorch\.json/,
  });
});

test('a broken download continues where it stopped', async (t) => {
  const content = Buffer.alloc(5_000_000, 'leave one out ');
  const { url, ranges } = await serve(t, content, 2);
  const file = path.join(t.context.folder, 'f.zip');
  await download(url, file);
  t.true((await readFile(file)).equals(content));
  t.is(ranges[0], '');
  t.regex(ranges[1] ?? '', /^bytes=[1-9]\d*-$/);
  t.is(ranges.length, 3);
  t.deepEqual(
    (await readdir(t.context.folder)).filter((name) => name.includes('.part')),
    [],
  );
});

test('a download that never works is one clear error', async (t) => {
  const server = createServer((_request, response) => response.writeHead(404).end());
  const url = `${await listen(t, server)}/none.zip`;
  await t.throwsAsync(download(url, path.join(t.context.folder, 'none.zip')), {
    code: 'ERR_LTRP_DOWNLOAD',
    message: /404/,
  });
});

test('install: from the archive when pip is not there, once for two at the same time', async (t) => {
  const { folder, env } = t.context;
  const archive = await makeArchive(folder, 'libtorch.zip', '2.13.0');
  const { url, ranges } = await serve(t, await readFile(archive), 1);
  const options = { env, unverified: true, release: { ...release, archiveUrl: url } };
  const results = await Promise.all([installLibtorch(options), installLibtorch(options)]);
  t.deepEqual(results.map((result) => result.installed).sort(), [false, true]);
  t.is(ranges.length, 2);
  const target = path.join(folder, 'home/.cache/ltrp/libtorch/2.13.0-cpu');
  t.is(results[0].path, target);
  t.true(inspectLibtorch(target).ok);
  t.deepEqual(await readdir(path.dirname(target)), ['2.13.0-cpu']);
  t.is((await findLibtorch(search({ env }))).source, 'cache');
});

test('install: wrong checksum, wrong version and a truncated archive are refused and leave nothing', async (t) => {
  const { folder, env } = t.context;
  const archive = await makeArchive(folder, 'libtorch.zip', '2.12.0');
  const pinned = { ...release, wheelSha256: { 'libtorch.zip': '0'.repeat(64) } };
  const copy = path.join(folder, 'truncated.zip');
  const bytes = await readFile(archive);
  await writeFile(copy, bytes.subarray(0, bytes.length - 100));
  await t.throwsAsync(installLibtorch({ env, release, from: archive }), {
    code: 'ERR_LTRP_LIBTORCH_ARCHIVE',
    message: /it is version 2\.12\.0/,
  });
  await t.throwsAsync(installLibtorch({ env, release, from: copy }), {
    code: 'ERR_LTRP_LIBTORCH_ARCHIVE',
    message: /cannot be unpacked/,
  });
  await t.throwsAsync(installLibtorch({ env, release: pinned, from: archive }), {
    code: 'ERR_LTRP_LIBTORCH_CHECKSUM',
  });
  t.deepEqual(await readdir(path.join(folder, 'home/.cache/ltrp/libtorch')), []);
  t.true(existsSync(archive), "the user's own file stays");
});

test('ltrp doctor reports the decision, the core and the processor', async (t) => {
  const { code, stdout } = await ltrp(['doctor', '--json'], process.env);
  const report = JSON.parse(stdout) as {
    ok: boolean;
    libtorch: { minor: string; libFolder: string };
    core: string;
    candidates: { verdict: string }[];
    info: { torchVersion: string; torchRuntimeVersion: string; threads: number; devices: string[] };
  };
  t.is(code, 0, stdout);
  t.true(report.ok);
  t.is(report.candidates.filter((candidate) => candidate.verdict === 'chosen').length, 1);
  t.true(report.core.includes(`libltrp_core-${report.libtorch.minor}-`));
  t.true(report.info.torchRuntimeVersion.startsWith(report.libtorch.minor));
  t.true(report.info.threads >= 1);
  t.true(report.info.devices.includes('cpu'));
  const text = await ltrp(['doctor'], process.env);
  t.is(text.code, 0);
  t.regex(text.stdout, /Search for LibTorch, in this order:/);
  t.regex(text.stdout, /All is well\./);
});

test('ltrp doctor without a LibTorch: exit status 1, every place, the remedy', async (t) => {
  const { env, folder } = t.context;
  const { code, stdout } = await ltrp(['doctor'], env);
  t.is(code, 1);
  t.regex(stdout, /ERR_LTRP_LIBTORCH_NOT_FOUND/);
  t.regex(stdout, /ltrp libtorch install/);
  const wrong = path.join(folder, 'wrong');
  const explicit = await ltrp(['doctor', '--json'], { ...env, LIBTORCH: wrong });
  t.is(explicit.code, 1);
  const report = JSON.parse(explicit.stdout) as { error: { code: string; message: string } };
  t.is(report.error.code, 'ERR_LTRP_LIBTORCH_INVALID');
  t.true(report.error.message.includes(wrong));
});

test('a LibTorch whose libraries do not open is refused with the words of the dynamic loader', async (t) => {
  const { env, folder } = t.context;
  const core = coreFiles()[0];
  t.truthy(core);
  const fake = await makeLibtorch(path.join(folder, 'fake'), {
    version: `${core?.minor ?? ''}.0`,
    variant: core?.variant ?? '',
  });
  await chmod(path.join(fake, 'lib'), 0o755);
  const { code, stdout } = await ltrp(['doctor', '--json'], { ...env, LIBTORCH: fake });
  t.is(code, 1);
  t.is((JSON.parse(stdout) as { error: { code: string } }).error.code, 'ERR_LTRP_CORE_LOAD');
});

test('ltrp libtorch use, where and back', async (t) => {
  const { env, folder } = t.context;
  const core = coreFiles()[0];
  const chosen = await makeLibtorch(path.join(folder, 'mine'), {
    version: `${core?.minor ?? ''}.0`,
    variant: core?.variant ?? '',
  });
  const refused = await ltrp(['libtorch', 'use', path.join(folder, 'empty')], env);
  t.is(refused.code, 1);
  t.regex(refused.stderr, /not a usable LibTorch/);
  t.is((await ltrp(['libtorch', 'use', chosen], env)).code, 0);
  const where = await ltrp(['libtorch', 'where'], env);
  t.is(where.stdout.trim(), chosen);
  t.regex(where.stderr, /-> ltrp libtorch use/);
  t.is((await ltrp(['libtorch', 'use', 'auto'], env)).code, 0);
  t.is((await ltrp(['libtorch', 'where'], env)).code, 1);
});

test('one process, one LibTorch: another one asked for later, or opened before by somebody else, is refused', async (t) => {
  const { folder } = t.context;
  const script = path.join(folder, 'two.mjs');
  const url = (name: string): string =>
    JSON.stringify(new URL(`../dist/${name}.js`, import.meta.url).href);
  await writeFile(
    script,
    `
    import { copyFileSync } from 'node:fs';
    import { loadBootstrap, loadCore, loadedCore } from ${url('native/loader')};
    import { findLibtorch } from ${url('libtorch/find')};
    import { libraryName } from ${url('libtorch/inspect')};
    import { coreFiles } from ${url('native/paths')};
    const codes = [];
    const attempt = async (work) => {
      try { await work(); codes.push('loaded'); } catch (error) { codes.push(error.code); }
    };
    if (process.argv[2] === 'before') {
      const { libFolder } = await findLibtorch({ accept: coreFiles() });
      const copy = ${JSON.stringify(path.join(folder, libraryName('c10')))};
      copyFileSync(libFolder + '/' + libraryName('c10'), copy);
      await loadBootstrap().preload([copy]);
      await attempt(() => loadCore());
    } else if (process.argv[2] === 'together') {
      let turns = 0;
      const ticking = setInterval(() => (turns += 1), 1);
      const places = ['/nowhere', undefined, undefined, '/nowhere'];
      const loads = places.map((libtorch) => loadCore({ libtorch }));
      const settled = await Promise.allSettled(loads);
      clearInterval(ticking);
      codes.push(...settled.map(({ reason }) => reason?.code ?? 'loaded'));
      codes.push(settled[1].value === settled[2].value ? 'same' : 'two cores', turns >= 10 ? 'free' : 'blocked: ' + turns);
    } else {
      await attempt(() => loadCore({ libtorch: '/nowhere' }));
      await attempt(() => loadCore());
      await attempt(() => loadCore({ libtorch: loadedCore().libtorch.root }));
      await attempt(() => loadCore({ libtorch: '/nowhere' }));
    }
    console.log(codes.join());
    `,
  );
  const before = await run(process.execPath, [script, 'before']);
  t.is(before.stdout.trim(), 'ERR_LTRP_LIBTORCH_CONFLICT');
  // Opening LibTorch takes more than 100 ms; timers of 1 ms go on meanwhile.
  const together = await run(process.execPath, [script, 'together']);
  t.is(
    together.stdout.trim(),
    'ERR_LTRP_LIBTORCH_INVALID,loaded,loaded,ERR_LTRP_LIBTORCH_INVALID,same,free',
  );
  const after = await run(process.execPath, [script, 'after']);
  t.is(after.stdout.trim(), 'ERR_LTRP_LIBTORCH_INVALID,loaded,loaded,ERR_LTRP_LIBTORCH_CONFLICT');
});
