/** docs/start-and-size.md and the JSON beside it: each command writes its own section and leaves the others. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';

const order = ['start', 'soak'] as const;
const title = `# Start, size and memory over time

Run the command of a section to measure your machine.
`;

export async function writeSection(
  root: string,
  name: (typeof order)[number],
  heading: string,
  text: string,
  figures: object,
): Promise<void> {
  const file = join(root, 'docs', 'start-and-size.md');
  const old = await readFile(file, 'utf8').catch(() => '');
  const sections = new Map<string, string>();
  for (const match of old.matchAll(/<!-- (\w+) -->\n([\s\S]*?)<!-- \/\1 -->/g)) {
    sections.set(match[1] ?? '', match[2] ?? '');
  }
  sections.set(name, `\n## ${heading}\n\n${text.trim()}\n\n`);
  const body = order
    .filter((key) => sections.has(key))
    .map((key) => `<!-- ${key} -->\n${sections.get(key) ?? ''}<!-- /${key} -->\n`);
  const markdown = [title, ...body].join('\n');
  await writeFile(file, await format(markdown, { parser: 'markdown' }));

  const json = join(root, 'docs', 'start-and-size.json');
  const known = JSON.parse(await readFile(json, 'utf8').catch(() => '{}')) as object;
  const value = JSON.stringify({ ...known, [name]: figures });
  await writeFile(json, await format(value, { ...(await resolveConfig(json)), parser: 'json' }));
}
