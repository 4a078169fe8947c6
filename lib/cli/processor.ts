/** `ltrp doctor`'s line on the processor: what it gives, and what a better one would. */
import type { CoreInfo, CpuLevel } from '../native/binding.js';

interface Level {
  readonly name: string;
  readonly int8: boolean;
  readonly bfloat16: boolean;
}

/** What ltrp's own kernels do at each level (native/kernels/simd.h), weakest first. */
const levels: Readonly<Record<CpuLevel, Level>> = {
  plain: { name: 'no AVX2', int8: false, bfloat16: false },
  avx2: { name: 'AVX2', int8: false, bfloat16: false },
  'avx-vnni': { name: 'AVX2 and AVX-VNNI', int8: true, bfloat16: false },
  avx512: { name: 'AVX-512', int8: false, bfloat16: false },
  'avx512-vnni': { name: 'AVX-512 VNNI', int8: true, bfloat16: false },
  'avx512-bf16': { name: 'AVX-512 VNNI and BF16', int8: true, bfloat16: true },
  amx: { name: 'AMX', int8: true, bfloat16: true },
};

export function processorLine(
  info: Pick<CoreInfo, 'simd' | 'simdOfProcessor' | 'emulatedPrecisions'>,
): string {
  const { name, int8, bfloat16 } = levels[info.simd];
  const precisions = ['float32', ...(bfloat16 ? ['bfloat16'] : []), ...(int8 ? ['int8'] : [])];
  const gives = precisions.length === 1 ? 'float32 only' : precisions.join(', ');
  const lowered =
    info.simd === info.simdOfProcessor
      ? ''
      : `, lowered by LTRP_CPU_LEVEL from ${levels[info.simdOfProcessor].name}`;
  const emulated =
    info.emulatedPrecisions && precisions.length < 3
      ? ' LTRP_EMULATE_PRECISIONS=1: the other precisions are emulated, for testing, and slow.'
      : '';
  return `${name}${lowered}; ${gives}. ${missing(info.simd)}${emulated}`;
}

function missing(level: CpuLevel): string {
  const { int8, bfloat16 } = levels[level];
  const adds: string[] = [];
  if (level === 'plain') adds.push('AVX2 would make everything several times as fast');
  if (!int8) {
    // Processors with AVX-512 have no use for the instructions of those without.
    const which = level === 'avx512' ? 'AVX-512 VNNI or AMX' : 'AVX-VNNI, AVX-512 VNNI or AMX';
    adds.push(`${which} would add int8`);
  }
  if (!bfloat16) adds.push(`AVX512_BF16 or AMX${int8 ? ' would add' : ''} bfloat16`);
  return adds.length === 0 ? 'It has all that ltrp uses.' : `${adds.join(', ')}.`;
}
