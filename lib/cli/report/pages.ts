/** Any number of images as one page, or as several that link to each other where one would be too large for a browser. */
import type { OutputFolder } from '../output-folder.js';
import {
  pageChunks,
  pageImageParts,
  type PageImage,
  type Report,
  type ReportImage,
} from './page.js';

/** Images on one page: about 100 KB each. */
export const imagesPerPage = 120;

/** What all pages of a report have in common. */
export type ReportFrame = Omit<Report, 'images' | 'page'>;

/**
 * Writes index.html, index-2.html and so on while the images come: a page is on disk as soon as the next one begins, because
 * only then does it have a link to it. Never more than one page's images are held, and those outside the JavaScript heap.
 */
export class ReportPages {
  readonly #frame: ReportFrame;
  readonly #out: OutputFolder;
  #images: PageImage[] = [];
  #number = 1;
  #first: string | undefined;

  constructor(frame: ReportFrame, out: OutputFolder) {
    this.#frame = frame;
    this.#out = out;
  }

  async add(image: ReportImage): Promise<void> {
    if (this.#images.length >= imagesPerPage) await this.#write(true);
    this.#images.push(pageImageParts(image));
  }

  /** Writes the last page; returns the path of the first, or undefined where there was no image. */
  async finish(): Promise<string | undefined> {
    if (this.#images.length > 0) await this.#write(false);
    return this.#first;
  }

  async #write(hasNext: boolean): Promise<void> {
    const number = this.#number++;
    const page = {
      number,
      ...(number > 1 && { first: fileName(1), previous: fileName(number - 1) }),
      ...(hasNext && { next: fileName(number + 1) }),
    };
    const images = this.#images;
    this.#images = [];
    const path = await this.#out.write(
      fileName(number),
      pageChunks({ ...this.#frame, page }, images),
    );
    this.#first ??= path;
  }
}

const fileName = (number: number): string =>
  number === 1 ? 'index.html' : `index-${String(number)}.html`;
