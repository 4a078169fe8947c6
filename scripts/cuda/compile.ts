/** A .cu file as ptxas sees it: machine code for one architecture, and what each kernel takes of a multiprocessor. */
import { execFile } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';

const run = promisify(execFile);

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
const kernelFolder = path.join(root, 'native', 'kernels', 'cuda');

/** One kernel (`__global__` function), compiled for one architecture. */
export interface KernelResources {
  /** As the linker knows it. */
  readonly symbol: string;
  /** As C++ writes it, without `ltrp::cuda::` and without parameters. */
  readonly name: string;
  readonly registers: number;
  /** Static shared memory in bytes; what a launch asks for comes on top. */
  readonly sharedBytes: number;
  /** Local memory in bytes a thread: arrays that are indexed at run time. */
  readonly stackBytes: number;
  readonly spillBytes: number;
  /** `__launch_bounds__`: threads of a block; null when the kernel states none. */
  readonly maxThreads: number | null;
  /** `__launch_bounds__`: blocks that are to fit on a multiprocessor; 1 when the kernel states none. */
  readonly minBlocks: number;
}

export interface CompiledFile {
  /** File name in native/kernels/cuda. */
  readonly file: string;
  readonly architecture: number;
  readonly kernels: readonly KernelResources[];
  /** Machine code, for {@link disassemble}. */
  readonly cubin: string;
}

/** The .cu files of native/kernels/cuda, by name. */
export function cudaSources(folder: string = kernelFolder): string[] {
  try {
    return readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.cu'))
      .sort()
      .map((name) => path.join(folder, name));
  } catch {
    return [];
  }
}

/**
 * Compiles `source` with the flags of the build for `sm_<architecture>` into `folder`. Throws with nvcc's words when it does
 * not compile.
 */
export async function compile(
  nvcc: string,
  source: string,
  architecture: number,
  folder: string,
): Promise<CompiledFile> {
  const stem = path.basename(source, '.cu');
  const place = path.join(folder, `${stem}-sm_${String(architecture)}`);
  await rm(place, { recursive: true, force: true });
  await mkdir(place, { recursive: true });
  const cubin = path.join(place, `${stem}.cubin`);
  const args = ['-cubin', '-O3', '-DNDEBUG', '-std=c++20', '-lineinfo'];
  args.push('-I', path.join(root, 'native'), `-arch=sm_${String(architecture)}`);
  // --keep leaves the PTX behind, which is where launch bounds are written down.
  args.push('-Xptxas', '-v', '--resource-usage', '--keep', '--keep-dir', place);
  args.push('-o', cubin, source);
  const { stderr } = await run(nvcc, args, { maxBuffer: 2 ** 28 });
  const ptx = await readFile(path.join(place, `${stem}.ptx`), 'utf8');
  const bounds = launchBounds(ptx);
  const usage = parsePtxas(stderr);
  const names = await demangle(usage.map(({ symbol }) => symbol));
  const kernels = usage.map((item, i) => ({
    ...item,
    name: names[i] ?? item.symbol,
    maxThreads: bounds.get(item.symbol)?.maxThreads ?? null,
    minBlocks: bounds.get(item.symbol)?.minBlocks ?? 1,
  }));
  writeFileSync(path.join(place, 'ptxas.txt'), stderr);
  return { file: path.basename(source), architecture, kernels, cubin };
}

/** {@link compile} for every source and architecture, as many at a time as there are processors; in order. */
export async function compileAll(
  nvcc: string,
  sources: readonly string[],
  architectures: readonly number[],
  folder: string,
): Promise<CompiledFile[]> {
  const work = sources.flatMap((source) => architectures.map((number) => ({ source, number })));
  const done: CompiledFile[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let i = next++; i < work.length; i = next++) {
      const item = work[i];
      if (item !== undefined) done[i] = await compile(nvcc, item.source, item.number, folder);
    }
  };
  await Promise.all(Array.from({ length: os.availableParallelism() }, worker));
  return done;
}

type Usage = Omit<KernelResources, 'name' | 'maxThreads' | 'minBlocks'>;

/** The report of `ptxas -v`. Functions that are no kernels (not inlined device functions) are left out. */
export function parsePtxas(text: string): Usage[] {
  const kernels: Usage[] = [];
  const number = (pattern: RegExp, within: string): number =>
    Number(pattern.exec(within)?.[1] ?? 0);
  const parts = text.split(/Compiling entry function '/).slice(1);
  for (const part of parts) {
    const symbol = part.slice(0, part.indexOf("'"));
    // The first properties and the first "Used" are the kernel's own.
    const properties =
      /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(part);
    const used = /Used (\d+) registers[^\n]*/.exec(part);
    if (properties === null || used === null) {
      throw new Error(`ptxas says nothing about ${symbol}: is -Xptxas -v missing?`);
    }
    kernels.push({
      symbol,
      registers: Number(used[1]),
      sharedBytes: number(/(\d+) bytes smem/, used[0]),
      stackBytes: Number(properties[1]),
      spillBytes: Number(properties[2]) + Number(properties[3]),
    });
  }
  return kernels;
}

/** `.maxntid` and `.minnctapersm` of each entry of a PTX file, by symbol. */
export function launchBounds(ptx: string): Map<string, { maxThreads: number; minBlocks: number }> {
  const bounds = new Map<string, { maxThreads: number; minBlocks: number }>();
  for (const match of ptx.matchAll(/\.entry\s+([\w$]+)\s*\([^)]*\)([^{]*)\{/g)) {
    const [, symbol = '', directives = ''] = match;
    const sizes = /\.maxntid\s+([\d, ]+)/.exec(directives)?.[1];
    if (sizes === undefined) continue;
    const maxThreads = sizes.split(',').reduce((product, size) => product * Number(size), 1);
    const minBlocks = Number(/\.minnctapersm\s+(\d+)/.exec(directives)?.[1] ?? 1);
    bounds.set(symbol, { maxThreads, minBlocks });
  }
  return bounds;
}

async function demangle(symbols: readonly string[]): Promise<string[]> {
  if (symbols.length === 0) return [];
  const result = await run('c++filt', ['-p', ...symbols]).catch(() => null);
  if (result === null) return [...symbols];
  return result.stdout
    .trimEnd()
    .split('\n')
    .map((name) =>
      name
        .replace(/^void /, '')
        .replaceAll('ltrp::cuda::', '')
        .replaceAll('(anonymous namespace)::', ''),
    );
}

/** nvcc's own version line. */
export async function nvccVersion(nvcc: string): Promise<string> {
  const { stdout } = await run(nvcc, ['--version']);
  return /release [\d.]+, V[\d.]+/.exec(stdout)?.[0] ?? stdout.trim();
}

/** Numbers of the whole matrix, as cmake/LtrpCuda.cmake has them. */
export function allArchitectures(): number[] {
  const text = readFileSync(path.join(root, 'cmake', 'LtrpCuda.cmake'), 'utf8');
  const list = /set\(CMAKE_CUDA_ARCHITECTURES ([\d\w\s-]+)\)/.exec(text)?.[1] ?? '';
  return list.split(/\s+/).map((item) => Number.parseInt(item, 10));
}
