/** A system whose libstdc++ is older than the binaries: the error says so, and what is needed. */
import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import test from 'ava';
import { loadFailure } from '../lib/native/load-failure.js';
import { bootstrapFile, coreFiles } from '../lib/native/paths.js';
import { ltrp } from './support/command.js';
import { temporaryFolder } from './support/paths.js';

/** ELF's hash of a symbol version's name (System V ABI, generic part). */
function elfHash(name: string): number {
  let hash = 0;
  for (const character of Buffer.from(name)) {
    hash = ((hash << 4) + character) >>> 0;
    const high = hash & 0xf0000000;
    hash = (hash ^ (high >>> 24)) & ~high;
  }
  return hash >>> 0;
}

function replaceAll(bytes: Buffer, from: Buffer, to: Buffer): number {
  let count = 0;
  for (let at = bytes.indexOf(from); at >= 0; at = bytes.indexOf(from, at + from.length)) {
    to.copy(bytes, at);
    count++;
  }
  return count;
}

const word = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

const onLinux = process.platform === 'linux' ? test : test.skip;

onLinux('a core that needs a libstdc++ of the future is refused by its name', async (t) => {
  const folder = await temporaryFolder(t);
  const core = coreFiles().find(({ variant }) => variant === 'cpu');
  const bootstrap = bootstrapFile();
  if (core === undefined || bootstrap === null) throw new Error('nothing is built');
  // The core asks for the newest version of its kind; here for one that no libstdc++ has.
  const [needed, future] = ['GLIBCXX_3.4.22', 'GLIBCXX_3.4.99'];
  const bytes = await readFile(core.path);
  t.true(replaceAll(bytes, Buffer.from(`${needed}\0`), Buffer.from(`${future}\0`)) > 0);
  t.true(replaceAll(bytes, word(elfHash(needed)), word(elfHash(future))) > 0);
  await writeFile(join(folder, basename(core.path)), bytes);
  await copyFile(bootstrap, join(folder, 'ltrp.node'));

  const { code, stdout } = await ltrp(['doctor', '--json'], { env: { LTRP_BINARIES: folder } });
  t.is(code, 1);
  const report = JSON.parse(stdout) as { error: { code: string; message: string } };
  t.is(report.error.code, 'ERR_LTRP_SYSTEM_TOO_OLD');
  t.regex(report.error.message, /libstdc\+\+\.so\.6 is older than what needs it/);
  t.regex(report.error.message, /need glibc 2\.28 and a libstdc\+\+ with GLIBCXX_3\.4\.25/);
  t.true(report.error.message.includes(future));
});

test('whatever else the dynamic loader says is passed on, with the remedy', (t) => {
  const cause = new Error('libfoo.so.1: cannot open shared object file');
  const error = loadFailure('LibTorch', 'Fetch another one.', cause);
  t.is(error.code, 'ERR_LTRP_CORE_LOAD');
  t.is(error.message, `LibTorch does not load: ${cause.message}. Fetch another one.`);
  t.is(error.cause, cause);
});
