/** What the documents of the kernels say about their machine code. Checked by test/cuda-resources.test.ts. */
import type { InstructionClaim } from './compile.js';

export interface FileClaim extends InstructionClaim {
  /** File name in native/kernels/cuda; `*` for all. */
  readonly file: string;
}

export const claims: readonly FileClaim[] = [
  // Registers only: neither spills nor arrays that are indexed at run time.
  { file: '*', kernel: /./, hasNot: ['LDL', 'STL'] },
];
