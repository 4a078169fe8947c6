/** `ltrp doctor`: what would be used here and why, for people and for bug reports. */
import os from 'node:os';
import type { Command } from 'commander';
import { isNonGlibcLinuxSync, versionSync } from 'detect-libc';
import { toLtrpError } from '../errors.js';
import type { CoreInfo } from '../native/binding.js';
import { decideLibtorch, type Libtorch, type LibtorchCandidate } from '../libtorch/find.js';
import { loadCore, loadedCore } from '../native/loader.js';
import { libtorchCacheFolder } from '../libtorch/folders.js';
import { bootstrapFile, coreFiles, packageVersion } from '../native/paths.js';
import { exitCodes } from './exit-codes.js';
import { processorLine } from './processor.js';

export interface DoctorReport {
  readonly ok: boolean;
  readonly ltrp: string;
  readonly node: string;
  readonly platform: string;
  readonly libc: string | null;
  readonly cpu: { readonly model: string; readonly logicalCores: number; readonly memory: number };
  readonly bootstrap: string | null;
  readonly cores: readonly { readonly minor: string; readonly variant: string; path: string }[];
  /** The core that was loaded. */
  readonly core: string | null;
  readonly libtorch: Libtorch | null;
  readonly candidates: readonly LibtorchCandidate[];
  /** What the processor offers and what a better one would; null if the core could not be loaded. */
  readonly processor: string | null;
  /** null when the core could not be loaded. */
  readonly info: CoreInfo | null;
  readonly device: string | null;
  readonly error: { readonly code: string; readonly message: string } | null;
}

/** Looks, loads the core, and reports; does not reject. */
export async function examine(
  options: { libtorch?: string | undefined } = {},
): Promise<DoctorReport> {
  const cores = coreFiles();
  const decision = await decideLibtorch({ explicit: options.libtorch, accept: cores });
  let info: CoreInfo | null = null;
  let error: DoctorReport['error'] = null;
  try {
    info = (await loadCore(options)).info();
  } catch (thrown) {
    const { code, message } = toLtrpError(thrown);
    error = { code, message };
  }
  const processors = os.cpus();
  return {
    ok: error === null,
    ltrp: packageVersion(),
    node: process.versions.node,
    platform: `${process.platform}-${process.arch}`,
    libc: libc(),
    cpu: {
      model: processors[0]?.model.trim() ?? 'unknown',
      logicalCores: os.availableParallelism(),
      memory: os.totalmem(),
    },
    bootstrap: bootstrapFile(),
    cores,
    core: loadedCore()?.corePath ?? null,
    libtorch: decision.chosen,
    candidates: decision.candidates,
    processor: info === null ? null : processorLine(info),
    info,
    device: info?.autoDevice ?? null,
    error,
  };
}

function libc(): string | null {
  if (process.platform !== 'linux') return null;
  return isNonGlibcLinuxSync() ? 'not glibc' : `glibc ${versionSync() ?? 'unknown'}`;
}

/** One candidate on one line: mark, step of the search, folder, reason. */
export function candidateLine(candidate: LibtorchCandidate): string {
  const marks = { chosen: '->', refused: ' x', absent: ' -', unused: '  ' } as const;
  const version = candidate.version === null ? '' : ` (${candidate.version})`;
  const place = candidate.path === null ? '' : ` ${candidate.path}${version}`;
  const verdict = candidate.verdict === 'chosen' ? 'chosen' : candidate.reason;
  return `${marks[candidate.verdict]} ${candidate.source}${place}: ${verdict}`;
}

/** What each precision means on this processor. */
export function precisionLine(precisions: CoreInfo['precisions']): string {
  return Object.entries(precisions)
    .map(([wanted, effective]) =>
      wanted === effective
        ? wanted
        : `${wanted} falls back to ${effective} (no instructions for it here)`,
    )
    .join(', ');
}

