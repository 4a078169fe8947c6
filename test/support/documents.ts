/** The code of a document, and programs run as their readers run them. */
import { chmod, cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { delimiter, join, posix } from 'node:path';
import type { ExecutionContext } from 'ava';
import { built, run, type Outcome } from './command.js';
import { repository } from './paths.js';

/** A fenced block of code. */
export interface Block {
  /** Of the section that it is in. */
  heading: string;
  language: string;
  code: string;
}

export async function readDocument(name: string): Promise<string> {
  return readFile(join(repository, name), 'utf8');
}

export function blocks(markdown: string): Block[] {
  const found: Block[] = [];
  let heading = '';
  for (const match of markdown.matchAll(/^#+ (.+)$|^```(\w+)\n([\s\S]*?)^```$/gm)) {
    const [, title, language, code] = match;
    if (title !== undefined) heading = title;
    else found.push({ heading, language: language ?? '', code: code ?? '' });
  }
  return found;
}

/** Links and pictures that lead to a file or a heading, as they are written; those of code blocks are no links. */
export function relativeLinks(markdown: string): string[] {
  const text = markdown.replace(/^```[\s\S]*?^```$/gm, '').replace(/`[^`\n]*`/g, '');
  return [...text.matchAll(/\]\(([^()\s]+)\)|^\[[^\]]+\]: +(\S+)/gm)]
    .map(([, link, reference]) => link ?? reference ?? '')
    .filter((link) => !/^[a-z][a-z+.-]*:/i.test(link));
}

/** The names by which a document's headings are linked to. */
export function anchors(markdown: string): string[] {
  const text = markdown.replace(/^```[\s\S]*?^```$/gm, '');
  return [...text.matchAll(/^#+ +(.+?) *$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\s_-]/gu, '')
      .replace(/\s/g, '-'),
  );
}

/** Links of a document that lead nowhere, given the files beside it and below: `docs/a.md -> b.md`. */
export function deadLinks(
  name: string,
  files: readonly string[],
  read: (name: string) => string,
): string[] {
  return relativeLinks(read(name))
    .filter((link) => {
      const [path = '', heading] = link.split('#', 2);
      const target = path === '' ? name : posix.join(posix.dirname(name), decodeURIComponent(path));
      if (!files.includes(target)) return true;
      return heading !== undefined && !anchors(read(target)).includes(heading);
    })
    .map((link) => `${name} -> ${link}`);
}

/**
 * A folder in which `import 'ltrp'` finds this package and the shell finds `ltrp`, with photographs in `photos/` and one
 * called photo.jpg. Removed after the test.
 */
export async function workplace(t: ExecutionContext): Promise<string> {
  // Inside the repository, where the package finds itself by its name.
  const folder = join(
    repository,
    'build',
    `documents-${process.pid}-${t.title.replace(/\W+/g, '-')}`,
  );
  await rm(folder, { recursive: true, force: true });
  await mkdir(join(folder, 'bin'), { recursive: true });
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  await cp(join(repository, 'demo', 'photos'), join(folder, 'photos'), { recursive: true });
  await cp(join(folder, 'photos', 'tiger.jpg'), join(folder, 'photo.jpg'));
  const command = join(folder, 'bin', 'ltrp');
  await writeFile(command, `#!/bin/sh\nexec "${process.execPath}" "${built}" "$@"\n`);
  await chmod(command, 0o755);
  return folder;
}

/** Runs one block in `folder`, JavaScript as a module and `sh` with `set -e`. */
export async function runBlock(folder: string, { language, code }: Block): Promise<Outcome> {
  const isScript = language === 'sh';
  const file = join(folder, isScript ? 'recipe.sh' : 'recipe.mjs');
  await writeFile(file, isScript ? `set -e\n${code}` : code);
  return run(isScript ? 'sh' : process.execPath, [file], {
    cwd: folder,
    env: { ...process.env, PATH: `${join(folder, 'bin')}${delimiter}${process.env['PATH'] ?? ''}` },
  });
}
