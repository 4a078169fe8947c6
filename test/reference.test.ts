/** The API reference: complete, without warnings, and every option with what a caller has to know. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { repository, temporaryFolder } from './support/paths.js';

interface Part {
  text: string;
}

interface Reflection {
  name: string;
  kindString?: string;
  kind: number;
  flags?: { isOptional?: boolean };
  comment?: { summary: Part[] };
  type?: { type: string; name?: string; types?: { type: string; name?: string }[] };
  children?: Reflection[];
}

const interfaceKind = 256;
const propertyKind = 1024;

test('typedoc has nothing to complain of, and options tell unit, range and default', async (t) => {
  const folder = await temporaryFolder(t);
  const json = join(folder, 'api.json');
  const typedoc = join(repository, 'node_modules', 'typedoc', 'bin', 'typedoc');
  // typedoc.json makes warnings errors, undocumented exports and members among them.
  const run = promisify(execFile)(process.execPath, [typedoc, '--json', json], { cwd: repository });
  await t.notThrowsAsync(run);
  const { children = [] } = JSON.parse(await readFile(json, 'utf8')) as Reflection;
  const options = children.filter(
    ({ name, kind }) => kind === interfaceKind && name.endsWith('Options'),
  );
  t.true(options.length >= 10, options.map(({ name }) => name).join());
  const missing: string[] = [];
  for (const { name, children: members = [] } of options) {
    for (const member of members.filter(({ kind }) => kind === propertyKind)) {
      const text = (member.comment?.summary ?? []).map((part) => part.text).join('');
      const says = (pattern: RegExp, what: string): void => {
        if (!pattern.test(text)) missing.push(`${name}.${member.name}: ${what}`);
      };
      const types = [member.type, ...(member.type?.types ?? [])];
      if (types.some((type) => type?.name === 'number')) {
        says(/\[[^\]]+[\])]|\([^)]+[\])]|at least|above|at most|\d to |bytes/i, 'its range');
      }
      // One of several that exclude each other says which counts.
      if (member.flags?.isOptional === true) {
        says(/default|wins over|exactly one|only one|without it/i, 'its default');
      }
    }
  }
  t.deepEqual(missing, []);
});
