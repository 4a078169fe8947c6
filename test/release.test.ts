/** The judges of `npm run release:check`. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test from 'ava';
import { repository } from './support/paths.js';

interface Contents {
  version: string;
  packed: number;
  files: Record<string, number>;
}

interface Scripts {
  checkLicences: (lock: unknown) => { counts: Map<string, number>; problems: string[] };
  compareContents: (
    last: Contents | null,
    now: Contents,
  ) => { summary: string; differences: string[]; problems: string[] };
  parseListing: (text: string) => Record<string, number>;
  judgeSuite: (
    output: string,
    allowed?: readonly string[],
  ) => { summary: string; problems: string[] };
  judgeAudit: (text: string) => { summary: string; problems: string[] };
}

const script = (name: string): Promise<Scripts> =>
  import(
    pathToFileURL(join(repository, 'scripts', 'release', `${name}.mjs`)).href
  ) as Promise<Scripts>;

test('what users get has licences that allow it, on every platform', async (t) => {
  const { checkLicences } = await script('licences');
  const lock: unknown = JSON.parse(await readFile(join(repository, 'package-lock.json'), 'utf8'));
  const { counts, problems } = checkLicences(lock);
  t.deepEqual(problems, []);
  t.true((counts.get('MIT') ?? 0) > 5);
});

test('other licences are refused, and of alternatives one will do', async (t) => {
  const { checkLicences } = await script('licences');
  const problems = (name: string, license?: string): string[] =>
    checkLicences({
      packages: { '': {}, [`node_modules/${name}`]: { version: '1.0.0', license } },
    }).problems;
  t.deepEqual(problems('a', 'GPL-3.0-only'), ['a 1.0.0: GPL-3.0-only']);
  t.deepEqual(problems('a'), ['a 1.0.0: none']);
  t.deepEqual(problems('a', '(MIT OR GPL-2.0-only)'), []);
  t.deepEqual(problems('a', 'MIT AND GPL-2.0-only').length, 1);
  t.deepEqual(problems('a', 'LGPL-3.0-or-later').length, 1);
  t.deepEqual(problems('@img/sharp-libvips-linux-x64', 'LGPL-3.0-or-later'), []);
  t.deepEqual(problems('x/node_modules/@a/b', 'GPL-3.0-only'), ['@a/b 1.0.0: GPL-3.0-only']);
  const dev = { 'node_modules/a': { version: '1.0.0', license: 'GPL-3.0-only', dev: true } };
  t.deepEqual(checkLicences({ packages: dev }).problems, []);
});

test('a package is compared with the last release', async (t) => {
  const { compareContents, parseListing } = await script('contents');
  const files = parseListing(
    '-rw-r--r-- 0/0  120 1985-10-26 08:15 package/dist/a file.js\n' +
      'drwxr-xr-x 0/0    0 1985-10-26 08:15 package/dist/\n' +
      '-rwxr-xr-x 0/0 4000 1985-10-26 08:15 package/prebuilds/x.node\n',
  );
  t.deepEqual(files, { 'dist/a file.js': 120, 'prebuilds/x.node': 4000 });
  const now = { version: '0.2.0', packed: 1_000_000, files };
  t.like(compareContents(null, now), { problems: [] });
  t.regex(compareContents(null, now).summary, /first release: 2 files, 1\.0 MB/);
  const last = { version: '0.1.0', packed: 900_000, files: { 'dist/a file.js': 100, gone: 1 } };
  const { differences, problems, summary } = compareContents(last, now);
  t.deepEqual(differences, [
    '  dist/a file.js: 100 -> 120 bytes',
    '- gone',
    '+ prebuilds/x.node (4000 bytes)',
  ]);
  t.deepEqual(problems, []);
  t.regex(summary, /against 0\.1\.0: 1 added, 1 removed, 1 of another size/);
  t.is(compareContents({ ...last, packed: 700_000 }, now).problems.length, 1);
  t.is(compareContents({ ...last, version: '0.2.0' }, now).problems.length, 1);
  t.deepEqual(compareContents(now, now).problems, []);
});

test('an audit that was not answered is no good audit', async (t) => {
  const { judgeAudit } = await script('audit');
  t.throws(() => judgeAudit(''), { message: /nothing/ });
  t.throws(() => judgeAudit('{"message":"405 Method Not Allowed"}'), { message: /405/ });
  const report = (high: number): string =>
    JSON.stringify({
      vulnerabilities: high > 0 ? { yauzl: { name: 'yauzl', severity: 'high' } } : {},
      metadata: {
        vulnerabilities: { info: 0, low: 2, moderate: 1, high, critical: 0, total: 3 + high },
      },
    });
  t.deepEqual(judgeAudit(report(0)).problems, []);
  t.deepEqual(judgeAudit(report(1)).problems, ['yauzl (high)']);
});

test('a suite that skipped what has to be tried is not passed', async (t) => {
  const { judgeSuite } = await script('suites');
  const skips =
    '  - [skip] Node 22: could not be fetched\n  - [skip] nodes › without LibTorch: x\n';
  const output = `  ✔ a\n${skips}\n12 passed, 0 failed, 2 skipped\n`;
  t.deepEqual(judgeSuite(output, ['without LibTorch']), {
    summary: '12 passed, 0 failed, 2 skipped',
    problems: ['skipped: Node 22: could not be fetched'],
  });
  t.deepEqual(judgeSuite('12 passed, 0 failed, 2 skipped', []).problems, [
    'skipped: 2 without a name',
  ]);
  t.deepEqual(judgeSuite('12 passed, 0 failed, 2 skipped').problems, []);
  t.deepEqual(judgeSuite('3 tests passed', []).problems, ['it ended without counting']);
  t.deepEqual(judgeSuite('3 passed, 0 failed\n', []).problems, []);
});
