/**
 * What commands on images do with each result as it comes: a line of JSON, a place on the page, a row of the table. Nothing
 * is kept to the end but the rows of the table, so a run may be as long as it likes, and whatever ends it, the lines before
 * are on disk.
 */
import { once } from 'node:events';
import { shortPath } from './image-arguments.js';
import { runOnImages, type ImageRun } from './image-command.js';
import { interruptSignal } from './interrupt.js';
import { alignedRows } from './numbers.js';
import { OutputFolder } from './output-folder.js';
import type { ReportImage } from './report/page.js';
import { ReportPages, type ReportFrame } from './report/pages.js';
import type { PatchGrid } from '../patch-grid.js';
import type { LoadOptions } from '../types.js';

/** A result, and how it is shown on the page (absent where none is written). */
export interface Shown<Result> {
  result: Result;
  image?: ReportImage | undefined;
}

export interface ResultOptions<Result> {
  /** What the progress bar says. */
  label: string;
  /** JSON on standard output in place of the table. */
  json: boolean;
  /** Where the files below go; nowhere if absent. */
  out: OutputFolder | undefined;
  /** Name of the file of JSON lines. */
  lines?: string;
  /** The page, if there is to be one. */
  page?: ReportFrame;
  header: readonly string[];
  row: (result: Result) => readonly string[];
  run: ImageRun<Shown<Result>>;
}

/** Runs a command on the images that `patterns` name and shows its results; returns the exit code. */
export async function showResults<Result>(
  patterns: readonly string[],
  options: ResultOptions<Result>,
): Promise<number> {
  const { label, json, out, row, run } = options;
  const lines = options.lines === undefined ? undefined : out?.lines(options.lines);
  const pages =
    options.page === undefined || out === undefined
      ? undefined
      : new ReportPages(options.page, out);
  const rows = [options.header];
  try {
    const { done, exitCode } = await runOnImages<Shown<Result>>(patterns, {
      label,
      quiet: json,
      run,
      onResult: async ({ result, image }) => {
        const line = JSON.stringify(result);
        await lines?.append(line);
        if (image !== undefined) await pages?.add(image);
        if (json) await print(`${line}\n`);
        else rows.push(row(result));
      },
    });
    const page = await pages?.finish();
    if (!json && done > 0) {
      await print(`${alignedRows(rows)}\n`);
      if (page !== undefined) await print(`\nOpen ${shortPath(page)}\n`);
    }
    return exitCode;
  } catch (error) {
    // What was done can be looked at all the same; the first failure is the one to be named.
    await pages?.finish().catch(() => undefined);
    throw error;
  } finally {
    await lines?.close();
  }
}

/** Where results go: to --out; without it to ltrp-out, or nowhere with --json. */
export function resultFolder(settings: { out?: string; json?: boolean }): OutputFolder | undefined {
  const path = settings.out ?? (settings.json === true ? undefined : 'ltrp-out');
  return path === undefined ? undefined : new OutputFolder(path);
}

/** The options of a command that a model is loaded with. */
export function loadOptions({ device, precision, libtorch }: LoadOptions): LoadOptions {
  return { device, precision, libtorch, signal: interruptSignal() };
}

export const gridCell = ({ rows, columns }: PatchGrid): string =>
  `${String(rows)} x ${String(columns)}`;

/** Name, size and grid of an image, as every table has them. */
export function commonCells(
  image: string,
  width: number,
  height: number,
  grid: PatchGrid,
): string[] {
  return [shortPath(image), `${String(width)} x ${String(height)}`, gridCell(grid)];
}

/** Writes to standard output no faster than it is read; Ctrl-C ends the waiting, what is written goes out all the same. */
async function print(text: string): Promise<void> {
  const signal = interruptSignal();
  if (process.stdout.write(text) || signal.aborted) return;
  await once(process.stdout, 'drain', { signal }).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
}
