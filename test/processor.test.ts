/** What `ltrp doctor` says of the processor, and that levels and limits from the environment are kept to. */
import { join } from 'node:path';
import test from 'ava';
import type { DoctorReport } from '../lib/cli/doctor.js';
import { processorLine } from '../lib/cli/processor.js';
import type { CpuLevel } from '../lib/native/binding.js';
import { ltrp } from './support/command.js';
import { temporaryFolder } from './support/paths.js';
import { picture } from './support/pictures.js';

async function doctor(env: Record<string, string> = {}): Promise<DoctorReport> {
  return JSON.parse((await ltrp(['doctor', '--json'], { env })).stdout) as DoctorReport;
}

test('one line says what the processor gives and what a better one would', (t) => {
  const line = (simd: CpuLevel, simdOfProcessor = simd, emulatedPrecisions = false): string =>
    processorLine({ simd, simdOfProcessor, emulatedPrecisions });
  t.is(
    line('avx2'),
    'AVX2; float32 only. AVX-VNNI, AVX-512 VNNI or AMX would add int8, AVX512_BF16 or AMX bfloat16.',
  );
  t.regex(line('plain'), /^no AVX2; float32 only\. AVX2 would make .*, .* would add int8/);
  t.is(
    line('avx-vnni'),
    'AVX2 and AVX-VNNI; float32, int8. AVX512_BF16 or AMX would add bfloat16.',
  );
  t.is(
    line('avx512'),
    'AVX-512; float32 only. AVX-512 VNNI or AMX would add int8, AVX512_BF16 or AMX bfloat16.',
  );
  t.is(line('avx512-vnni'), 'AVX-512 VNNI; float32, int8. AVX512_BF16 or AMX would add bfloat16.');
  t.is(
    line('avx512-bf16'),
    'AVX-512 VNNI and BF16; float32, bfloat16, int8. It has all that ltrp uses.',
  );
  t.is(line('amx'), 'AMX; float32, bfloat16, int8. It has all that ltrp uses.');
  t.regex(
    line('plain', 'avx512'),
    /^no AVX2, lowered by LTRP_CPU_LEVEL from AVX-512; float32 only/,
  );
  t.regex(line('avx2', 'avx2', true), /LTRP_EMULATE_PRECISIONS=1: .*emulated.*slow/);
});

test('the line and the level are those of this machine, and LTRP_CPU_LEVEL lowers them', async (t) => {
  const here = await doctor();
  const level = here.info?.simdOfProcessor;
  t.is(here.info?.simd, level);
  t.truthy(here.processor);
  t.true((await ltrp(['doctor'])).stdout.includes(here.processor ?? '?'));
  const plain = await doctor({ LTRP_CPU_LEVEL: 'plain' });
  t.is(plain.info?.simd, 'plain');
  t.is(plain.info?.simdOfProcessor, level);
  t.is(plain.info?.precisions.int8, 'float32');
  // What the processor does not have cannot be asked for.
  t.is((await doctor({ LTRP_CPU_LEVEL: 'amx' })).info?.simd, level);
  const wrong = await doctor({ LTRP_CPU_LEVEL: 'AVX2' });
  t.is(wrong.error?.code, 'ERR_LTRP_INVALID_ARGUMENT');
  t.regex(wrong.error?.message ?? '', /^LTRP_CPU_LEVEL must be one of plain, avx2, .*; got AVX2$/);
});

test('no limit of a library, and no level, makes ranking throw or offers another precision', async (t) => {
  const folder = await temporaryFolder(t);
  const file = join(folder, 'photo.png');
  await picture(64, 64).png().toFile(file);
  const here = await doctor();
  for (const env of [
    { ATEN_CPU_CAPABILITY: 'default' },
    { ATEN_CPU_CAPABILITY: 'avx2' },
    { ONEDNN_MAX_CPU_ISA: 'SSE41' },
    { ONEDNN_MAX_CPU_ISA: 'AVX2' },
    { LTRP_CPU_LEVEL: 'plain' },
  ] as Record<string, string>[]) {
    const limited = await ltrp(['rank', file, '--json', '--precision', 'int8'], { env });
    t.is(limited.code, 0, limited.stderr);
    if (!('LTRP_CPU_LEVEL' in env)) {
      t.deepEqual((await doctor(env)).info?.precisions, here.info?.precisions);
    }
  }
});
