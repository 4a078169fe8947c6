/** What messages about LibTorch tell a user to do is done here, word by word, and mends what they complain of. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type ExecutionContext } from 'ava';
import { releaseFor } from '../lib/libtorch/releases.js';
import { packageRoot } from '../lib/native/paths.js';
import { ltrp, test } from './support/bare-user.js';
import { makeArchive, makeLibtorch } from './support/made-libtorch.js';

test.beforeEach((t) => {
  // Indexes are out of reach.
  const closed = 'http://127.0.0.1:1';
  Object.assign(t.context.env, {
    PIP_INDEX_URL: `${closed}/simple`,
    https_proxy: closed,
    PIP_NO_INDEX: '0',
  });
});

/** A remedy of a message: `npx ltrp …` in backquotes, as arguments. */
function remedy(t: ExecutionContext, message: string, beginning: string): string[] {
  const found = [...message.matchAll(/`npx ltrp ([^`]+)`/g)].map((match) => match[1] ?? '');
  const words = found.find((text) => text.startsWith(beginning));
  t.truthy(words, `no \`npx ltrp ${beginning}…\` in: ${message}`);
  return (words ?? '').split(' ');
}

const version = releaseFor(process.platform, process.arch)?.version ?? '';

test('no LibTorch: the command that fetches one, with a file; LIBTORCH; another cache folder', async (t) => {
  const { folder, env } = t.context;
  const archive = await makeArchive(folder, 'a.zip', version);
  const nothing = await ltrp(['libtorch', 'where'], env);
  t.is(nothing.code, 1);
  const install = remedy(t, nothing.stderr, 'libtorch install');
  // Here the network does not work, and the message of that names the way around.
  const failed = await ltrp(install, env);
  t.is(failed.code, 1);
  t.regex(failed.stderr, /127\.0\.0\.1:1.*; pip: python3 is not on the PATH/);
  const fromFile = remedy(t, failed.stderr, 'libtorch install --from');
  const given = fromFile.map((word) => (word === 'FILE' ? archive : word));
  t.is((await ltrp(given, env)).code, 0);
  const where = await ltrp(['libtorch', 'where'], env);
  t.is(where.stdout.trim(), path.join(folder, `home/.cache/ltrp/libtorch/${version}-cpu`));

  t.regex(nothing.stderr, /LIBTORCH=<folder> names one/);
  const mine = await makeLibtorch(path.join(folder, 'mine'), { version });
  const named = await ltrp(['libtorch', 'where'], { ...env, LIBTORCH: mine });
  t.is(named.stdout.trim(), mine);

  // There already: the message says what takes the file all the same.
  const again = await ltrp(given, env);
  t.regex(again.stderr, /is not used: .* --force replaces it/);
  t.regex((await ltrp([...given, '--force'], env)).stdout, /is installed in/);
  // The archive without a known SHA-256, which is then tried.
  const refused = await ltrp(['libtorch', 'install', '--from', 'archive', '--force'], env);
  const unverified = remedy(t, refused.stderr, 'libtorch install --unverified');
  const tried = await ltrp([...unverified, '--from', 'archive', '--force'], env);
  t.regex(tried.stderr, /ECONNREFUSED|bad port/);
  t.regex((await ltrp(['libtorch', 'remove'], env)).stdout, /^Removed /);

  // A folder that cannot be made.
  await rm(path.join(folder, 'home'), { recursive: true });
  await writeFile(path.join(folder, 'home'), '');
  const blocked = await ltrp(given, env);
  t.regex(blocked.stderr, /\(E\w+\)\. Make it writable, or set XDG_CACHE_HOME to another folder/);
  const elsewhere = path.join(folder, 'elsewhere');
  t.is((await ltrp(given, { ...env, XDG_CACHE_HOME: elsewhere })).code, 0);
  t.true(existsSync(path.join(elsewhere, `ltrp/libtorch/${version}-cpu`)));
});

test('a choice that leads nowhere: use auto; a folder given as a file: use', async (t) => {
  const { folder, env } = t.context;
  const mine = await makeLibtorch(path.join(folder, 'mine'), { version });
  const asFile = await ltrp(['libtorch', 'install', '--from', mine], env);
  const use = remedy(t, asFile.stderr, 'libtorch use');
  const chosen = await ltrp(
    use.map((word) => (word === 'FOLDER' ? mine : word)),
    env,
  );
  t.is(chosen.code, 0, chosen.stderr);
  t.is((await ltrp(['libtorch', 'where'], env)).stdout.trim(), mine);
  await rm(mine, { recursive: true });
  const gone = await ltrp(['libtorch', 'where'], env);
  t.regex(gone.stderr, /the folder does not exist/);
  t.is((await ltrp(remedy(t, gone.stderr, 'libtorch use auto'), env)).code, 0);
  t.regex((await ltrp(['libtorch', 'where'], env)).stderr, /No usable LibTorch was found/);
});

test('every command that a message of ours names exists, with its options', async (t) => {
  const { env } = t.context;
  const files = ['lib/native', 'lib/libtorch', 'lib/cli'].flatMap((folder) =>
    readdirSync(path.join(packageRoot(), folder))
      .filter((name) => name.endsWith('.ts'))
      .map((name) => path.join(packageRoot(), folder, name)),
  );
  const named = new Set<string>();
  for (const file of files) {
    for (const [, words] of readFileSync(file, 'utf8').matchAll(
      /`(?:npx )?ltrp ([a-z][^`\n\\$]*)\\?`/g,
    )) {
      if (words !== undefined) named.add(words);
    }
  }
  t.true(named.size > 5);
  const helps = new Map<string, string>();
  for (const words of named) {
    const commands = words.split(' ').filter((word) => /^[a-z]+$/.test(word) && word !== 'auto');
    const key = commands.join(' ');
    if (!helps.has(key)) {
      const { code, stdout } = await ltrp([...commands, '--help'], env);
      t.is(code, 0, words);
      helps.set(key, stdout);
    }
    for (const option of words.match(/--[a-z-]+/g) ?? []) {
      t.true(option === '--help' || helps.get(key)?.includes(` ${option}`), words);
    }
  }
  const page = await readFile(path.join(packageRoot(), 'docs/troubleshooting.md'), 'utf8');
  for (const [, words] of page.matchAll(/`npx ltrp (libtorch [^`]+)`/g)) {
    const option = /--[a-z-]+/.exec(words ?? '')?.[0];
    if (option !== undefined) t.true(helps.get('libtorch install')?.includes(option), words);
  }
});
