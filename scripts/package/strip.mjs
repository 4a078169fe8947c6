/** Binaries without symbols, and their debug symbols in files beside the packages. */
import { copyFileSync, mkdirSync } from 'node:fs';
import path from 'node:path';
import { root, run } from '../setup/say.mjs';

/** Debug symbols: kept to read a crash of a published package, but not part of it. */
export const symbolFolder = path.join(root, 'build', 'packages', 'symbols');

/**
 * Copies a binary into `folder` without symbols; those go to {@link symbolFolder}, under the name that the binary carries
 * in its .gnu_debuglink, where gdb looks for it. Returns the copy's path.
 */
export async function stripInto(file, folder) {
  mkdirSync(folder, { recursive: true });
  mkdirSync(symbolFolder, { recursive: true });
  const name = path.basename(file);
  const copy = path.join(folder, name);
  copyFileSync(file, copy);
  if (process.platform !== 'linux') {
    await run('strip', ['-Sx', copy]);
    return copy;
  }
  const symbols = path.join(symbolFolder, `${name}.debug`);
  await run('objcopy', ['--only-keep-debug', '--compress-debug-sections', file, symbols]);
  await run('strip', ['--strip-unneeded', copy]);
  // objcopy notes the name and a checksum; it must find the file to compute it.
  await run('objcopy', ['--remove-section=.gnu_debuglink', `--add-gnu-debuglink=${symbols}`, copy]);
  return copy;
}
