/** Limits of a multiprocessor, and whether a kernel keeps its own promises. */
import { alignedRows } from '../../lib/cli/numbers.js';
import type { CompiledFile, KernelResources } from './compile.js';

/** Of one multiprocessor (CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"). */
interface Multiprocessor {
  readonly threads: number;
  readonly blocks: number;
  /** Bytes of shared memory; each resident block takes 1 KiB more than it asks for. */
  readonly sharedBytes: number;
}

const registersPerMultiprocessor = 65_536;
const registersPerThread = 255;
const staticSharedPerBlock = 48 * 1024;
const reservedPerBlock = 1024;

const multiprocessors: Readonly<Record<number, Multiprocessor>> = {
  80: { threads: 2048, blocks: 32, sharedBytes: 164 * 1024 },
  86: { threads: 1536, blocks: 16, sharedBytes: 100 * 1024 },
  89: { threads: 1536, blocks: 24, sharedBytes: 100 * 1024 },
  90: { threads: 2048, blocks: 32, sharedBytes: 228 * 1024 },
  100: { threads: 2048, blocks: 32, sharedBytes: 228 * 1024 },
  120: { threads: 1536, blocks: 24, sharedBytes: 100 * 1024 },
};

function multiprocessor(architecture: number): Multiprocessor {
  const found = multiprocessors[architecture];
  if (found === undefined) throw new Error(`Nothing is known here of sm_${String(architecture)}.`);
  return found;
}

/** Blocks of a kernel that fit on a multiprocessor at its largest block, by threads, registers and static shared memory. */
export function residentBlocks(kernel: KernelResources, architecture: number): number {
  const has = multiprocessor(architecture);
  const threads = kernel.maxThreads ?? 1024;
  const warps = Math.ceil(threads / 32);
  // Registers are given to warps in units of 256.
  const registers = Math.ceil((kernel.registers * 32) / 256) * 256 * warps;
  return Math.min(
    has.blocks,
    Math.floor(has.threads / (warps * 32)),
    Math.floor(registersPerMultiprocessor / registers),
    Math.floor(has.sharedBytes / (kernel.sharedBytes + reservedPerBlock)),
  );
}

/** Share of a multiprocessor's threads that are resident at the kernel's largest block, without dynamic shared memory. */
export function occupancy(kernel: KernelResources, architecture: number): number {
  const threads = kernel.maxThreads ?? 1024;
  return (residentBlocks(kernel, architecture) * threads) / multiprocessor(architecture).threads;
}

/** A kernel's violations, one sentence each. */
export function resourceProblems(compiled: CompiledFile): string[] {
  const { architecture } = compiled;
  return compiled.kernels.flatMap((kernel) => {
    const problems: string[] = [];
    if (kernel.spillBytes > 0) problems.push(`spills ${String(kernel.spillBytes)} bytes`);
    if (kernel.stackBytes > 0) {
      problems.push(`keeps ${String(kernel.stackBytes)} bytes a thread in local memory`);
    }
    if (kernel.registers > registersPerThread) problems.push('has more registers than there are');
    if (kernel.sharedBytes > staticSharedPerBlock) {
      problems.push(`declares ${String(kernel.sharedBytes)} bytes of shared memory`);
    }
    if (kernel.maxThreads === null) {
      problems.push('states no __launch_bounds__');
    } else if (kernel.maxThreads > 1024) {
      problems.push(`states blocks of ${String(kernel.maxThreads)} threads`);
    } else if (residentBlocks(kernel, architecture) < kernel.minBlocks) {
      problems.push(
        `fits ${String(residentBlocks(kernel, architecture))} times on a multiprocessor and states ${String(kernel.minBlocks)}`,
      );
    }
    return problems.map(
      (problem) => `${compiled.file}, sm_${String(architecture)}: ${kernel.name} ${problem}`,
    );
  });
}

/** A table for people. */
export function resourceTable(files: readonly CompiledFile[]): string {
  const rows = files.flatMap((compiled) =>
    compiled.kernels.map((kernel) => [
      `${compiled.file}: ${shorten(kernel.name, 60)}`,
      String(compiled.architecture),
      kernel.maxThreads === null ? '-' : String(kernel.maxThreads),
      `${String(residentBlocks(kernel, compiled.architecture))}/${String(kernel.minBlocks)}`,
      String(kernel.registers),
      String(kernel.sharedBytes),
      String(kernel.stackBytes),
      String(kernel.spillBytes),
      `${String(Math.round(100 * occupancy(kernel, compiled.architecture)))}%`,
    ]),
  );
  const header = 'kernel sm threads blocks regs smem local spill occupancy'.split(' ');
  return alignedRows([header, ...rows]);
}

function shorten(text: string, length: number): string {
  return text.length <= length ? text : `${text.slice(0, length - 1)}…`;
}
