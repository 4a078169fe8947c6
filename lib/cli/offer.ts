/** A command that finds no LibTorch offers to fetch it, on a terminal or after `--yes`. */
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import { LtrpError } from '../errors.js';
import { hasNvidiaDriver } from '../libtorch/find.js';
import { libtorchCacheFolder } from '../libtorch/folders.js';
import { gigabytes } from '../libtorch/install.js';
import { releaseFor, type LibtorchRelease } from '../libtorch/releases.js';
import { coreFiles } from '../native/paths.js';
import { interruptSignal } from './interrupt.js';
import { fetchLibtorch } from './libtorch.js';

let agreed = false;

/** Adds `--yes` to the commands that compute. */
export function addYes(command: Command): void {
  if (command.options.some(({ long }) => long === '--libtorch') && command.name() !== 'doctor') {
    command.option('--yes', 'fetch LibTorch without asking where none is found');
  }
}

/** Removes `--yes` from the options of the running command: it is not a setting of its work. */
export function takeYes(command: Command): void {
  agreed = command.getOptionValue('yes') === true;
  command.setOptionValue('yes', undefined);
}

/** After a command failed with `error`: true when LibTorch was what it lacked and is there now, so that it can run again. */
export async function broughtLibtorch(error: unknown): Promise<boolean> {
  if (!(error instanceof LtrpError) || error.code !== 'ERR_LTRP_LIBTORCH_NOT_FOUND') return false;
  const device = hasNvidiaDriver() && coreFor('cuda') !== null ? 'cuda' : 'cpu';
  const release = coreFor(device);
  if (release === null || !(agreed || (await accepted(question(release))))) return false;
  process.stderr.write(`${(await fetchLibtorch({ device })).said}\n`);
  return true;
}

/** The release that can be fetched and used here, of known content; else null. */
function coreFor(device: 'cpu' | 'cuda'): LibtorchRelease | null {
  const release = releaseFor(process.platform, process.arch, device);
  if (release === null || Object.keys(release.wheelSha256).length === 0) return null;
  const { version, variant } = release;
  const usable = coreFiles().some(
    (core) => core.variant === variant && version.startsWith(`${core.minor}.`),
  );
  return usable ? release : null;
}

function question({ version, description, nvidia }: LibtorchRelease): string {
  const more = nvidia.reduce((sum, { size }) => sum + size, 0);
  const size =
    more === 0 ? description : `${description}, and NVIDIA's libraries, ${gigabytes(more)}`;
  return `No LibTorch was found. Fetch LibTorch ${version} (${size}) into ${libtorchCacheFolder()}? [Y/n] `;
}

/** False without a terminal, because there is nobody to ask. */
async function accepted(text: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) return false;
  // The terminal edits the line and turns Ctrl-C into a signal by itself.
  const lines = createInterface({ input: process.stdin, output: process.stderr, terminal: false });
  const closed = new Promise<string>((resolve) => lines.once('close', () => resolve('no')));
  try {
    const answer = await Promise.race([
      lines.question(text, { signal: interruptSignal() }),
      closed,
    ]);
    return /^\s*(y|yes)?\s*$/i.test(answer);
  } finally {
    lines.close();
  }
}
