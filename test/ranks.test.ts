/** Several processes that train one model: the curve of one, and an end for all when one is gone. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, readdir } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { firstHost, rankPlace, slurmHint } from '../lib/training/rank-place.js';
import { built, ltrp, outcomeOf, startLtrp, type Outcome } from './support/command.js';
import { smallMae } from './support/models.js';
import { repository } from './support/paths.js';
import {
  checkpoints,
  photosFor,
  readLog,
  small,
  smallRanker,
  steps,
  until,
  writePictures,
} from './support/runs.js';

/** A batch that neither two nor three ranks divide; a learning rate that does not depend on the length. */
const run =
  '--batch-size 5 --schedule wsd --decay 0 --warmup 0 --clip-gradient-norm 0.5 --export-type float32'.split(
    ' ',
  );

const launch = (n: number, ...args: string[]): Promise<Outcome> =>
  ltrp(['launch', '-n', String(n), ...args]);

interface Figures {
  step: number;
  loss: number;
  gradientNorm: number;
}

const figures = (out: string): Figures[] =>
  readLog(out).flatMap(({ step, loss, gradientNorm }) =>
    loss === undefined ? [] : [{ step, loss: Number(loss), gradientNorm: Number(gradientNorm) }],
  );

/**
 * Float32 sums in another order: some 1e-7 in a gradient, which AdamW's first steps enlarge where a gradient is nearly zero. Half a
 * picture more or less in the mean would be 1e-2.
 */
function sameCurve(t: ExecutionContext, out: string, reference: string, bound = 2e-5): void {
  const [own, expected] = [figures(out), figures(reference)];
  t.deepEqual(
    own.map(({ step }) => step),
    expected.map(({ step }) => step),
  );
  for (const [i, { step, loss, gradientNorm }] of own.entries()) {
    const { loss: wanted, gradientNorm: norm } = expected[i] as Figures;
    t.true(Math.abs(loss / wanted - 1) < bound, `loss of step ${step}: ${loss}, ${wanted}`);
    t.true(
      Math.abs(gradientNorm / norm - 1) < 10 * bound,
      `norm of step ${step}: ${gradientNorm}, ${norm}`,
    );
  }
  const validations = (folder: string) =>
    readLog(folder).flatMap(({ step, validation }) => (validation ? [{ step, validation }] : []));
  const [held, heldOut] = [validations(out), validations(reference)];
  t.is(held.length, heldOut.length);
  for (const [i, { validation }] of held.entries()) {
    for (const [name, value] of Object.entries(validation)) {
      const wanted = heldOut[i]?.validation[name as keyof typeof validation] ?? null;
      if (value === null || wanted === null) t.is(value, wanted);
      else
        t.true(
          Math.abs(value - wanted) <= bound * Math.abs(wanted),
          `${name}: ${value}, ${wanted}`,
        );
    }
  }
}

test.serial(
  'pre-training on 2 and 3 ranks has the curve of one, also when their number changes',
  async (t) => {
    t.timeout(300_000);
    const { folder, data } = await photosFor(t, 7);
    const val = await writePictures(join(folder, 'held'), 3, 20);
    const out = (name: string): string => join(folder, name);
    const args = (name: string, ...more: string[]) => [
      ...['pretrain', '--data', data, '--val', val, '--val-every', '2', '--out', out(name)],
      ...[...small.slice(2), ...run, ...more],
    ];
    const one = await ltrp(args('one', '--steps', '6'));
    t.is(one.code, 0, one.stderr);
    const two = await launch(
      2,
      ...args('two', '--steps', '6', '--bucket-size', '1KiB', '--micro-batch-size', '1'),
    );
    t.is(two.code, 0, two.stderr);
    t.regex(
      two.stderr,
      /^2 ranks, 1 thread in each; float32 sums of gradients\n7 images, 6 steps of 5/m,
    );
    sameCurve(t, out('two'), out('one'));

    const begun = await launch(2, ...args('changed', '--steps', '2'));
    t.is(begun.code, 0, begun.stderr);
    const more = (n: string): string[] => [
      'pretrain',
      '--out',
      out('changed'),
      '--resume',
      '--steps',
      n,
    ];
    const alone = await ltrp(more('4'));
    t.is(alone.code, 0, alone.stderr);
    const three = await launch(3, ...more('6'));
    t.is(three.code, 0, three.stderr);
    sameCurve(t, out('changed'), out('one'));
    t.deepEqual(
      (await readdir(out('changed'))).filter((name) => !name.startsWith('checkpoint-')).sort(),
      ['log.jsonl', 'model.safetensors', 'run.json'],
      'nothing is left of any rank',
    );
  },
);

