/** `ltrp libtorch install | where | use | remove`: the LibTorch in the user's cache and the choice of another one. */
import { existsSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Command } from 'commander';
import { LtrpError, libtorchInvalid } from '../errors.js';
import { inspectLibtorch } from '../libtorch/inspect.js';
import {
  installLibtorch,
  removeLibtorch,
  type InstallOptions,
  type InstallResult,
} from '../libtorch/install.js';
import { buildable, decideLibtorch, selectedLibtorch, selectionFile } from '../libtorch/find.js';
import { libtorchCacheFolder } from '../libtorch/folders.js';
import { coreCommand, coreFiles } from '../native/paths.js';
import { candidateLine } from './doctor.js';
import { exitCodes } from './exit-codes.js';
import { interruptSignal } from './interrupt.js';
import { invalid } from '../validation.js';
import { option } from './options.js';

export function register(program: Command): void {
  const command = program
    .command('libtorch')
    .description('fetch, find or choose the LibTorch that ltrp runs on')
    .addHelpText(
      'after',
      `
ltrp searches for LibTorch in this order: the libtorch option; the variables LIBTORCH_LIB and LIBTORCH;
the folder set by \`ltrp libtorch use\`; Python's torch (VIRTUAL_ENV, CONDA_PREFIX, python3; required
with LIBTORCH_USE_PYTORCH=1); system folders; the cache that \`ltrp libtorch install\` fills:
${libtorchCacheFolder()}`,
    );
  registerInstall(command);
  registerWhere(command);
  registerUse(command);
  command
    .command('remove')
    .description('delete what `ltrp libtorch install` fetched')
    .action(async () => {
      const { folders, selection } = await removeLibtorch({
        log: (line) => process.stderr.write(`${line}\n`),
        signal: interruptSignal(),
      });
      const lines = folders.map((folder) => `Removed ${folder}`);
      if (selection !== null) lines.push(`LibTorch is searched for in the usual places again.`);
      process.stdout.write(`${lines.join('\n') || 'There is nothing to remove.'}\n`);
    });
}

interface InstallCommandOptions {
  from?: string;
  force?: true;
  unverified?: true;
  cuda?: true;
  buildOnly?: true;
}

function registerInstall(command: Command): void {
  command
    .command('install')
    .description("fetch LibTorch for this system's processor into the cache (about 200 MB)")
    .option(
      '--cuda',
      'the build for NVIDIA GPUs, with the NVIDIA libraries it needs (2.8 GB; 4.3 GB on disk)',
    )
    .addOption(
      option(
        '--build-only',
        "with --cuda: leave out NVIDIA's libraries, which a build does not need",
      ),
    )
    .addOption(
      option(
        '--from <source>',
        "'pip', 'archive', or a local wheel or LibTorch archive (default: the package indexes, then the archive)",
      ),
    )
    .option('--force', 'fetch it again')
    .option('--unverified', 'accept a download whose SHA-256 is not known')
    .addHelpText(
      'after',
      `
The wheel comes from pip's package index, then from PyTorch's, then (with --unverified) from the official
archive. Python is not needed, but pip is asked if an index cannot be read, for example one with a password.
Proxies are those of http_proxy, https_proxy and no_proxy, or npm's. After an interruption, run it again: it
continues where it was. The CPU build and the GPU build coexist; \`ltrp doctor\` says which one is used.`,
    )
    .action(async (options: InstallCommandOptions) => {
      if (options.buildOnly === true && options.cuda !== true) {
        throw invalid('--build-only needs --cuda.');
      }
      const { cuda, ...given } = options;
      const result = await fetchLibtorch({ ...given, device: cuda === true ? 'cuda' : 'cpu' });
      process.stdout.write(`${result.said}\n`);
      const selected = selectedLibtorch(process.env);
      if (selected !== null && path.relative(result.path, selected).startsWith('..')) {
        process.stderr.write(
          `It is not used: ${selected} was chosen by \`ltrp libtorch use\`; \`npx ltrp libtorch use auto\` forgets that.\n`,
        );
      }
      if (options.cuda === true && !coreFiles().some((core) => core.variant === result.variant)) {
        process.stdout.write(
          `There is no core for it yet: \`${coreCommand(result.variant)}\` brings it.\n`,
        );
      }
    });
}

/** {@link installLibtorch} with its progress on standard error; `said` is how it ended. */
export async function fetchLibtorch(
  options: InstallOptions,
): Promise<InstallResult & { readonly said: string }> {
  const progress = progressLine();
  const { log, update: onProgress } = progress;
  const result = await installLibtorch({ ...options, log, onProgress, signal: interruptSignal() });
  progress.end();
  const what = result.installed ? 'is installed in' : 'is there already:';
  const said = `LibTorch ${result.version} (${result.variant}) ${what} ${result.path}`;
  return { ...result, said };
}

