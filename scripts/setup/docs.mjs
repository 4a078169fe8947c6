/** `npm run docs`: the API reference out of the doc comments, by typedoc as typedoc.json says. Warnings are errors. */
import { ensurePackages } from './packages.mjs';
import { runPackage, step } from './say.mjs';

export async function makeDocs(args) {
  await ensurePackages();
  await step('Writing docs/api', () => runPackage('typedoc/bin/typedoc', args));
}