test.serial('a ranker and a classifier on two ranks have the curve of one', async (t) => {
  t.timeout(300_000);
  const { folder, data } = await photosFor(t, 4);
  const teacher = smallMae;
  for (const kind of ['a', 'b']) {
    await mkdir(join(folder, 'classes', kind), { recursive: true });
    await writePictures(join(folder, 'classes', kind), 3, kind === 'a' ? 1 : 5);
  }
  const kinds = {
    ranker: [
      'train',
      '--data',
      data,
      '--teacher',
      teacher,
      ...smallRanker.slice(2),
      ...run,
      '--loss-k',
      '3',
    ],
    classifier: [
      ...['finetune', '--data', join(folder, 'classes'), '--val', join(folder, 'classes')],
      ...'--dim 32 --depth 2 --heads 1 --image-size 32 --threads 1 --mixup 0.8 --keep-random 0.5,1'.split(
        ' ',
      ),
      ...[...run.slice(2), '--batch-size', '6'],
    ],
  };
  for (const [name, args] of Object.entries(kinds)) {
    const out = (ranks: number): string => join(folder, `${name}-${ranks}`);
    const one = await ltrp([...args, '--steps', '3', '--out', out(1)]);
    t.is(one.code, 0, one.stderr);
    const two = await launch(2, ...args, '--steps', '3', '--out', out(2));
    t.is(two.code, 0, two.stderr);
    sameCurve(t, out(2), out(1));
  }
});

/** A port that is free now. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Ranks started by hand: rank 0 hosts the store. */
async function startRanks(
  folder: string,
  size: number,
  args: readonly string[],
): Promise<{ child: ChildProcess; outcome: Promise<Outcome>; errorFile: string }[]> {
  const port = String(await freePort());
  return Array.from({ length: size }, (_, rank) => {
    const errorFile = join(folder, `error-${rank}.json`);
    const env = { RANK: String(rank), WORLD_SIZE: String(size), LOCAL_RANK: String(rank) };
    const store = { MASTER_ADDR: '127.0.0.1', MASTER_PORT: port, OMP_NUM_THREADS: '1' };
    return {
      ...startLtrp(args, { env: { ...env, ...store, TORCHELASTIC_ERROR_FILE: errorFile } }),
      errorFile,
    };
  });
}

