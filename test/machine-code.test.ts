/** What is read out of ptxas and nvdisasm, and judged: on texts of theirs, so that none of it needs nvcc. */
import test from 'ava';
import {
  allArchitectures,
  launchBounds,
  parsePtxas,
  type CompiledFile,
  type KernelResources,
} from '../scripts/cuda/compile.js';
import {
  occupancy,
  residentBlocks,
  resourceProblems,
  resourceTable,
} from '../scripts/cuda/limits.js';
import { checkInstructions, parseSass } from './support/machine-code.js';

const ptxas = `ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z5roundPKfPa' for 'sm_90'
ptxas info    : Function properties for _Z5roundPKfPa
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 128 bytes smem
ptxas info    : Compile time = 6.197 ms
ptxas info    : Compiling entry function '_Z4sortPf' for 'sm_90'
ptxas info    : Function properties for _Z4sortPf
    512 bytes stack frame, 24 bytes spill stores, 40 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers, 512 bytes cumulative stack size
ptxas info    : Function properties for _Z6helperf
    8 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
`;

const kernel: KernelResources = {
  symbol: '_Z5roundPKfPa',
  name: 'round(float const*, signed char*)',
  registers: 40,
  sharedBytes: 128,
  stackBytes: 0,
  spillBytes: 0,
  maxThreads: 256,
  minBlocks: 1,
};

function compiled(kernels: KernelResources[], architecture = 90): CompiledFile {
  return { file: 'round.cu', architecture, kernels, cubin: '' };
}

test("ptxas' report is read kernel by kernel; functions that are not inlined do not count as kernels", (t) => {
  t.deepEqual(parsePtxas(ptxas), [
    { symbol: '_Z5roundPKfPa', registers: 40, sharedBytes: 128, stackBytes: 0, spillBytes: 0 },
    { symbol: '_Z4sortPf', registers: 255, sharedBytes: 0, stackBytes: 512, spillBytes: 64 },
  ]);
  t.throws(() => parsePtxas("Compiling entry function '_Z1fv' for 'sm_90'\n"), {
    message: /ptxas says nothing about _Z1fv/,
  });
});

test('launch bounds are read out of PTX', (t) => {
  const ptx = `
.visible .entry _Z5roundPKfPa(
	.param .u64 _Z5roundPKfPa_param_0,
	.param .u64 _Z5roundPKfPa_param_1
)
.maxntid 32, 8, 1
.minnctapersm 4
{
	ret;
}
.visible .entry _Z4sortPf(.param .u64 _Z4sortPf_param_0)
{
	ret;
}
.entry _Z4onceILi4EEvv()
.maxntid 128
{
`;
  const bounds = launchBounds(ptx);
  t.deepEqual(bounds.get('_Z5roundPKfPa'), { maxThreads: 256, minBlocks: 4 });
  t.false(bounds.has('_Z4sortPf'));
  t.deepEqual(bounds.get('_Z4onceILi4EEvv'), { maxThreads: 128, minBlocks: 1 });
});

test('how many blocks fit follows from threads, registers and shared memory', (t) => {
  t.is(residentBlocks(kernel, 90), 6); // 65536 / (40 * 256)
  t.is(occupancy(kernel, 90), 0.75);
  t.is(residentBlocks({ ...kernel, registers: 32 }, 90), 8);
  t.is(residentBlocks({ ...kernel, registers: 33 }, 90), 6); // given out in units of 256: 40 a thread
  t.is(residentBlocks({ ...kernel, registers: 32 }, 86), 6); // 1536 threads
  t.is(residentBlocks({ ...kernel, registers: 16, maxThreads: 32 }, 86), 16); // blocks
  t.is(residentBlocks({ ...kernel, sharedBytes: 47 * 1024 }, 90), 4); // 228 KiB / 48 KiB
  t.is(residentBlocks({ ...kernel, sharedBytes: 47 * 1024 }, 120), 2);
  t.throws(() => residentBlocks(kernel, 70), { message: /sm_70/ });
});

test('spills, local memory, missing bounds and bounds that are not kept are named', (t) => {
  t.deepEqual(resourceProblems(compiled([kernel])), []);
  const cases: [change: Partial<KernelResources>, words: RegExp][] = [
    [{ spillBytes: 64 }, /round\.cu, sm_90: round\(.*\) spills 64 bytes/],
    [{ stackBytes: 512 }, /keeps 512 bytes a thread in local memory/],
    [{ maxThreads: null }, /states no __launch_bounds__/],
    [{ maxThreads: 2048 }, /states blocks of 2048 threads/],
    [{ minBlocks: 7 }, /fits 6 times on a multiprocessor and states 7/],
    [{ sharedBytes: 49_153 }, /declares 49153 bytes of shared memory/],
  ];
  for (const [change, words] of cases) {
    const problems = resourceProblems(compiled([{ ...kernel, ...change }]));
    t.is(problems.length, 1, problems.join('; '));
    t.regex(problems[0] ?? '', words);
  }
  const table = resourceTable([compiled([kernel, { ...kernel, maxThreads: null }])]).split('\n');
  t.is(table.length, 3);
  t.regex(table[1] ?? '', /round\.cu: round.* 90 +256 +6\/1 +40 +128 +0 +0 +75%/);
});

const sass = `	.section	.text._Z5roundPKfPa,"ax",@progbits
        .type           _Z5roundPKfPa,@function
_Z5roundPKfPa:
.text._Z5roundPKfPa:
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*00b0*/              @!P1 LDG.E.128 R4, desc[UR6][R2.64] ;
        /*00c0*/             @!UP0 UMOV UR4, 0x400 ;
        /*00d0*/                   HMMA.16816.F32.BF16 R4, R8, R10, R4 ;
.L_x_0:
        /*02c0*/                   BRA \`(.L_x_0);
.text._Z4sortPf:
        /*0000*/                   STL [R1], R4 ;
        /*12340*/              @P0 LDL.64 R4, [R1] ;
`;

test('instructions are read out of a disassembly, and claims about them are checked', (t) => {
  const found = parseSass(sass);
  t.deepEqual(
    [...found],
    [
      ['_Z5roundPKfPa', ['LDC', 'LDG.E.128', 'UMOV', 'HMMA.16816.F32.BF16', 'BRA']],
      ['_Z4sortPf', ['STL', 'LDL.64']],
    ],
  );
  const file = compiled([kernel, { ...kernel, symbol: '_Z4sortPf', name: 'sort(float*)' }]);
  const check = (claim: Parameters<typeof checkInstructions>[2]): string[] =>
    checkInstructions(file, found, claim);
  t.deepEqual(check({ kernel: /^round/, has: ['LDG.E.128', 'LDG', 'HMMA'], hasNot: ['STL'] }), []);
  t.deepEqual(check({ kernel: /^round/, has: ['LDG.E.12'] }), [
    'round.cu, sm_90: round(float const*, signed char*) has no LDG.E.12',
  ]);
  t.deepEqual(check({ kernel: /./, hasNot: ['LDL'] }), ['round.cu, sm_90: sort(float*) has LDL']);
  t.deepEqual(check({ kernel: /absent/, has: ['LDG'] }), [
    'round.cu, sm_90: no kernel is called /absent/',
  ]);
  const unknown = compiled([{ ...kernel, symbol: '_Zother' }]);
  t.regex(checkInstructions(unknown, found, { kernel: /./ })[0] ?? '', /has no instructions/);
});

test('the matrix of architectures is the one that CMake builds', (t) => {
  t.deepEqual(allArchitectures(), [80, 86, 89, 90, 100, 120]);
});
