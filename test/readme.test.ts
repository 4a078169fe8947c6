/** What README.md says can be done is done. */
import { existsSync } from 'node:fs';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { convertCheckpoint, LtrpError, patchBoxes, rankFiles, readImages } from '../lib/index.js';
import { ltrp, startLtrp } from './support/command.js';
import { blocks, readDocument, runBlock, workplace, type Block } from './support/documents.js';
import { repository } from './support/paths.js';
import { picture } from './support/pictures.js';
import { until } from './support/runs.js';
import { encode, grid, smallVit } from './support/small-vit.js';

const readme = blocks(await readDocument('README.md'));
const programs = readme.filter(({ language }) => language === 'js');

test('the ten lines of the README work when pasted', async (t) => {
  const { code, stdout, stderr } = await runBlock(await workplace(t), programs[0]!);
  t.is(code, 0, stderr);
  t.regex(stdout, /^keep 98 of 196 patches: \d+( \d+){97}\n$/);
  t.true(programs[0]!.code.trim().split('\n').length <= 10);
});

test('the service of the README answers its program', async (t) => {
  const folder = await workplace(t);
  const [program] = programs.filter(({ heading }) => heading === 'As a service');
  t.true(program!.code.trim().split('\n').length <= 10);
  const { child, outcome } = startLtrp(['serve', '--port', '0', '--log-level', 'silent']);
  let said = '';
  child.stderr!.on('data', (chunk: Buffer) => (said += chunk.toString()));
  await until(() => said.includes('serving on') || child.exitCode !== null);
  const url = /serving on (\S+);/.exec(said)?.[1] ?? '';
  const code = program!.code.replace('http://127.0.0.1:8080', url);
  const { stdout, stderr } = await runBlock(folder, { ...program!, code });
  t.regex(stdout, /^keep 47 patches, the first at \d+ \d+ \d+ \d+\n$/, `${stderr}${said}`);
  child.kill('SIGTERM');
  t.is((await outcome).code, 0);
});

const fewer = programs.filter(({ heading }) => heading.startsWith('Fewer tokens'));

test('the model of the README is cut, and told which patches to keep', async (t) => {
  const folder = await workplace(t);
  await convertCheckpoint('tiny', join(folder, 'vit.onnx'), { kind: 'ranker' });
  const { stdout, stderr } = await runBlock(folder, fewer[0]!);
  t.regex(stdout, /^run vit-keep\.onnx with keep = \[\d+(, \d+){97}\]\n$/, stderr);
  t.true(fewer[0]!.code.trim().split('\n').length <= 10);
});

/** No dependency of ours: the benchmarks install it. */
const runtime = join(repository, 'bench', 'node_modules', 'onnxruntime-node');

test(`the plan of the README${existsSync(runtime) ? '' : ' (onnxruntime-node is not in bench/node_modules: refused)'}`, async (t) => {
  const folder = await workplace(t);
  const shape = { rows: grid.rows * grid.patch, columns: grid.columns * grid.patch };
  await writeFile(join(folder, 'vit.onnx'), encode(smallVit({ counts: 'computed' })));
  if (existsSync(runtime)) {
    await mkdir(join(folder, 'node_modules'));
    await symlink(runtime, join(folder, 'node_modules', 'onnxruntime-node'));
  }
  const size = `size: [${shape.rows}, ${shape.columns}], rounds: 4, shares`;
  const code = fewer[1]!.code.replace('shares: [', `${size}: [`);
  const { stdout, stderr } = await runBlock(folder, { ...fewer[1]!, code });
  if (existsSync(runtime)) {
    const share = String.raw`\d+% of the patches: \d+\.\d\d of the time\n`;
    // The ranker alone takes longer than this model.
    t.regex(stdout, new RegExp(`^(${share}){2}It does not pay\\.\n$`), stderr);
  } else {
    t.regex(stderr, /npm install onnxruntime-node/);
  }
  t.true(fewer[1]!.code.trim().split('\n').length <= 10);
});

