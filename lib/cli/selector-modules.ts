/** Selectors of the caller's own: `--selector-module`. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { messageOf, notFound } from '../errors.js';
import { registerSelector, selectors, type Selector } from '../selectors.js';
import { invalid } from '../validation.js';

/** The command begins again once LibTorch is fetched; a module runs once. */
const loaded = new Set<string>();

/**
 * Runs modules, each of which adds to `selectors`: by `registerSelector`, or by a selector with a `name` as its default export.
 *
 * @throws {LtrpError} `ERR_LTRP_FILE_NOT_FOUND`, `ERR_LTRP_INVALID_ARGUMENT`.
 */
export async function loadSelectorModules(files: readonly string[]): Promise<void> {
  for (const file of new Set(files.map((each) => resolve(each)))) {
    if (loaded.has(file)) continue;
    if (!existsSync(file)) throw notFound(`There is no module ${file}.`);
    const before = Object.keys(selectors).length;
    try {
      const module = (await import(pathToFileURL(file).href)) as { default?: unknown };
      const own = module.default as (Selector & { name: string }) | undefined;
      // Whose module has named it already has done so for others.
      if (own !== undefined && !Object.values(selectors).includes(own))
        registerSelector(own.name, own);
    } catch (cause) {
      throw invalid(`The module ${file} adds no selector: ${messageOf(cause)}`, cause);
    }
    if (Object.keys(selectors).length === before) {
      throw invalid(
        `The module ${file} adds no selector; it must export one with a name as its default, or call registerSelector.`,
      );
    }
    loaded.add(file);
  }
}
