/** How a module of this package runs in a process of its own. */
import { extname } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

/**
 * Arguments and environment for `process.execPath`.
 *
 * @param name - of the module, without extension.
 * @param beside - `import.meta.url` of a module in the same folder.
 */
export function ownProcess(
  name: string,
  beside: string,
): { args: string[]; env: NodeJS.ProcessEnv } {
  // The sources as they are, where a loader for TypeScript runs them.
  const extension = extname(beside);
  const main = fileURLToPath(new URL(`${name}${extension}`, beside));
  const loader = extension === '.ts' ? process.execArgv : [];
  // In Electron the program is Node only where it is told to be.
  return { args: [...loader, main], env: { ...process.env, ELECTRON_RUN_AS_NODE: '1' } };
}
