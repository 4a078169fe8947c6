/** Files that say which categories pictures have: COCO's JSON, a folder of Pascal VOC's XML, or tab-separated text. */
import { readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { notFound } from '../errors.js';
import { invalid } from '../validation.js';
import { categoryName } from './category-names.js';
import { readTextFile } from './text-file.js';

/** What such a file says. */
export interface LabelFile {
  path: string;
  /** All categories: COCO's in the order of its list, others sorted by code unit. */
  categories: readonly string[];
  /** Categories by the name of the picture, in NFC, with `/` between folders. None is an answer, too. */
  entries: ReadonlyMap<string, ReadonlySet<string>>;
}

/**
 * Reads labels: a folder has an XML file for each picture, a `.json` file is COCO's, any other has a line for each picture, its name
 * and then its categories, separated by tabs.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`; `ERR_LTRP_FILE_READ`; `ERR_LTRP_INVALID_ARGUMENT` for what is no such file.
 */
export async function readLabels(path: string): Promise<LabelFile> {
  const info = await stat(path).catch((cause: unknown) => {
    throw notFound(`There are no labels ${path}.`, cause);
  });
  if (info.isDirectory()) return voc(path);
  if (path.toLowerCase().endsWith('.json')) return coco(path);
  return table(path, await readTextFile(path));
}

/**
 * Names of categories, one a line.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_READ`; `ERR_LTRP_INVALID_ARGUMENT` for a name twice, or none.
 */
export async function readNames(path: string): Promise<string[]> {
  const names = linesOf(await readTextFile(path)).map((line) => categoryName(line, path));
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw invalid(`${path} names the category '${twice}' twice.`);
  if (names.length === 0) throw invalid(`${path} names no categories; it has one a line.`);
  return names;
}

/** Its entry for a picture, by the longest name that ends the picture's path. */
export function entryOf(
  { entries }: { entries: ReadonlyMap<string, unknown> },
  picture: string,
): string | undefined {
  const parts = picture.normalize('NFC').split(/[\\/]/);
  for (let first = 0; first < parts.length; first++) {
    const name = parts.slice(first).join('/');
    if (entries.has(name)) return name;
  }
  return undefined;
}

/** The name of a picture as files of labels and of outlines are asked for it. */
export const pictureName = (name: string): string =>
  name.normalize('NFC').replaceAll('\\', '/').replace(/^\.\//, '');

class Entries {
  readonly map = new Map<string, Set<string>>();

  add(picture: string, categories: Iterable<string>): void {
    const name = pictureName(picture);
    const known = this.map.get(name) ?? new Set();
    for (const category of categories) known.add(category);
    this.map.set(name, known);
  }

  /** The file, its categories sorted. */
  sorted(path: string): LabelFile {
    const all = new Set([...this.map.values()].flatMap((categories) => [...categories]));
    return { path, categories: [...all].sort(), entries: this.map };
  }
}

interface Coco {
  categories: { id: number; name: string }[];
  images: { id: number; file_name: string }[];
  annotations: { image_id: number; category_id: number }[];
}

/** Crowds count as well: the category is there. Pictures without an annotation have none. */
async function coco(path: string): Promise<LabelFile> {
  const { categories, images, annotations } = await readCoco<Coco>(path, {
    categories: { id: 'number', name: 'string' },
    images: { id: 'number', file_name: 'string' },
    annotations: { image_id: 'number', category_id: 'number' },
  });
  const names = new Map(categories.map(({ id, name }) => [id, categoryName(name, path)]));
  const files = new Map(images.map(({ id, file_name }) => [id, file_name]));
  const entries = new Entries();
  for (const { file_name } of images) entries.add(file_name, []);
  for (const { image_id, category_id } of annotations) {
    const [file, name] = [files.get(image_id), names.get(category_id)];
    if (name === undefined)
      throw invalid(
        `${path} has an annotation of the category ${category_id}, which it does not list.`,
      );
    if (file === undefined)
      throw invalid(`${path} has an annotation of the image ${image_id}, which it does not list.`);
    entries.add(file, [name]);
  }
  return { path, categories: [...new Set(names.values())], entries: entries.map };
}

/**
 * A COCO file whose lists have items with these fields; no two items of a list have the same `id`.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`; `ERR_LTRP_FILE_READ`; `ERR_LTRP_INVALID_ARGUMENT` for what is no such file.
 */
export async function readCoco<File>(
  path: string,
  fields: Readonly<Record<string, Readonly<Record<string, string>>>>,
): Promise<File> {
  const text = await readTextFile(path);
  const refuse = (what: string): never => {
    throw invalid(`${path} is not a COCO file: ${what}.`);
  };
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    refuse((cause as Error).message);
  }
  const lists = Object(value) as Lists;
  for (const [list, types] of Object.entries(fields)) {
    const items: unknown = lists[list];
    if (!Array.isArray(items)) refuse(`it has no list '${list}'`);
    const known = new Map<unknown, unknown>();
    for (const [i, item] of (items as unknown[]).entries()) {
      for (const [field, type] of Object.entries(types)) {
        if (typeof (Object(item) as Record<string, unknown>)[field] !== type)
          refuse(`${list}[${i}].${field} is no ${type}`);
      }
      if (!('id' in types)) continue;
      const { id } = item as { id: unknown };
      const said = JSON.stringify(Object.keys(types).map((field) => (item as Lists)[field]));
      if (known.has(id) && known.get(id) !== said)
        refuse(`its list '${list}' has two with the id ${String(id)}`);
      known.set(id, said);
    }
  }
  return lists as File;
}

type Lists = Record<string, unknown>;

async function voc(folder: string): Promise<LabelFile> {
  const names = (await readdir(folder))
    .filter((name) => name.toLowerCase().endsWith('.xml'))
    .sort();
  if (names.length === 0)
    throw invalid(`${folder} has no XML files; a folder of labels has one for each picture.`);
  const entries = new Entries();
  for (const name of names) {
    const path = join(folder, name);
    const root = elementsOf(path, await readTextFile(path)).find(
      ({ name }) => name === 'annotation',
    );
    const file = root?.children.find(({ name }) => name === 'filename')?.text.trim();
    if (root === undefined || file === undefined || file === '')
      throw invalid(`${path} has no <annotation> with a <filename>.`);
    const objects = root.children.filter(({ name }) => name === 'object');
    const categories = objects.map(({ children }, i) => {
      const category = children.find(({ name }) => name === 'name')?.text.trim();
      if (category === undefined || category === '')
        throw invalid(`${path} has no <name> in its <object> ${i + 1}.`);
      return categoryName(category, path);
    });
    entries.add(basename(pictureName(file)), categories);
  }
  return entries.sorted(folder);
}

interface Element {
  name: string;
  children: Element[];
  /** Right in it. */
  text: string;
}

/** Elements of an XML file, without attributes; what VOC's files have of it. */
function elementsOf(path: string, xml: string): Element[] {
  const top: Element = { name: '', children: [], text: '' };
  const open = [top];
  const plain = xml
    .replaceAll(/<!--.*?-->|<\?.*?\?>|<!DOCTYPE[^>]*>/gs, '')
    .replaceAll(/<!\[CDATA\[(.*?)\]\]>/gs, (_, text: string) =>
      text.replaceAll('&', '&amp;').replaceAll('<', '&lt;'),
    );
  for (const [, tag, text] of plain.matchAll(/<([^>]+)>|([^<]+)/g)) {
    const element = open.at(-1) as Element;
    if (tag === undefined) {
      element.text += unescaped(text ?? '');
      continue;
    }
    const name = /^\/?([^\s/]*)/.exec(tag)?.[1] ?? '';
    if (tag.startsWith('/')) {
      if (open.length === 1 || element.name !== name)
        throw invalid(`${path} is not XML: </${name}> closes nothing.`);
      open.pop();
      continue;
    }
    const child: Element = { name, children: [], text: '' };
    element.children.push(child);
    if (!tag.endsWith('/')) open.push(child);
  }
  if (open.length > 1)
    throw invalid(`${path} is not XML: <${open.at(-1)?.name ?? ''}> is not closed.`);
  return top.children;
}

const entities: Record<string, string> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };
const unescaped = (text: string): string =>
  text.replaceAll(/&(?:#x([\da-f]{1,6})|#(\d{1,7})|(\w+));/gi, (whole, hex, decimal, name) => {
    const code = hex === undefined ? Number(decimal) : parseInt(hex as string, 16);
    if (code <= 0x10ffff) return String.fromCodePoint(code);
    return entities[name as string] ?? whole;
  });

function table(path: string, text: string): LabelFile {
  const entries = new Entries();
  const lines = linesOf(text);
  if (!lines.some((line) => line.includes('\t')))
    throw invalid(
      `${path} has no line with a tab; each has a picture and its categories, separated by tabs.`,
    );
  for (const line of lines) {
    const [picture = '', ...categories] = line.split('\t').map((field) => field.trim());
    if (picture === '') throw invalid(`${path} has a line without a picture: '${line}'.`);
    entries.add(
      picture,
      categories
        .filter((category) => category !== '')
        .map((category) => categoryName(category, path)),
    );
  }
  return entries.sorted(path);
}

/** Without those that are empty. */
const linesOf = (text: string): string[] =>
  text.split(/\r?\n/).filter((line) => line.trim() !== '');
