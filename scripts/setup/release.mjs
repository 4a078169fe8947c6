/**
 * `npm run release:check`: everything that must hold before a release. Each step prints one line; what a step says goes to
 * build/release-check/STEP.log. All steps are run, whatever the others find, then a table and what failed.
 *
 *   npm run release:check -- [--only types,publint | --skip tests,hosts] [--write-contents]
 */
import { spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { judgeAudit } from '../release/audit.mjs';
import { compareContents, parseListing } from '../release/contents.mjs';
import { checkLicences } from '../release/licences.mjs';
import { judgeSuite, skipsAllowed } from '../release/suites.mjs';
import { sourceChecks } from './commands.mjs';
import { root, SetupError } from './say.mjs';
import { buildTypeScript } from './typescript.mjs';

const logs = path.join(root, 'build', 'release-check');
const lastRelease = path.join(root, 'scripts', 'release', 'last-release.json');

const readJson = (file) => JSON.parse(readFileSync(file, 'utf8'));
const manifest = () => readJson(path.join(root, 'package.json'));

/** The problems of a step; its log has the rest. */
class Finding extends Error {}

/** Name, what it is about, and its work: returns a summary or throws. In this order; later ones use the package. */
const steps = [
  ...sourceChecks.map(([name, args]) => [
    name,
    async (log) => {
      for (const each of await args()) await must(log, process.execPath, each);
    },
  ]),
  [
    'tests',
    (log) => {
      process.env.LTRP_TERMINATIONS ??= '10000'; // of workers: test/terminations.test.ts
      return suite(log, 'test');
    },
  ],
  ['processors', (log) => suite(log, 'test:processors')],
  ['docs', async (log) => void (await script(log, 'docs'))],
  ['package', async (log) => (await script(log, 'package'), tarballSummary())],
  ['install', (log) => suite(log, 'test:install', skipsAllowed.install)],
  [
    'hosts',
    (log) => {
      process.env.LTRP_ENDINGS ??= '50'; // of each kind: test/hosts/endings.test.ts
      return suite(log, 'test:hosts', skipsAllowed.hosts);
    },
  ],
  ['audit', audit],
  ['licences', licences],
  ['contents', contents],
  ['publint', (log) => onTarball(log, 'publint/src/cli.js', ['run'], ['--strict'])],
  // Nothing here claims to be CommonJS.
  [
    'attw',
    (log) =>
      onTarball(log, '@arethetypeswrong/cli/dist/index.js', [
        '--profile',
        'esm-only',
        '--no-color',
      ]),
  ],
];

export async function releaseCheck(args) {
  const { values } = parseArgs({
    args,
    options: {
      only: { type: 'string' },
      skip: { type: 'string' },
      'write-contents': { type: 'boolean', default: false },
    },
  });
  const names = steps.map(([name]) => name);
  const listed = (value) => (value === undefined ? [] : value.split(','));
  for (const name of [...listed(values.only), ...listed(values.skip)]) {
    if (!names.includes(name)) {
      throw new SetupError(`There is no step "${name}"; there are ${names.join(', ')}.`, 2);
    }
  }
  const skips = (name) =>
    values.only === undefined
      ? listed(values.skip).includes(name)
      : !listed(values.only).includes(name);
  await buildTypeScript(); // types of tests that import the package by its name
  mkdirSync(logs, { recursive: true });
  const rows = [];
  for (const [name, work] of steps) {
    rows.push(
      skips(name) ? { name, result: 'skipped', seconds: 0, what: '' } : await take(name, work),
    );
    const { result, seconds, what } = rows.at(-1);
    if (result !== 'skipped') process.stdout.write(`${line(name, result, seconds, what)}\n`);
  }
  if (values['write-contents']) {
    writeFileSync(lastRelease, `${JSON.stringify(await packed(), null, 1)}\n`);
    process.stdout.write(`Wrote ${path.relative(root, lastRelease)}\n`);
  }
  conclude(rows);
}

async function take(name, work) {
  const file = path.join(logs, `${name}.log`);
  const log = openSync(file, 'w');
  const start = performance.now();
  const seconds = () => (performance.now() - start) / 1000;
  try {
    const what = (await work(log)) ?? '';
    return { name, result: 'passed', seconds: seconds(), what };
  } catch (error) {
    if (!(error instanceof Finding) && !(error instanceof SetupError))
      writeFileSync(log, String(error.stack));
    const what = `${error.message} (${path.relative(root, file)})`;
    return { name, result: 'FAILED', seconds: seconds(), what };
  } finally {
    closeSync(log);
  }
}

function line(name, result, seconds, what) {
  return `${name.padEnd(12)} ${result.padEnd(8)} ${seconds.toFixed(1).padStart(7)} s  ${what}`.trimEnd();
}

function conclude(rows) {
  const failed = rows.filter(({ result }) => result === 'FAILED');
  const skipped = rows.filter(({ result }) => result === 'skipped');
  process.stdout.write('\n');
  for (const { name, result, seconds, what } of rows) {
    process.stdout.write(`${line(name, result, seconds, what)}\n`);
  }
  const passed = rows.length - failed.length - skipped.length;
  process.stdout.write(`\n${passed} passed, ${failed.length} failed, ${skipped.length} skipped\n`);
  if (failed.length > 0) {
    process.stdout.write(`Not ready: ${failed.map(({ name }) => name).join(', ')}\n`);
    process.exitCode = 1;
  } else if (skipped.length === 0) process.stdout.write('Ready to release\n');
}

/** Runs a program, its output into the log; resolves with status and output. */
function capture(log, command, args) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    let errors = '';
    child.stdout.on('data', (chunk) => {
      output += chunk;
      writeFileSync(log, chunk);
    });
    child.stderr.on('data', (chunk) => {
      errors += chunk;
      writeFileSync(log, chunk);
    });
    child.on('error', (error) => reject(new Finding(`${command}: ${error.message}`)));
    child.on('close', (status) => resolve({ status, output, errors }));
  });
}

