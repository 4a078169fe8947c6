/** Files that a call is about to write. */
import { lstatSync } from 'node:fs';
import { LtrpError } from './errors.js';

/** @throws {LtrpError} `ERR_LTRP_FILE_EXISTS` when there is something at `path`. */
export function refuseExisting(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false }) === undefined) return;
  throw new LtrpError(
    'ERR_LTRP_FILE_EXISTS',
    `${path} is there already; choose another name, or ask for it to be replaced (overwrite: true, or --force).`,
  );
}