test('every program of the README is run here', (t) => {
  t.deepEqual(
    programs.map(({ heading }) => heading),
    ['Ten lines', fewer[0]!.heading, fewer[0]!.heading, 'As a service'],
  );
});

test('it begins with the installation from npm', async (t) => {
  const text = await readDocument('README.md');
  t.is(/^## (.+)$/m.exec(text)?.[1], 'Install');
  const [install] = readme.filter(({ heading }) => heading === 'Install');
  t.regex(install?.code ?? '', /^npm install ltrp\nnpx ltrp libtorch install\b/);
});

test('what it says of promises, errors and cropping is so', async (t) => {
  const folder = await workplace(t);
  const photo = join(folder, 'photo.jpg');
  const reason = new Error('no longer wanted');
  const signal = AbortSignal.abort(reason);
  t.is(await t.throwsAsync(readImages([photo], { size: 224, signal })), reason);
  await t.throwsAsync(readImages([join(folder, 'missing.jpg')], { size: 224 }), {
    instanceOf: LtrpError,
    code: 'ERR_LTRP_IMAGE_NOT_FOUND',
  });
  t.throws(() => rankFiles([photo], { keepRatio: 2 }), { instanceOf: LtrpError });
  t.deepEqual(patchBoxes({ rows: 1, columns: 2 }, 64, 32), [
    [0, 0, 32, 32],
    [32, 0, 32, 32],
  ]);
  // A picture that is twice as wide as high: all of it is a grid of such a shape, its centre is a square.
  const wide = join(folder, 'wide.png');
  await picture(896, 448).png().toFile(wide);
  const grids = [];
  for await (const result of rankFiles([wide])) if (result.ok) grids.push(result.grid);
  t.true(grids.length === 1 && grids[0]!.columns > 1.5 * grids[0]!.rows, JSON.stringify(grids));
  const both = await readImages([wide], { size: 224 });
  const cropped = await readImages([wide], { size: 224, fit: 'crop' });
  const whole = await readImages([wide], { size: 224, fit: 'stretch' });
  t.deepEqual(both.data, cropped.data);
  t.notDeepEqual(both.data, whole.data);
});

/** Lines of a document's shell blocks that begin with `ltrp`. */
function commands(from: readonly Block[]): string[] {
  return from
    .filter(({ language }) => language === 'sh')
    .flatMap(({ code }) => code.split('\n'))
    .map((line) => line.replace(/^npx ltrp /, 'ltrp '))
    .filter((line) => line.startsWith('ltrp '));
}

test('every option of a command in README and recipes is one that the command has', async (t) => {
  const lines = [...commands(readme), ...commands(blocks(await readDocument('docs/recipes.md')))];
  t.true(lines.length >= 10);
  for (const line of lines) {
    const words = line
      .replace(/\s+#.*/, '')
      .split(/\s+/)
      .slice(1);
    const name = ['libtorch', 'models'].includes(words[0] ?? '')
      ? words.slice(0, 2)
      : words.slice(0, 1);
    const { code, stdout } = await ltrp([...name, '--help']);
    t.is(code, 0, line);
    for (const option of words.filter((word) => word.startsWith('--'))) {
      t.regex(stdout, new RegExp(`^\\s+(-\\w, )?${option}\\b`, 'm'), line);
    }
  }
});

test('the npm scripts that README and CONTRIBUTING name are there', async (t) => {
  const { scripts } = JSON.parse(await readDocument('package.json')) as { scripts: object };
  for (const document of ['README.md', 'CONTRIBUTING.md', 'docs/recipes.md']) {
    const text = await readDocument(document);
    for (const [, name] of text.matchAll(/\bnpm run ([\w:]+)/g)) {
      t.true(name !== undefined && name in scripts, `${document}: npm run ${String(name)}`);
    }
  }
});
