/** What README.md says can be done is done. */
import test from 'ava';
import { ltrp } from './support/command.js';
import { blocks, readDocument, runBlock, workplace, type Block } from './support/documents.js';

const readme = blocks(await readDocument('README.md'));
const programs = readme.filter(({ language }) => language === 'js');

test('the ten lines of the README work when pasted', async (t) => {
  const { code, stdout, stderr } = await runBlock(await workplace(t), programs[0]!);
  t.is(code, 0, stderr);
  t.regex(stdout, /^keep 98 of 196 patches: \d+( \d+){97}\n$/);
  t.true(programs[0]!.code.trim().split('\n').length <= 10);
});

test('so does the stream of pictures', async (t) => {
  t.is(programs.length, 2, 'every program of the README is run here');
  const { code, stdout, stderr } = await runBlock(await workplace(t), programs[1]!);
  t.is(code, 0, stderr);
  t.regex(stdout, /^photo\.jpg keeps (\d+) of (\d+)\nThere is no image missing\.jpg\.\n$/);
});

/** Lines of a document's shell blocks that begin with `ltrp`. */
function commands(from: readonly Block[]): string[] {
  return from
    .filter(({ language }) => language === 'sh')
    .flatMap(({ code }) => code.split('\n'))
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
    const name = words[0] === 'libtorch' ? words.slice(0, 2) : words.slice(0, 1);
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