/** Which GPUs can be used, and why others cannot. */
export function acceleratorLine(
  info: Pick<CoreInfo, 'accelerators' | 'acceleratorProblem'>,
): string {
  const { accelerators, acceleratorProblem } = info;
  if (accelerators.length === 0) return `none: ${acceleratorProblem ?? 'unknown reason'}`;
  return accelerators
    .map(({ name, model, computeCapability, memory, problem }) => {
      const size = `${(memory / 2 ** 30).toFixed(1)} GiB`;
      const what = `${name} ${model} (compute capability ${computeCapability}, ${size})`;
      return problem === null ? what : `${what} is not used: ${problem}`;
    })
    .join('; ');
}

function print(report: DoctorReport): string {
  const { info } = report;
  const rows: [string, string][] = [
    ['ltrp', report.ltrp],
    ['Node', `${report.node}, ${report.platform}${report.libc === null ? '' : `, ${report.libc}`}`],
    [
      'Machine',
      `${report.cpu.model}, ${report.cpu.logicalCores} logical cores, ${(report.cpu.memory / 2 ** 30).toFixed(1)} GiB memory`,
    ],
    ['Bootstrap', report.bootstrap ?? 'not built'],
    [
      'Cores built',
      report.cores.length === 0
        ? 'none'
        : report.cores.map((core) => `${core.minor}-${core.variant}`).join(', '),
    ],
  ];
  if (report.libtorch !== null) {
    const { version, variant, libFolder, source } = report.libtorch;
    rows.push(['LibTorch', `${version} (${variant}), ${libFolder}, from: ${source}`]);
  }
  if (report.processor !== null) rows.push(['Processor', report.processor]);
  if (info !== null) {
    rows.push(
      ['Core', `${info.coreVersion} (${info.variant}), ${report.core ?? ''}`],
      ['Versions', `compiled against ${info.torchVersion}, running on ${info.torchRuntimeVersion}`],
      [
        'Instructions',
        `${info.cpuCapability} kernels in LibTorch, ${info.simd} in ltrp; the processor has ${info.cpuFeatures.join(', ') || 'none of those asked for'}`,
      ],
      ['Precisions', precisionLine(info.precisions)],
      ['Libraries', `MKL ${info.mkl ? 'yes' : 'no'}, oneDNN ${info.onednn ? 'yes' : 'no'}`],
      ['Devices', `${info.devices.join(', ')}; 'auto' means ${info.autoDevice}`],
      ['GPU', acceleratorLine(info)],
    );
    if (info.recordingProblem !== null)
      rows.push(['Recording', `not on ${info.autoDevice}: ${info.recordingProblem}`]);
    rows.push(['Threads', String(info.threads)]);
  }
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  const lines = rows.map(([name, value]) => name.padEnd(width) + value);
  lines.push('', 'Search for LibTorch, in this order:', ...report.candidates.map(candidateLine));
  if (report.error !== null) {
    lines.push('', `Not usable (${report.error.code}): ${report.error.message}`);
  } else {
    lines.push('', 'All is well.');
  }
  return `${lines.join('\n')}\n`;
}

export function register(program: Command): void {
  program
    .command('doctor')
    .description('print which LibTorch, processor features, device and threads are used, and why')
    .option('--libtorch <folder>', 'examine this LibTorch instead of searching')
    .option('--json', 'print the report as JSON')
    .addHelpText(
      'after',
      `
Prints where it searched for LibTorch, which copy it chose and why it refused the others, the versions,
the processor's capabilities, the device and the number of threads.
The cache of \`ltrp libtorch install\` is ${libtorchCacheFolder()}.

Exit codes:
  0  the core loads
  1  it does not load; the last lines say what to do`,
    )
    .action(async (options: { libtorch?: string; json?: true }) => {
      const report = await examine(options);
      process.stdout.write(
        options.json === true ? `${JSON.stringify(report, null, 2)}\n` : print(report),
      );
      if (!report.ok) process.exitCode = exitCodes.failed;
    });
}