for (const [signal, rank, when] of [
  ['SIGKILL', 1, 'at a random moment'],
  ['SIGSTOP', 0, 'at a random moment'],
  ['SIGSTOP', 2, 'before the first collective'],
] as const) {
  test.serial(
    `${signal} of rank ${rank} ${when} ends all of 3 ranks; --resume continues`,
    async (t) => {
      t.timeout(180_000);
      const { folder, data, out } = await photosFor(t, 5);
      const args = (place: string, ...more: string[]): string[] => [
        ...['pretrain', '--data', data, '--out', place, ...small.slice(2), ...run, ...more],
      ];
      const ranks = await startRanks(
        folder,
        3,
        args(
          out,
          ...'--steps 100000 --checkpoint-every 3 --rank-timeout 8 --join-timeout 6'.split(' '),
        ),
      );
      t.teardown(() => {
        for (const { child } of ranks) child.kill('SIGKILL');
      });
      const victim = ranks[rank] as (typeof ranks)[number];
      if (when === 'at a random moment') {
        await until(() => steps(out).length >= 4);
        await sleep(Math.random() * 300);
      } else {
        // While LibTorch is being opened.
        const maps = `/proc/${victim.child.pid}/maps`;
        await until(() => readFileSync(maps, 'utf8').includes('libtorch_cpu'));
      }
      victim.child.kill(signal);
      const begin = performance.now();
      for (const { outcome, errorFile } of ranks.filter((each) => each !== victim)) {
        const { code, stderr } = await outcome;
        t.is(code, 1, stderr);
        t.regex(stderr, new RegExp(`\\brank ${rank}\\b.*\\[ERR_LTRP_RANK_LOST\\]`));
        const { message } = JSON.parse(readFileSync(errorFile, 'utf8')) as {
          message: { message: string; extraInfo: { timestamp: string } };
        };
        t.regex(message.message, new RegExp(`\\brank ${rank}\\b`));
        t.regex(message.extraInfo.timestamp, /^\d+$/);
      }
      t.true(performance.now() - begin < 20_000, `${performance.now() - begin} ms`);
      victim.child.kill('SIGKILL');
      await victim.outcome;
      if (signal === 'SIGSTOP') return; // what is on disk is of the same kind
      const last = existsSync(out) ? checkpoints(out).at(-1) : undefined;
      const goal = String(Number(/\d+/.exec(last ?? '0')?.[0]) + 2);
      const resumed = await ltrp(args(out, '--resume', '--steps', goal));
      t.is(resumed.code, 0, resumed.stderr);
      t.notRegex(resumed.stderr, /passing over/);
      const whole = join(folder, 'whole');
      const reference = await ltrp(args(whole, '--steps', goal));
      t.is(reference.code, 0, reference.stderr);
      sameCurve(t, out, whole, 2e-3);
    },
  );
}

test.serial('SIGTERM of one rank stops all, and what is done is saved', async (t) => {
  t.timeout(120_000);
  const { folder, data, out } = await photosFor(t, 5);
  const args = ['pretrain', '--data', data, '--out', out, ...small.slice(2), ...run];
  const ranks = await startRanks(folder, 2, [
    ...args,
    '--steps',
    '100000',
    '--checkpoint-every',
    '1h',
  ]);
  await until(() => steps(out).length >= 3);
  ranks[1]?.child.kill('SIGTERM');
  const [lead, other] = await Promise.all(ranks.map(({ outcome }) => outcome));
  t.is(other?.code, 143, other?.stderr);
  t.is(lead?.code, 130, lead?.stderr);
  t.regex(lead?.stdout ?? '', /stopped after step \d+; continue with --resume/);
  t.is(checkpoints(out).length, 1);
});

test.serial('a rank that trains something else is refused on all of them', async (t) => {
  const { folder, data, out } = await photosFor(t, 5);
  const args = ['pretrain', '--data', data, '--out', out, ...small, '--steps', '3'];
  const port = String(await freePort());
  const outcomes = await Promise.all(
    [0, 1].map((rank) => {
      const place = {
        RANK: String(rank),
        WORLD_SIZE: '2',
        MASTER_ADDR: '127.0.0.1',
        MASTER_PORT: port,
      };
      return ltrp([...args, '--seed', String(rank)], { env: place, cwd: folder });
    }),
  );
  for (const { code, stderr } of outcomes) {
    t.is(code, 1, stderr);
    t.regex(stderr, /the options are not those of rank 0 on rank 1.*\[ERR_LTRP_RUN_CONFLICT\]/);
  }
  t.false(existsSync(out));
});

test.serial(
  'ltrp launch: another program, the first failure, and variables that are no ranks',
  async (t) => {
    const script =
      'process.stdout.write(`${process.env.RANK}/${process.env.WORLD_SIZE} `); process.exit(Number(process.env.RANK) * 3)';
    const { code, stdout, stderr } = await launch(2, process.execPath, '-e', script);
    t.is(code, 3, stderr);
    t.deepEqual(stdout.trim().split(' ').sort(), ['0/2', '1/2']);
    t.regex(stderr, /rank 1 ended with exit code 3; all others end\./);
    const alone = await ltrp(['pretrain', '--out', 'x'], {
      env: { RANK: '0', WORLD_SIZE: '2', MASTER_ADDR: '' },
    });
    t.is(alone.code, 2);
    t.regex(alone.stderr, /MASTER_ADDR is missing.*\[ERR_LTRP_INVALID_ARGUMENT\]/);
  },
);

