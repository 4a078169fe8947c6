/** Machine code of the CUDA kernels, and what the documents say of it. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { CompiledFile } from '../../scripts/cuda/compile.js';

const run = promisify(execFile);

/** Instructions of each kernel of a cubin by symbol, as `nvdisasm` writes them: `LDG.E.128`, `@!P0 STS`, without operands. */
export async function disassemble(
  nvdisasm: string,
  cubin: string,
): Promise<Map<string, readonly string[]>> {
  const { stdout } = await run(nvdisasm, ['-c', '-novliw', cubin], { maxBuffer: 2 ** 28 }).catch(
    // Architectures with fixed-length instructions know no such option.
    () => run(nvdisasm, ['-c', cubin], { maxBuffer: 2 ** 28 }),
  );
  return parseSass(stdout);
}

export function parseSass(text: string): Map<string, readonly string[]> {
  const kernels = new Map<string, string[]>();
  let current: string[] | null = null;
  for (const line of text.split('\n')) {
    const section = /^\.text\.([\w$]+):/.exec(line)?.[1];
    if (section !== undefined) {
      current = [];
      kernels.set(section, current);
      continue;
    }
    const instruction = /^\s+\/\*[0-9a-f]{4,}\*\/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)/.exec(line)?.[1];
    if (instruction !== undefined) current?.push(instruction);
  }
  return kernels;
}

export interface InstructionClaim {
  /** Matches the kernel's name as {@link KernelResources.name} has it. */
  readonly kernel: RegExp;
  /** Mnemonics, each a beginning up to a full stop: `LDG.E.128` is in `LDG.E.128.CONSTANT`, `LDG` is in both. */
  readonly has?: readonly string[];
  readonly hasNot?: readonly string[];
}

/** What is wrong with `claim`, one sentence each; a claim about no kernel at all is wrong as well. */
export function checkInstructions(
  compiled: CompiledFile,
  sass: ReadonlyMap<string, readonly string[]>,
  claim: InstructionClaim,
): string[] {
  const kernels = compiled.kernels.filter(({ name }) => claim.kernel.test(name));
  const where = `${compiled.file}, sm_${String(compiled.architecture)}`;
  if (kernels.length === 0) return [`${where}: no kernel is called ${String(claim.kernel)}`];
  const problems: string[] = [];
  for (const { name, symbol } of kernels) {
    const instructions = sass.get(symbol);
    if (instructions === undefined || instructions.length === 0) {
      problems.push(`${where}: ${name} has no instructions`);
      continue;
    }
    const occurs = (wanted: string): boolean =>
      instructions.some((found) => found === wanted || found.startsWith(`${wanted}.`));
    for (const wanted of claim.has ?? []) {
      if (!occurs(wanted)) problems.push(`${where}: ${name} has no ${wanted}`);
    }
    for (const unwanted of claim.hasNot ?? []) {
      if (occurs(unwanted)) problems.push(`${where}: ${name} has ${unwanted}`);
    }
  }
  return problems;
}

/** What the documents of the kernels say about their machine code. Checked by test/cuda-resources.test.ts. */
export interface FileClaim extends InstructionClaim {
  /** File name in native/kernels/cuda; `*` for all. */
  readonly file: string;
}

export const claims: readonly FileClaim[] = [
  // Registers only: neither spills nor arrays that are indexed at run time. Deterministic: no additions by atomics.
  { file: '*', kernel: /./, hasNot: ['LDL', 'STL', 'RED', 'ATOMG.E.ADD'] },
  // 16 bytes at a time out of shared memory, float32 multiply-adds, the hardware's exponential; no tensor cores.
  {
    file: 'attention.cu',
    kernel: /^attention_kernel/,
    has: ['LDS.128', 'FFMA', 'MUFU.EX2'],
    hasNot: ['HMMA'],
  },
  // bfloat16 tensor cores that add up in float32.
  { file: 'attention_split.cu', kernel: /./, has: ['HMMA.16816.F32.BF16', 'MUFU.EX2'] },
];
