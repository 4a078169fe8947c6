import { execFile } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { repository } from './support/paths.js';

test('the code of the README works when pasted', async (t) => {
  const readme = await readFile(join(repository, 'README.md'), 'utf8');
  const code = /```js\n([\s\S]*?)```/.exec(readme)?.[1];
  t.truthy(code);
  // Inside the repository, where the package finds itself by its name.
  const file = join(repository, `readme-example-${process.pid}.mjs`);
  await writeFile(file, code ?? '');
  try {
    const { stdout } = await promisify(execFile)(process.execPath, [file], {
      cwd: repository,
    });
    t.regex(stdout, /^keep 98 of 196 patches: \d+( \d+){97}\n$/);
  } finally {
    await rm(file);
  }
});
