/** Where python3 keeps torch: its answer is remembered, and asked for again whenever it could be another one. */
import { execFile } from 'node:child_process';
import { chmod, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { askPython3 } from '../lib/libtorch/python-torch.js';
import { temporaryFolder } from './support/paths.js';

const run = promisify(execFile);

async function foldersOf(env: Parameters<typeof askPython3>[0]): Promise<string[]> {
  const { torch } = await askPython3(env);
  return torch === null ? [] : [torch];
}

async function makePackage(folder: string): Promise<string> {
  const torch = path.join(folder, 'torch');
  await mkdir(torch, { recursive: true });
  await writeFile(path.join(torch, '__init__.py'), '');
  return torch;
}

test("python3's answer is remembered until something changes that it rests on", async (t) => {
  const folder = await temporaryFolder(t);
  const python = await run('python3', ['-c', 'import sys; print(sys.executable)']).catch(
    () => null,
  );
  if (python === null || process.platform !== 'linux') {
    t.log('skipped: needs Linux and python3');
    t.pass();
    return;
  }
  const executable = python.stdout.trim();
  const bin = path.join(folder, 'bin');
  await mkdir(bin);
  const env = { HOME: path.join(folder, 'home'), PATH: bin };
  const packages = path.join(folder, 'packages');
  const more = path.join(folder, 'more');
  const starts = path.join(folder, 'starts');
  await mkdir(packages);
  await mkdir(more);
  // Every start of Python leaves a line.
  await writeFile(
    path.join(packages, 'sitecustomize.py'),
    `open(${JSON.stringify(starts)}, 'a').write('x')\n`,
  );
  const link = path.join(bin, 'python3');
  await symlink(executable, link);
  const vars: Record<string, string> = { PYTHONPATH: packages };
  let expected = 0;
  const check = async (what: string, folders: string[], asked: boolean): Promise<void> => {
    for (const again of [false, true]) {
      const found = await foldersOf({ ...env, ...vars });
      if (asked && !again) expected += 1;
      t.deepEqual(found, folders, what);
      t.is((await readFile(starts, 'utf8')).length, expected, `${what}: starts of Python`);
    }
  };
  await check('no torch', [], true);
  const torch = await makePackage(packages);
  await check('installed', [torch], true);
  await rm(torch, { recursive: true });
  await check('removed', [], true);

  // A folder that did not exist: the user's own packages.
  const { stdout } = await run(
    executable,
    ['-c', 'import site; print(site.getusersitepackages())'],
    {
      env,
    },
  );
  const user = await makePackage(stdout.trim());
  await check("in the user's folder", [user], true);
  await rm(user, { recursive: true });
  await check('and gone', [], true);

  // What cannot be looked into comes first on the PATH: a file, and a link to itself.
  const loop = path.join(folder, 'loop');
  await symlink(loop, loop);
  const odd = `:${executable}:${loop}:/root:${bin}`;
  t.deepEqual(await foldersOf({ ...env, ...vars, PATH: odd }), []);
  t.is((await readFile(starts, 'utf8')).length, expected);

  // A .pth file leads elsewhere; its content changes, its folder does not.
  const pth = path.join(stdout.trim(), 'elsewhere.pth');
  await writeFile(pth, `${path.join(folder, 'nowhere')}\n`);
  await check('a .pth file to nowhere', [], true);
  const elsewhere = await makePackage(more);
  await check('a folder that Python does not look at', [], false);
  await writeFile(pth, `${more}\n`);
  await check('the .pth file leads there', [elsewhere], true);

  await writeFile(
    path.join(packages, 'sitecustomize.py'),
    `open(${JSON.stringify(starts)}, 'a').write('x')\nimport sys\nsys.path.remove(${JSON.stringify(more)})\n`,
  );
  await check('sitecustomize hides it', [], true);
  vars['PYTHONNOUSERSITE'] = '1';
  await writeFile(
    path.join(packages, 'sitecustomize.py'),
    `open(${JSON.stringify(starts)}, 'a').write('x')\n`,
  );
  await check('another variable', [], true);
  delete vars['PYTHONNOUSERSITE'];
  await check('and back', [elsewhere], true);

  // What is stored is damaged, or cannot be stored: only slower.
  const stored = path.join(folder, 'home/.cache/ltrp/python3.json');
  await writeFile(stored, '{"identity":');
  await check('a damaged file', [elsewhere], true);
  await rm(path.dirname(stored), { recursive: true });
  await writeFile(path.dirname(stored), 'a file where the folder should be');
  for (let i = 0; i < 2; i += 1) {
    t.deepEqual(await foldersOf({ ...env, ...vars }), [elsewhere]);
    expected += 1;
  }
  t.is((await readFile(starts, 'utf8')).length, expected);
  await rm(path.dirname(stored));

  // pyenv's stand-in chooses by files.
  const root = path.join(folder, 'pyenv');
  await mkdir(path.join(root, 'shims'), { recursive: true });
  const shim = `#!/bin/sh\nexec ${executable} "$@"\n`;
  await writeFile(path.join(root, 'shims', 'python3'), shim, { mode: 0o755 });
  Object.assign(vars, { PYENV_ROOT: root, PATH: path.join(root, 'shims'), PYENV_DIR: folder });
  await check('pyenv', [elsewhere], true);
  await writeFile(path.join(folder, '.python-version'), '3.14.0\n');
  await check('another version in this folder', [elsewhere], true);
  vars['PYENV_DIR'] = bin;
  await check('another working folder', [elsewhere], true);
  await writeFile(path.join(root, 'version'), 'system\n');
  await check('another version for the user', [elsewhere], true);
  for (const name of ['PYENV_ROOT', 'PATH', 'PYENV_DIR']) Reflect.deleteProperty(vars, name);

  // Any other script may choose another interpreter in every folder.
  await rm(link);
  await writeFile(link, shim, { mode: 0o755 });
  for (let i = 0; i < 2; i += 1) {
    t.deepEqual(await foldersOf({ ...env, ...vars }), [elsewhere]);
    expected += 1;
  }
  t.is((await readFile(starts, 'utf8')).length, expected);
});

test('a python3 that gives no answer: what it did instead is said, within a time', async (t) => {
  const folder = await temporaryFolder(t);
  const python3 = path.join(folder, 'python3');
  const env = { HOME: folder, PATH: folder };
  const path3 = `${python3} `;
  const cases: [script: string, reason: string][] = [
    ['echo hello', 'did not answer where torch is, but text that begins "hello"'],
    ['', 'did not answer where torch is, but nothing (0 bytes)'],
    ["echo '[1, 2]'", 'did not answer where torch is, but JSON that begins "[1, 2]"'],
    ['echo no >&2; exit 3', 'ended with 3 and said "no"'],
    ['kill -9 $$', 'ended with SIGKILL'],
    ['echo warning; echo \'{"torch": "", "watched": []}\'', 'has no torch installed'],
    [
      `printf '%0.sx' $(seq 1 999)`,
      `did not answer where torch is, but text that begins "${'x'.repeat(199)}…"`,
    ],
    // It does not end when it is asked to, and its child keeps its output open.
    [`trap '' TERM; ${'/bin/sleep 60 & wait; '.repeat(2)}`, 'gave no answer within 10 s'],
  ];
  for (const [script, reason] of cases) {
    await writeFile(python3, `#!/bin/sh\nPATH=/usr/bin:/bin\n${script}\n`, { mode: 0o755 });
    const start = performance.now();
    t.deepEqual(await askPython3(env), { torch: null, reason: path3 + reason });
    t.true(performance.now() - start < 25_000);
  }
  const absent = { torch: null, reason: 'python3 is not on the PATH' };
  await chmod(python3, 0o644);
  t.deepEqual(await askPython3(env), absent);
  await rm(python3);
  await mkdir(python3);
  t.deepEqual(await askPython3(env), absent);
  await rm(python3, { recursive: true });
  for (const PATH of ['', ':', `${folder}/none`, '\u0001']) {
    t.deepEqual(await askPython3({ ...env, PATH }), absent);
  }
  await writeFile(python3, '#!/no/such/interpreter\n', { mode: 0o755 });
  t.is((await askPython3(env)).reason, `${python3} ended with ENOENT`);
  await writeFile(python3, 'neither a script nor a program', { mode: 0o755 });
  t.regex((await askPython3(env)).reason, /python3 (ended with|did not answer)/);
});
