/** Node 20 and 22 from their first supported releases on, 24 and the newest: a user's program, CommonJS, the command, part of our own tests, and how processes end. */
import { join } from 'node:path';
import test from 'ava';
import { nodeBinary, nodeReleases, output, packageOf, userFolder } from '../support/hosts.js';
import { makeTeacher } from '../support/lifecycle-models.js';
import { companies, endings, take, withoutWarnings } from '../support/lifecycle.js';
import { repository, sharedFolder } from '../support/paths.js';

const photo = join(repository, 'demo', 'photos', 'tiger.jpg');

/** The others are repeated on one Node (endings.test.ts). */
const everywhere = [
  'natural',
  'workers',
  'terminate-many-workers',
  'terminate-while-opening',
  'fork',
  'cluster',
];

const teacher = await makeTeacher(sharedFolder());

for (const release of nodeReleases) {
  const node = nodeBinary(release);
  const name = `Node ${release}`;
  const major = Number.parseInt(release, 10);
  const isFirst = release.endsWith('-first');
  if (node === null) {
    test.skip(`${name}: could not be fetched`, () => undefined);
    continue;
  }

  test.serial(
    `${name}: an ES module ranks, scores, aborts and uses a worker, with the same figures`,
    async (t) => {
      const user = await userFolder(t);
      const [here, there] = [
        await output(process.execPath, ['smoke.mjs', photo], user),
        await output(node, ['smoke.mjs', photo], user),
      ];
      if (isFirst) there.stderr = withoutWarnings(there.stderr);
      t.deepEqual(there, { code: 0, signal: null, stdout: here.stdout, stderr: '' });
      const { stdout } = await output(node, ['-p', 'process.versions.node'], user);
      t.is(Number.parseInt(stdout, 10), major);
      if (isFirst) t.true(['20.15.0', '22.2.0'].includes(stdout));
      const { logits, aborted, refused, disposed, worker, progress } = JSON.parse(
        there.stdout,
      ) as Record<string, unknown>;
      t.is((logits as number[]).length, 8);
      t.deepEqual(
        { aborted, refused, disposed, worker, progress },
        {
          aborted: 'enough',
          refused: 'ERR_LTRP_INVALID_ARGUMENT',
          disposed: 'ERR_LTRP_DISPOSED',
          worker: true,
          progress: true,
        },
      );
    },
  );

  test.serial(`${name}: CommonJS with require() and with import()`, async (t) => {
    const user = await userFolder(t);
    const ranked = /^\d+\.\d+\.\d+ 224$/;
    const dynamic = await output(node, ['dynamic.cjs'], user);
    const said = isFirst ? withoutWarnings(dynamic.stderr) : dynamic.stderr;
    t.deepEqual([dynamic.code, said], [0, '']);
    t.regex(dynamic.stdout, ranked);
    const required = await output(node, ['require.cjs'], user);
    if (isFirst) {
      // Before 20.19 and 22.12 require() refuses ES modules: docs/hosts.md.
      t.is(required.code, 1);
      t.regex(required.stderr, /code: 'ERR_REQUIRE_ESM'/);
    } else {
      t.deepEqual([required.code, required.stderr], [0, '']);
      t.regex(required.stdout, ranked);
    }
  });

  test.serial(`${name}: the command`, async (t) => {
    const user = await userFolder(t);
    const main = join(packageOf(user), 'dist', 'cli', 'main.js');
    const ranked = await output(node, [main, 'rank', photo, '--json'], user);
    t.is(ranked.code, 0, ranked.stderr);
    t.notThrows(() => JSON.parse(ranked.stdout) as unknown);
    const doctor = await output(node, [main, 'doctor', '--json'], user);
    const report = JSON.parse(doctor.stdout) as { ok: boolean; node: string };
    t.true(report.ok);
    t.is(Number.parseInt(report.node, 10), major);
  });

  test.serial(`${name}: processes, workers, forks and clusters end cleanly`, async (t) => {
    const some = companies.filter(({ name: scene }) => everywhere.includes(scene));
    for (const expected of [...endings, ...some]) {
      t.is((await take(expected, teacher, { node })).problem, null);
    }
  });

  // ava and tsx, which run them, need later releases than ltrp does.
  if (isFirst) continue;

  test.serial(
    `${name}: our own tests of API, pictures and a machine without LibTorch`,
    async (t) => {
      const ava = join(repository, 'node_modules', 'ava', 'entrypoints', 'cli.mjs');
      const files = ['api', 'images', 'no-libtorch'].map((file) => `test/${file}.test.ts`);
      const { code, stdout, stderr } = await output(node, [ava, ...files], repository);
      t.is(code, 0, stdout + stderr);
      t.regex(stdout, /\d{2} tests passed/);
    },
  );
}
