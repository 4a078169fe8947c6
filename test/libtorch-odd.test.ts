/** Values that nobody means: of the variables, of the option and of the command's arguments. Each is named, with what is wrong. */
import { chmod, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { libraryName } from '../lib/libtorch/inspect.js';
import { decideLibtorch, findLibtorch } from '../lib/libtorch/find.js';
import { isOn } from '../lib/libtorch/folders.js';
import { PatchRanker } from '../lib/index.js';
import { ltrp, test } from './support/bare-user.js';
import { built } from './support/command.js';
import { makeLibtorch } from './support/made-libtorch.js';

const accept = [{ minor: '2.13', variant: 'cpu' }];

test('variables that name a LibTorch: what is wrong with the place is said', async (t) => {
  const { folder, env } = t.context;
  const file = path.join(folder, 'file');
  await writeFile(file, '');
  const loop = path.join(folder, 'loop');
  await symlink(loop, loop);
  const dangling = await makeLibtorch(path.join(folder, 'dangling'));
  const library = path.join(dangling, 'lib', libraryName('torch'));
  await rm(library);
  await symlink('nowhere', library);
  const blocked = await makeLibtorch(path.join(folder, 'blocked'));
  await rm(path.join(blocked, 'lib', libraryName('c10')));
  await mkdir(path.join(blocked, 'lib', libraryName('c10')));
  const cases: [value: string, reason: RegExp][] = [
    [' ', / : the folder does not exist/],
    ['~/libtorch', /~\/libtorch: the folder does not exist/],
    [file, /file: it is a file, not a folder/],
    [path.join(file, 'lib'), /it cannot be read \(ENOTDIR\)/],
    [loop, /it cannot be read \(ELOOP\)/],
    ['x'.repeat(300), /it cannot be read \(ENAMETOOLONG\)/],
    ['/a\0b', /no file can have this name/],
    [dangling, /libtorch\.\w+ is missing/],
    [blocked, /libc10\.\w+ cannot be read \(EISDIR\)/],
  ];
  for (const variable of ['LIBTORCH', 'LIBTORCH_LIB']) {
    for (const [value, message] of cases) {
      const search = { accept, env: { ...env, [variable]: value }, systemFolders: [], musl: false };
      const error = await t.throwsAsync(findLibtorch(search), {
        code: 'ERR_LTRP_LIBTORCH_INVALID',
        message,
      });
      t.true(error.message.startsWith(`${variable} does not lead to a usable LibTorch: `));
    }
  }
  for (const variable of ['LIBTORCH', 'LIBTORCH_LIB', 'VIRTUAL_ENV', 'CONDA_PREFIX', 'PATH']) {
    const search = { accept, env: { ...env, [variable]: '' }, systemFolders: [], musl: false };
    t.is((await decideLibtorch(search)).error?.code, 'ERR_LTRP_LIBTORCH_NOT_FOUND', variable);
  }
  for (const value of ['', ' ', '0', 'false', 'NO', 'off']) t.false(isOn(value), value);
  for (const value of ['1', 'true', 'yes', 'ON', '2']) t.true(isOn(value), value);
  const search = { accept, env: { ...env, LIBTORCH_USE_PYTORCH: '1', VIRTUAL_ENV: folder } };
  const { error } = await decideLibtorch({ ...search, systemFolders: [], musl: false });
  t.true(
    error?.message.includes(
      `no Python with torch was found (VIRTUAL_ENV: ${folder} has no torch installed; CONDA_PREFIX: not set; python3: python3 is not on the PATH)`,
    ),
    error?.message,
  );
});

test('a folder that may not be looked into is not one that does not exist', async (t) => {
  const { folder, env } = t.context;
  if (process.getuid?.() === 0) await chmod(folder, 0o755);
  await makeLibtorch(path.join(folder, 'closed', 'libtorch'));
  await chmod(path.join(folder, 'closed'), 0o000);
  for (const LIBTORCH of [path.join(folder, 'closed'), path.join(folder, 'closed', 'libtorch')]) {
    const other = process.getuid?.() === 0 ? 65_534 : undefined;
    const { code, stderr } = await ltrp(['libtorch', 'where'], { ...env, LIBTORCH }, other);
    t.is(code, 1);
    t.true(stderr.includes(`${LIBTORCH}: it cannot be read (EACCES)`), stderr);
  }
  await chmod(path.join(folder, 'closed'), 0o755);
});

test('the option: everything that is no path is refused by name', async (t) => {
  const revoked = Proxy.revocable({}, {});
  revoked.revoke();
  for (const libtorch of [0, 5n, null, true, '', [], {}, Symbol('x'), revoked.proxy, () => '']) {
    const loading = PatchRanker.load('tiny', { libtorch: libtorch as string });
    await t.throwsAsync(loading, {
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message: /^libtorch must be the path of a folder; got .+\.$/,
    });
  }
});

test('LTRP_BINARIES that leads nowhere is an error, not passed over; arguments of the command', async (t) => {
  const { folder, env } = t.context;
  for (const [value, words] of [
    [path.join(folder, 'none'), 'cannot be read (ENOENT)'],
    [path.join(folder, 'empty'), 'has no binaries of ltrp'],
    [' ', 'cannot be read (ENOENT)'],
  ] as const) {
    const { code, stderr } = await ltrp(['rank', built], { ...env, LTRP_BINARIES: value });
    t.is(code, 1);
    t.true(stderr.includes(`LTRP_BINARIES names ${path.resolve(value)}, which ${words}.`), stderr);
  }
  for (const [args, words] of [
    [['use', ''], /use takes a folder or 'auto'; got ''/],
    [['use', built], /main\.js is not a usable LibTorch: it is a file, not a folder/],
    [['install', '--from', folder], /is a folder; --from takes a wheel or archive/],
    [['install', '--from', ''], /is a folder; --from takes a wheel or archive/],
    [['install', '--from', path.join(built, 'x')], /main\.js\/x cannot be read \(ENOTDIR\)/],
    [['install', '--from', path.join(folder, 'none')], /none does not exist/],
    [['install', '--from', built], /cannot be unpacked: .* It is text that begins "#!/],
  ] as const) {
    const { code, stderr } = await ltrp(['libtorch', ...args], env);
    t.not(code, 0);
    t.regex(stderr, words);
    t.notRegex(stderr, /run the same command again|INTERNAL/);
  }
});