test('places of ranks: torchrun before Slurm, Slurm in a step alone', (t) => {
  const torchrun = { RANK: '1', WORLD_SIZE: '4', MASTER_ADDR: 'a', MASTER_PORT: '29500' };
  t.like(rankPlace(torchrun), { rank: 1, size: 4, host: 'a', port: 29500, hostsStore: false });
  t.like(rankPlace({ ...torchrun, RANK: '0' }), { hostsStore: true, storeOwner: 'rank 0' });
  t.like(rankPlace({ ...torchrun, RANK: '0', TORCHELASTIC_USE_AGENT_STORE: 'True' }), {
    hostsStore: false,
  });
  t.is(rankPlace({ RANK: '3' }), null);
  t.is(rankPlace({ ...torchrun, RANK: '0', WORLD_SIZE: '1' }), null);
  t.throws(() => rankPlace({ ...torchrun, RANK: '4' }), {
    code: 'ERR_LTRP_INVALID_ARGUMENT',
  } as never);
  t.throws(() => rankPlace({ ...torchrun, MASTER_PORT: 'x' }), { message: /MASTER_PORT/ });
  const batch = { SLURM_NTASKS: '4', SLURM_JOB_ID: '7', SLURM_PROCID: '0' };
  t.is(rankPlace(batch), null);
  t.regex(slurmHint(batch) ?? '', /srun/);
  const step = {
    ...batch,
    ...{
      SLURM_STEP_NUM_TASKS: '4',
      SLURM_STEP_ID: '2',
      SLURM_STEP_NODELIST: 'n[01-03,07],g-a[1-2]',
    },
    ...{ SLURM_PROCID: '3', SLURM_LOCALID: '1', SLURM_STEP_TASKS_PER_NODE: '2(x2)' },
  };
  t.is(slurmHint(step), null);
  t.like(rankPlace(step), {
    rank: 3,
    size: 4,
    localRank: 1,
    localSize: 2,
    host: 'n01',
    port: 15219,
  });
  t.like(rankPlace({ ...step, ...torchrun }), { rank: 1, host: 'a' });
  t.is(firstHost('rack[2-3]n[01,04]'), 'rack2n01');
  t.is(firstHost('one'), 'one');
  t.is(firstHost('a,b'), 'a');
});

/** torchrun of a virtual environment that the developer names, or of the system. */
const torchrun = process.env['LTRP_TORCHRUN'] ?? 'torchrun';
const hasTorchrun = spawnSync(torchrun, ['--help']).status === 0;

(hasTorchrun ? test.serial : test.serial.skip)(
  'torchrun starts two ranks, and again when one was killed (skipped without torchrun)',
  async (t) => {
    t.timeout(240_000);
    const { folder, data, out } = await photosFor(t, 5);
    const args = ['pretrain', '--data', data, '--out', out, ...small.slice(2), ...run];
    const command = ['--standalone', '--nproc-per-node', '2', '--max-restarts', '1', '--no-python'];
    const more = ['--resume', '--steps', '400', '--checkpoint-every', '50'];
    const program = [...command, process.execPath, built, ...args, ...more];
    const child = spawn(torchrun, program, { cwd: repository });
    const outcome = outcomeOf(child);
    await until(() => steps(out).length > 60 && checkpoints(out).length > 0);
    const workers = spawnSync('pgrep', ['-P', String(child.pid)])
      .stdout.toString()
      .trim()
      .split('\n');
    process.kill(Number(workers.at(-1)), 'SIGKILL');
    const { code, stderr } = await outcome;
    t.is(code, 0, stderr);
    t.deepEqual([...new Set(steps(out))].length, 400);
    const whole = join(folder, 'whole');
    const own = ['pretrain', '--data', data, '--out', whole, ...small.slice(2), ...run];
    const reference = await ltrp([...own, '--steps', '400']);
    t.is(reference.code, 0);
    t.deepEqual(steps(out), steps(whole));
  },
);
