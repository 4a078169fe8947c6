/**
 * Shows each result of a command on images as it comes: a line of JSON, a place on the page, a row of the table. Only the rows
 * of the table are kept to the end, so a run may be of any length. However it ends, the lines so far are on disk.
 */
import { exitCodes } from './exit-codes.js';
import { printable, shortPath, type ExpandedImages } from './image-arguments.js';
import {
  complain,
  findImages,
  runOnImages,
  type ImageRun,
  type ImageTask,
} from './image-command.js';
import { interruptSignal } from './interrupt.js';
import { lineId } from './lines-file.js';
import { alignedRows } from './numbers.js';
import { OutputFolder } from './output-folder.js';
import { print } from './standard-output.js';
import type { ReportImage, ReportMap } from './report/page.js';
import { pageImage, readForDisplay, type ShownPicture } from './report/pictures.js';
import { ReportPages, type EarlierLines, type ReportFrame } from './report/pages.js';
import { markPng } from '../output-mark.js';
import type { PatchGrid } from '../patch-grid.js';
import type { ShardOptions } from '../shards/shard.js';
import type { LoadOptions } from '../types.js';

/** A result, and how it is shown on the page (absent where none is written). */
export interface Shown<Result> {
  result: Result;
  image?: ReportImage | undefined;
}

export interface ResultOptions<Result, Model> {
  /** Label of the progress bar. */
  label: string;
  /** JSON on standard output instead of the table. */
  json: boolean;
  /** Folder of the files below; absent: they are not written. */
  out: OutputFolder | undefined;
  /** Of the pictures that are written for each image. */
  suffixes: readonly string[];
  /** Name of the file of JSON lines. */
  lines?: string;
  /** The page, if there is to be one. */
  page?: ReportFrame;
  header: readonly string[];
  row: (result: Result) => readonly string[];
  /** Loads the model, after it is known that there are images and that results can be written. */
  load: () => Promise<Model>;
  run: (model: Model) => ImageRun<Shown<Result>>;
  /** How shards are read. */
  shards: ShardOptions;
}

/** Runs a command on the images that `names` stand for and shows its results; returns the exit code. */
export async function showResults<Result, Model extends { dispose: () => void }>(
  names: readonly string[],
  options: ResultOptions<Result, Model>,
): Promise<number> {
  const signal = interruptSignal();
  const images = await findImages(names, { ...options.shards, signal });
  if (images.files.length === 0) return exitCodes.usage;
  const { out } = options;
  if (out === undefined) return showOn(images, options, () => Promise.resolve());
  return out.hold((check) => showOn(images, options, check), {
    signal,
    onWait: (holder) => complain(`waiting for ${holder}, which writes to ${shortPath(out.path)}`),
  });
}

async function showOn<Result, Model extends { dispose: () => void }>(
  images: ExpandedImages,
  options: ResultOptions<Result, Model>,
  check: () => Promise<void>,
): Promise<number> {
  const { label, json, out, row } = options;
  const lines = options.lines === undefined ? undefined : out?.lines(options.lines);
  const pages =
    options.page === undefined || out === undefined
      ? undefined
      : new ReportPages(options.page, out, { merge: true });
  await lines?.check();
  await pages?.open();
  const files = images.files.map(({ path }) => path);
  const outputs = (await out?.names(files, options.suffixes)) ?? [];
  const model = await options.load();
  const rows = [options.header];
  const done = new Set<string>();
  const finish = async (): Promise<string | undefined> => {
    await check();
    const finished = await pages?.finish();
    if (finished !== undefined) await lines?.drop(isSuperseded(finished.lines, done));
    return finished?.page;
  };
  try {
    const outcome = await runOnImages<Shown<Result>>(images, {
      label,
      quiet: json,
      outputs,
      signal: interruptSignal(),
      run: options.run(model),
      onResult: async ({ result, image }, { file, output }) => {
        const line = JSON.stringify(result);
        await lines?.append(line);
        if (image !== undefined) {
          await pages?.add({ ...image, id: output.id, line: lineId(line) }, output.again);
        }
        if (output.again) done.add(file);
        if (json) await print(`${line}\n`);
        else rows.push(row(result).map(printable));
      },
    });
    const page = await finish();
    if (!json && outcome.done > 0) {
      await print(`${alignedRows(rows)}\n`);
      if (page !== undefined) await print(`\nOpen ${shortPath(page)}\n`);
    }
    return outcome.exitCode;
  } catch (error) {
    // Finished results can still be looked at; the first failure is the one to name.
    await finish().catch(() => undefined);
    throw error;
  } finally {
    await lines?.close();
    model.dispose();
  }
}

/**
 * Whether a line of an earlier call is of an image with a new line. The page knows; after a killed call it may not, but the line
 * names the image.
 */
function isSuperseded(
  { kept, superseded }: EarlierLines,
  done: ReadonlySet<string>,
): (line: string) => boolean {
  const left = new Map(superseded);
  return (line) => {
    const id = lineId(line);
    const count = left.get(id) ?? 0;
    if (count > 0) {
      left.set(id, count - 1);
      return true;
    }
    if (kept.has(id) || done.size === 0) return false;
    try {
      return done.has((JSON.parse(line) as { image: string }).image);
    } catch {
      return false;
    }
  };
}

/**
 * Draws what there is to see of an image: `pictures` as PNGs by their suffixes; returns what the page shows.
 *
 * @param size - of the source in pixels.
 */
export async function drawn(
  { file, output, signal }: Pick<ImageTask, 'file' | 'output' | 'signal'>,
  { width, height }: { width: number; height: number },
  out: OutputFolder,
  pictures: Readonly<Record<string, (shown: ShownPicture) => Promise<Buffer>>>,
  ...maps: ReportMap[]
): Promise<ReportImage> {
  const shown = await readForDisplay(file, signal);
  const [source, ...pngs] = await Promise.all([
    pageImage(shown),
    ...Object.values(pictures).map((draw) => draw(shown)),
  ]);
  signal.throwIfAborted();
  for (const [index, suffix] of Object.keys(pictures).entries()) {
    await out.write(`${output.name}${suffix}`, markPng(pngs[index] as Buffer, output.id));
  }
  return { name: shortPath(file), width, height, source, maps };
}

/** Where results go: to --out; without it to ltrp-out, or nowhere with --json. */
export function resultFolder(settings: { out?: string; json?: boolean }): OutputFolder | undefined {
  const path = settings.out ?? (settings.json === true ? undefined : 'ltrp-out');
  return path === undefined ? undefined : new OutputFolder(path);
}

/** The options of a command that shards are read with. */
export const shardsOf = ({ imageColumn, rowGroupMemory }: ShardOptions): ShardOptions => ({
  imageColumn,
  rowGroupMemory,
});

/** The options of a command that a model is loaded with. */
export function loadOptions({ device, precision, libtorch }: LoadOptions): LoadOptions {
  return { device, precision, libtorch, signal: interruptSignal() };
}

export const gridCell = ({ rows, columns }: PatchGrid): string => `${rows} x ${columns}`;

/** Name, size and grid of an image, as every table has them. */
export function commonCells(
  image: string,
  width: number,
  height: number,
  grid: PatchGrid,
): string[] {
  return [shortPath(image), `${width} x ${height}`, gridCell(grid)];
}
