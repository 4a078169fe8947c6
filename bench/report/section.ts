/** Sections of documents that a command writes: what stands between `<!-- NAME -->` and `<!-- /NAME -->`. */

/** The document with this heading and text in its section. @throws {Error} where it has no such section. */
export function withSection(document: string, name: string, heading: string, text: string): string {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [from, to] = [document.indexOf(begin), document.indexOf(end)];
  if (from < 0 || to < from) throw new Error(`There is no section ${name}.`);
  const before = document.slice(0, from + begin.length);
  return `${before}\n\n## ${heading}\n\n${text.trim()}\n\n${document.slice(to)}`;
}
