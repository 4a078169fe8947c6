/** bench/gpu.sh where there is no GPU: what it refuses, in one sentence each. What it does on one needs one. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import test from 'ava';
import { run as runProgram, type Outcome } from './support/command.js';
import { repository, temporaryFolder } from './support/paths.js';

const script = path.join(repository, 'bench', 'gpu.sh');

const run = (args: string[], env: Record<string, string> = {}): Promise<Outcome> =>
  runProgram('bash', [script, ...args], { env: { ...process.env, ...env } });

test('--help describes it; wrong options are refused', async (t) => {
  const help = await run(['--help']);
  t.is(help.code, 0);
  t.regex(help.stdout, /bench\/gpu\.sh \[--out FOLDER\]/);
  t.false(help.stdout.includes('#'));
  for (const args of [['--nope'], ['--out'], ['--minutes']]) {
    const refused = await run(args);
    t.is(refused.code, 2, args.join(' '));
    t.is(refused.stderr.trim().split('\n').length, 1);
  }
});

test('a machine without a GPU, without LibTorch, or with another build of it is told so', async (t) => {
  const folder = await temporaryFolder(t);
  const bin = path.join(folder, 'bin');
  await mkdir(bin);
  const program = (name: string, text: string): Promise<void> =>
    writeFile(path.join(bin, name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
  await program('cmake', 'exit 1');
  await program('nvidia-smi', 'exit 9');
  const env = { PATH: `${bin}:/usr/bin:/bin`, LIBTORCH: '', CUDACXX: '' };
  const fails = async (words: RegExp, args: string[] = []): Promise<void> => {
    const { code, stderr } = await run(args, env);
    t.is(code, 1, stderr);
    t.regex(stderr, words);
  };
  await fails(/there is no NVIDIA GPU here/);
  await program('nvidia-smi', 'echo "GPU 0: made up"');
  await program('python3', 'exit 1');
  await fails(/no LibTorch: install PyTorch/);
  await fails(/is no CUDA build of LibTorch/, ['--libtorch', folder]);
  await mkdir(path.join(folder, 'lib'));
  await writeFile(path.join(folder, 'lib', 'libtorch_cuda.so'), '');
  const missing = { ...env, CUDACXX: path.join(folder, 'nvcc') };
  const { code, stderr } = await run(['--libtorch', folder], missing);
  t.is(code, 1);
  t.regex(stderr, /nvcc is missing/);
});
