/** Sections of documents that a command writes: what stands between `<!-- NAME -->` and `<!-- /NAME -->`. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { format, resolveConfig } from 'prettier';
import { version } from '../../lib/index.js';
import { root } from '../contenders.js';
import { commit, machine } from '../machine.js';

/** The document with this heading and text in its section. @throws {Error} where it has no such section. */
export function withSection(document: string, name: string, heading: string, text: string): string {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [from, to] = [document.indexOf(begin), document.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`There is no section ${name}.`);
  const before = document.slice(0, from + begin.length);
  return `${before}\n\n## ${heading}\n\n${text.trim()}\n\n${document.slice(to)}`;
}

/** Writes a section of docs/DOCUMENT and says on what it was measured. The rest stays as people wrote it. */
export async function writeSection(
  document: string,
  name: string,
  heading: string,
  text: string,
): Promise<void> {
  const { cpu, cores, node } = machine([], {});
  const where = `ltrp ${version}, ${cpu}, ${cores} cores, Node ${node}, commit ${commit() ?? 'unknown'}.`;
  const tidy = await format(`${text}\n\n${where}`, { parser: 'markdown' });
  const file = join(root, 'docs', document);
  writeFileSync(file, withSection(readFileSync(file, 'utf8'), name, heading, tidy));
}

/** Puts a section's figures into a JSON file of docs/, beside those of other sections. */
export async function writeFigures(document: string, name: string, figures: object): Promise<void> {
  const file = join(root, 'docs', document);
  const known = JSON.parse(readFileSync(file, 'utf8')) as object;
  const text = JSON.stringify({ ...known, [name]: figures });
  const config = await resolveConfig(file);
  writeFileSync(file, await format(text, { ...config, parser: 'json' }));
}
