/** Any number of images as one page, or as several that link to each other where one would be too large for a browser. */
import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { LtrpError, readError } from '../../errors.js';
import type { OutputFolder } from '../output-folder.js';
import {
  pageChunks,
  pageImageParts,
  parsePage,
  type PageImage,
  type Report,
  type ReportImage,
} from './page.js';

/** Images on one page: about 100 KB each. */
export const imagesPerPage = 120;

/** What all pages of a report have in common. */
export type ReportFrame = Omit<Report, 'images' | 'page'>;

/** The lines of images of earlier calls, as `LinesFile` knows them. */
export interface EarlierLines {
  /** Of images that stay. */
  kept: ReadonlySet<string>;
  /** Of images with new results, with the number of occurrences of the line. */
  superseded: ReadonlyMap<string, number>;
}

type EarlierPage = NonNullable<ReturnType<typeof parsePage>>;

/**
 * Writes index.html, index-2.html and so on while the images come: a page is on disk as soon as the next one begins, because
 * only then does it have a link to it. Never more than one page's images are held, and those outside the JavaScript heap.
 *
 * With `merge`, the images of earlier calls stay: new ones come after them, and take the place of earlier results of the same
 * picture by the same command. Without, the pages start over.
 */
export class ReportPages {
  readonly #frame: ReportFrame;
  readonly #merge: boolean;
  /** {@link #frame}, with what pages of other commands say. */
  #merged: ReportFrame;
  #images: PageImage[] = [];
  #number = 1;
  #begun = false;
  /** Images of earlier calls: full pages, and how many there are on the one that is continued. */
  #earlier = { pages: 0, images: 0 };
  /** Those that come again. */
  readonly #again = new Set<string>();

  constructor(
    frame: ReportFrame,
    private readonly out: OutputFolder,
    { merge = false } = {},
  ) {
    this.#frame = this.#merged = frame;
    this.#merge = merge;
  }

  /**
   * Looks at the pages that are there, before any work is done.
   *
   * @throws {LtrpError} `ERR_LTRP_FILE_EXISTS` if there is an index.html that is not a report.
   */
  async open(): Promise<void> {
    if (!this.#merge) return;
    let number = 1;
    while (existsSync(this.#path(number + 1))) number++;
    const last = await this.#read(number);
    if (last === undefined) return;
    const { title, description } = this.#frame;
    this.#merged = {
      ...this.#frame,
      title: joined(last.title, title, ' · '),
      description: joined(last.description, description, ' '),
    };
    this.#number = number;
    this.#images = last.images;
    this.#earlier = { pages: number - 1, images: last.images.length };
  }

  /** @param again - there may be an earlier result of this image. */
  async add(image: ReportImage, again = false): Promise<void> {
    this.#begun = true;
    if (this.#images.length >= imagesPerPage) await this.#write(this.#merged, true);
    const parts = pageImageParts(image);
    this.#images.push(parts);
    if (again) this.#again.add(keyOf(parts));
  }

  /** Writes the last page; returns the path of the first, or undefined where there was no image. */
  async finish(): Promise<{ page: string; lines: EarlierLines } | undefined> {
    if (!this.#begun) return undefined;
    await this.#write(this.#merged, false);
    const lines =
      this.#again.size > 0
        ? await this.#compact()
        : { kept: new Set<string>(), superseded: new Map<string, number>() };
    for (let number = this.#number; (await this.#read(number)) !== undefined; number++) {
      await rm(this.#path(number), { force: true });
    }
    return { page: this.#path(1), lines };
  }

  /** Joins the results of earlier calls that stay and those of this call. */
  async #compact(): Promise<EarlierLines> {
    const kept = new Set<string>();
    const superseded = new Map<string, number>();
    const last = this.#number - 1;
    let stays = false;
    this.#number = 1;
    for (let number = 1; number <= last; number++) {
      const { images } = (await this.#read(number)) ?? { images: [] };
      for (const [index, image] of images.entries()) {
        const { pages, images: first } = this.#earlier;
        const earlier = number <= pages || (number === pages + 1 && index < first);
        const { line } = image;
        if (earlier && this.#again.has(keyOf(image))) {
          if (line !== undefined) superseded.set(line, (superseded.get(line) ?? 0) + 1);
          continue;
        }
        if (earlier) stays = true;
        if (earlier && line !== undefined) kept.add(line);
        // What is written is never ahead of what was read.
        if (this.#images.length >= imagesPerPage) {
          await this.#write(stays ? this.#merged : this.#frame, true);
        }
        this.#images.push(image);
      }
    }
    await this.#write(stays ? this.#merged : this.#frame, false);
    return { kept, superseded };
  }

  async #write(frame: ReportFrame, hasNext: boolean): Promise<void> {
    const number = this.#number++;
    const page = {
      number,
      ...(number > 1 && { first: fileName(1), previous: fileName(number - 1) }),
      ...(hasNext && { next: fileName(number + 1) }),
    };
    const images = this.#images;
    this.#images = [];
    await this.out.write(fileName(number), pageChunks({ ...frame, page }, images));
  }

  #path(number: number): string {
    return join(this.out.path, fileName(number));
  }

  /** An existing page, or undefined. */
  async #read(number: number): Promise<EarlierPage | undefined> {
    const path = this.#path(number);
    const html = await readFile(path, 'utf8').catch((cause: unknown) => {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw readError(path, cause);
    });
    if (html === undefined) return undefined;
    const page = parsePage(html);
    if (page !== undefined) return page;
    throw new LtrpError(
      'ERR_LTRP_FILE_EXISTS',
      `${path} exists and was not written by ltrp; choose another --out.`,
    );
  }
}

/** The same picture by the same command. */
const keyOf = ({ id = '', labels }: PageImage): string => [id, ...labels].join('\0');

/** What both say, once. */
function joined(earlier: string, own: string, separator: string): string {
  if (earlier.includes(own)) return earlier;
  return own.includes(earlier) ? own : `${earlier}${separator}${own}`;
}

const fileName = (number: number): string => (number === 1 ? 'index.html' : `index-${number}.html`);
