/** Any number of images as one page, or as several that link to each other where one would be too large for a browser. */
import type { OutputFolder } from '../output-folder.js';
import { reportPage, type Report, type ReportImage } from './page.js';

/** Images on one page: about 100 KB each. */
export const imagesPerPage = 120;

export class ReportPages {
  readonly #frame: Omit<Report, 'images' | 'pages'>;
  readonly #images: ReportImage[] = [];

  constructor(frame: Omit<Report, 'images' | 'pages'>) {
    this.#frame = frame;
  }

  add(image: ReportImage): void {
    this.#images.push(image);
  }

  /** Writes index.html, and index-2.html and so on; returns the first one's path. */
  async write(out: OutputFolder): Promise<string> {
    const count = Math.max(1, Math.ceil(this.#images.length / imagesPerPage));
    const names = Array.from({ length: count }, (_, index) =>
      index === 0 ? 'index.html' : `index-${String(index + 1)}.html`,
    );
    const paths: string[] = [];
    for (const [index, name] of names.entries()) {
      const images = this.#images.slice(index * imagesPerPage, (index + 1) * imagesPerPage);
      const page = reportPage({ ...this.#frame, images, pages: { names, current: index } });
      paths.push(await out.write(name, page));
    }
    return paths[0] as string;
  }
}