function registerWhere(command: Command): void {
  command
    .command('where')
    .description('print the folder of the LibTorch that is used, and why')
    .option('--json', 'print the decision as JSON')
    .option('--build', 'the one that `npm run build` would use')
    .option('--cuda', 'with --build: the one that `npm run build -- --cuda` would use')
    .action(async (options: { json?: true; build?: true; cuda?: true }) => {
      const building = options.build === true;
      const accept = building
        ? buildable.filter(({ variant }) => (variant !== 'cpu') === (options.cuda === true))
        : coreFiles();
      const { chosen, candidates, error } = await decideLibtorch({ accept, needHeaders: building });
      if (options.json === true) {
        const problem = error === null ? null : { code: error.code, message: error.message };
        const value = { libtorch: chosen, candidates, error: problem };
        process.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
        if (error !== null) process.exitCode = exitCodes.failed;
        return;
      }
      if (chosen === null) throw error ?? new LtrpError('ERR_LTRP_INTERNAL', 'No decision.');
      process.stdout.write(`${chosen.root}\n`);
      process.stderr.write(`${candidates.map(candidateLine).join('\n')}\n`);
    });
}

function registerUse(command: Command): void {
  command
    .command('use')
    .argument('<folder>', "a LibTorch folder, or 'auto' to search again")
    .description('use this LibTorch from now on')
    .option('--force', 'accept one for which this installation has no core yet')
    .action(async (folder: string, options: { force?: true }) => {
      const file = selectionFile();
      if (folder === 'auto' && !existsSync(folder)) {
        await rm(file, { force: true });
        process.stdout.write('LibTorch is searched for in the usual places again.\n');
        return;
      }
      if (folder === '') {
        throw invalid("use takes a folder or 'auto'; got ''.");
      }
      const root = path.resolve(folder);
      const inspection = inspectLibtorch(root);
      if (!inspection.ok) {
        throw libtorchInvalid(`${root} is not a usable LibTorch: ${inspection.reason}.`);
      }
      const { version, minor, variant } = inspection.libtorch;
      if (!buildable.some((item) => item.minor === minor && item.variant === variant)) {
        const works = buildable.map((item) => `${item.minor} (${item.variant})`).join(', ');
        throw libtorchInvalid(
          `${root} is LibTorch ${version} (${variant}); this version of ltrp works with ${works}.`,
        );
      }
      const cores = coreFiles();
      const hasCore = cores.some((core) => core.minor === minor && core.variant === variant);
      const brings = `\`${coreCommand(variant)}\` brings it`;
      if (!hasCore && options.force !== true) {
        const there = cores.map((core) => `${core.minor} (${core.variant})`).join(', ');
        throw libtorchInvalid(
          `${root} is LibTorch ${version} (${variant}), for which this installation has no core (it has ${there === '' ? 'none' : there}). If ${brings}, do that first; --force chooses it anyway.`,
        );
      }
      await mkdir(path.dirname(file), { recursive: true });
      const { default: writeFileAtomic } = await import('write-file-atomic');
      await writeFileAtomic(file, `${JSON.stringify({ path: root }, null, 2)}\n`);
      process.stdout.write(`LibTorch ${version} in ${root} is used from now on (${file}).\n`);
      if (!hasCore) {
        process.stdout.write(
          `There is no core for LibTorch ${minor} (${variant}) yet: \`${coreCommand(variant)}\` brings it.\n`,
        );
      }
    });
}

/** News and percentages on standard error: on a terminal one line that changes, else a line every 10 %. */
export function progressLine(): {
  log: (line: string) => void;
  update: (what: string, done: number, total: number | null) => void;
  end: () => void;
} {
  const { isTTY } = process.stderr;
  const step = isTTY ? 1 : 10;
  let open = false;
  let shown = '';
  const end = (): void => {
    if (open) process.stderr.write('\n');
    open = false;
  };
  return {
    log: (line) => {
      end();
      process.stderr.write(`${line}\n`);
    },
    update: (what, done, total) => {
      if (total === null) return;
      const percent = step * Math.floor((100 * done) / total / step);
      const text = `  ${what} ${percent}%`;
      if (text === shown) return;
      shown = text;
      open = isTTY;
      if (isTTY) process.stderr.write(`\r${text}`);
      else if (percent > 0) process.stderr.write(`${text}\n`);
      if (done >= total) end();
    },
    end,
  };
}
