/** A JSON file that says what a folder holds. */
import { readFile } from 'node:fs/promises';
import { runDamaged } from './errors.js';

/**
 * Null where there is none.
 *
 * @param what - that it should be, in words; `things`: what is stored anew where it cannot be read.
 * @param isGood - whether the fields that are read later are there.
 * @throws {LtrpError} `ERR_LTRP_RUN_DAMAGED`.
 */
export async function readManifest<Manifest>(
  file: string,
  { what, things }: { what: string; things: string },
  isGood: (manifest: Partial<Manifest> | null) => boolean,
): Promise<Manifest | null> {
  let why = `it is not ${what}`;
  try {
    const manifest = JSON.parse(await readFile(file, 'utf8')) as Partial<Manifest> | null;
    if (isGood(manifest)) return manifest as Manifest;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return null;
    why = (cause as Error).message.slice(0, 200);
  }
  throw runDamaged(`${file} cannot be read: ${why}. Store the ${things} again in another folder.`);
}
