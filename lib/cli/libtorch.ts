/** `ltrp libtorch install | where | use | remove`: the LibTorch in the user's cache and the choice of another one. */
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Option, type Command } from 'commander';
import { LtrpError } from '../errors.js';
import { inspectLibtorch } from '../native/libtorch-inspect.js';
import { installLibtorch, removeLibtorch } from '../native/libtorch-install.js';
import { buildable, decideLibtorch, selectedLibtorch, selectionFile } from '../native/libtorch.js';
import { coreCommand, coreFiles, libtorchCacheFolder } from '../native/paths.js';
import { candidateLine } from './doctor.js';
import { exitCodes } from './exit-codes.js';
import { interruptSignal } from './interrupt.js';

export function register(program: Command): void {
  const command = program
    .command('libtorch')
    .description('fetch, find or choose the LibTorch that ltrp runs on')
    .addHelpText(
      'after',
      `
LibTorch is searched for in this order: the libtorch option; the variables LIBTORCH_LIB and LIBTORCH;
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
      new Option(
        '--build-only',
        "with --cuda: leave out NVIDIA's libraries, which only running needs",
      ),
    )
    .addOption(
      new Option(
        '--from <source>',
        "'pip', 'archive', or a wheel or LibTorch archive that is here already (default: the package indexes, then the archive)",
      ),
    )
    .option('--force', 'fetch again although it is there')
    .option(
      '--unverified',
      'take what is fetched although no SHA-256 of it is known to compare with',
    )
    .addHelpText(
      'after',
      `
The wheel is taken from the package index that pip is configured with, then from PyTorch's own (Python
is not needed for that, but pip is asked where an index cannot be read: one with a password, say); then,
with --unverified, the official archive. Proxies are those of http_proxy, https_proxy and no_proxy, or npm's. Run it again after an interruption: it continues where it was.
The CPU build and the one for GPUs lie side by side; which one is used is said by \`ltrp doctor\`.`,
    )
    .action(async (options: InstallCommandOptions) => {
      if (options.buildOnly === true && options.cuda !== true) {
        throw new LtrpError('ERR_LTRP_INVALID_ARGUMENT', '--build-only goes with --cuda.');
      }
      const progress = progressLine();
      const result = await installLibtorch({
        from: options.from,
        force: options.force,
        unverified: options.unverified,
        device: options.cuda === true ? 'cuda' : 'cpu',
        buildOnly: options.buildOnly,
        log: progress.log,
        onProgress: progress.update,
        signal: interruptSignal(),
      });
      progress.end();
      const what = result.installed ? 'is installed in' : 'is there already:';
      process.stdout.write(
        `LibTorch ${result.version} (${result.variant}) ${what} ${result.path}\n`,
      );
      const selected = selectedLibtorch(process.env);
      if (selected !== null && path.relative(result.path, selected).startsWith('..')) {
        process.stderr.write(
          `It is not used: ${selected} was chosen by \`ltrp libtorch use\`; \`ltrp libtorch use auto\` forgets that.\n`,
        );
      }
      if (options.cuda === true && !coreFiles().some((core) => core.variant === result.variant)) {
        process.stdout.write(
          `There is no core for it yet: \`${coreCommand(result.variant)}\` brings it.\n`,
        );
      }
    });
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
    .option('--force', 'even one that this installation has no core for yet')
    .action(async (folder: string, options: { force?: true }) => {
      const file = selectionFile();
      if (folder === 'auto' && !existsSync(folder)) {
        await rm(file, { force: true });
        process.stdout.write('LibTorch is searched for in the usual places again.\n');
        return;
      }
      const root = path.resolve(folder);
      const inspection = inspectLibtorch(root);
      if (!inspection.ok) {
        throw new LtrpError(
          'ERR_LTRP_LIBTORCH_INVALID',
          `${root} is not a usable LibTorch: ${inspection.reason}.`,
        );
      }
      const { version, minor, variant } = inspection.libtorch;
      if (!buildable.some((item) => item.minor === minor && item.variant === variant)) {
        const works = buildable.map((item) => `${item.minor} (${item.variant})`).join(', ');
        throw new LtrpError(
          'ERR_LTRP_LIBTORCH_INVALID',
          `${root} is LibTorch ${version} (${variant}); this version of ltrp works with ${works}.`,
        );
      }
      const cores = coreFiles();
      const hasCore = cores.some((core) => core.minor === minor && core.variant === variant);
      const brings = `\`${coreCommand(variant)}\` brings it`;
      if (!hasCore && options.force !== true) {
        const there = cores.map((core) => `${core.minor} (${core.variant})`).join(', ');
        throw new LtrpError(
          'ERR_LTRP_LIBTORCH_INVALID',
          `${root} is LibTorch ${version} (${variant}), which this installation has no core for (it has ${there === '' ? 'none' : there}). Where ${brings}, do that first; --force chooses it all the same.`,
        );
      }
      await mkdir(path.dirname(file), { recursive: true });
      await writeFile(file, `${JSON.stringify({ path: root }, null, 2)}\n`);
      process.stdout.write(`LibTorch ${version} in ${root} is used from now on (${file}).\n`);
      if (!hasCore) {
        process.stdout.write(
          `There is no core for LibTorch ${minor} (${variant}) yet: \`${coreCommand(variant)}\` brings it.\n`,
        );
      }
    });
}

/** News and percentages on standard error: on a terminal one line that changes, else a line every 10 %. */
function progressLine(): {
  log: (line: string) => void;
  update: (what: 'download' | 'unpack', done: number, total: number | null) => void;
  end: () => void;
} {
  let open = false;
  let last = -1;
  let lastWhat = '';
  const end = (): void => {
    if (open) process.stderr.write('\n');
    open = false;
    if (process.stderr.isTTY) last = -1;
  };
  return {
    log: (line) => {
      end();
      process.stderr.write(`${line}\n`);
    },
    update: (what, done, total) => {
      if (total === null) return;
      const percent = Math.floor((100 * done) / total);
      if (!process.stderr.isTTY) {
        const step = 10 * Math.floor(percent / 10);
        // That it begins was said; a second file of the same kind begins anew.
        if (what !== lastWhat || step < last) last = 0;
        lastWhat = what;
        if (step <= last) return;
        last = step;
        process.stderr.write(`  ${what} ${String(step)}%\n`);
        return;
      }
      if (percent === last) return;
      last = percent;
      open = true;
      process.stderr.write(`\r  ${what} ${String(percent)}%`);
      if (done >= total) end();
    },
    end,
  };
}
