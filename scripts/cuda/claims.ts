/** What the documents of the kernels say about their machine code. Checked by test/cuda-resources.test.ts. */
import type { InstructionClaim } from './compile.js';

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