async function must(log, command, args) {
  const { status, output, errors } = await capture(log, command, args);
  if (status !== 0) throw new Finding(lastWords(output, errors) || `exit status ${status}`);
  return output;
}

/** The line that most likely says what was wrong. */
function lastWords(output, errors) {
  const lines = `${output}\n${errors}`.split('\n').map((text) => text.trim());
  const telling = lines.filter((text) => /\d failed|error|✖|problem/i.test(text));
  return (telling.at(-1) ?? lines.filter((text) => text !== '').at(-1) ?? '').slice(0, 160);
}

async function script(log, name) {
  if (manifest().scripts[name] === undefined) throw new Finding(`there is no script ${name}`);
  return must(log, 'npm', ['run', '--silent', name]);
}

/** A suite of tests. With a list of what may be skipped, every other skip is a failure. */
async function suite(log, name, allowed) {
  const { summary, problems } = judgeSuite(await script(log, name), allowed);
  if (problems.length > 0) throw new Finding(`${summary}: ${problems.join('; ')}`);
  return summary;
}

/** Users do not get our lockfile: judged is npm's installation of the tarball in an empty folder. */
async function audit(log) {
  const file = tarball();
  const folder = mkdtempSync(path.join(tmpdir(), 'ltrp-audit-'));
  try {
    writeFileSync(path.join(folder, 'package.json'), '{"name":"user","private":true}\n');
    const at = ['--prefix', folder, '--no-fund'];
    const quiet = ['--ignore-scripts', '--no-audit', '--loglevel=error'];
    await must(log, 'npm', ['install', ...at, ...quiet, file]);
    const { output } = await capture(log, 'npm', ['audit', ...at, '--json']);
    return judged(() => judgeAudit(output));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function judged(judge) {
  let verdict;
  try {
    verdict = judge();
  } catch (error) {
    // A question that was not answered is not answered well.
    throw new Finding(error.message);
  }
  if (verdict.problems.length > 0) throw new Finding(verdict.problems.join('; '));
  return verdict.summary;
}

function licences(log) {
  const { counts, problems } = checkLicences(readJson(path.join(root, 'package-lock.json')));
  const list = [...counts].sort((a, b) => b[1] - a[1]).map(([name, count]) => `${count} ${name}`);
  writeFileSync(log, `${list.join('\n')}\n${problems.join('\n')}\n`);
  if (problems.length > 0) throw new Finding(`not allowed: ${problems.join('; ')}`);
  return list.join(', ');
}

function tarball() {
  const { name, version } = manifest();
  const file = path.join(root, 'build', 'packages', `${name}-${version}.tgz`);
  if (!existsSync(file)) {
    throw new Finding(`${path.relative(root, file)} is missing: npm run package makes it`);
  }
  return file;
}

const tarballSummary = () =>
  `${path.basename(tarball())}, ${(statSync(tarball()).size / 1e6).toFixed(1)} MB`;

async function packed(log = openSync(path.join(logs, 'contents.log'), 'w')) {
  const listing = await must(log, 'tar', ['-tvzf', tarball()]);
  const { version } = manifest();
  return { version, packed: statSync(tarball()).size, files: parseListing(listing) };
}

async function contents(log) {
  const last = existsSync(lastRelease) ? readJson(lastRelease) : null;
  const { summary, differences, problems } = compareContents(last, await packed(log));
  writeFileSync(log, `\n${summary}\n${differences.join('\n')}\n`);
  if (problems.length > 0) throw new Finding(problems.join('; '));
  return summary;
}

async function onTarball(log, bin, before, after = []) {
  await must(log, process.execPath, [
    path.join(root, 'node_modules', bin),
    ...before,
    tarball(),
    ...after,
  ]);
}
