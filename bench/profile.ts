/** Where the time goes: Linux `perf` on a process that scores. */
import { execFile, execFileSync, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { promisify } from 'node:util';
import type { ContenderSpec } from './contenders.js';
import { shareOfPeak, splitByKind } from './flops.js';
import { scoringMaterial, type Model } from './material.js';
import { openContender, type Pace } from './pace.js';
import { parseReport, reportFields, reportSeparator, shares } from './profile-parts.js';
import type { Peak, Profile } from './results.js';
import { spread, type Spread } from './statistics.js';

export interface ProfilePlan {
  images: number;
  /** Calls go on until this much time is over. */
  seconds: number;
  /** Samples of each thread in a second of its own. No round number, so that it keeps step with nothing. */
  frequency: number;
}

/** Why there can be no profile here, or null. */
export function profileProblem(): string | null {
  if (process.platform !== 'linux') return 'perf is a program of Linux.';
  try {
    execFileSync('perf', ['--version'], { stdio: 'ignore' });
    return null;
  } catch {
    return 'perf is not installed.';
  }
}

export async function measureProfile(
  model: Model,
  spec: ContenderSpec,
  plan: ProfilePlan,
  temporary: string,
  pace: Pace,
): Promise<Profile | null> {
  pace.say(`Profile: ${model.name}, ${spec.label}`);
  const { images } = plan;
  const { material, patches, visible } = await scoringMaterial(model, images, temporary);
  await using contender = await openContender(spec, spec.load(material), pace);
  if (contender === null) return null;
  const call = async (): Promise<number> => {
    const { ms } = await contender.ask('scores', { images, variants: visible });
    return ms as number;
  };
  await call();
  const times: number[] = [];
  const file = join(temporary, 'perf.data');
  await whileRecorded(contender.pid ?? 0, file, plan.frequency, async () => {
    const end = performance.now() + 1000 * plan.seconds;
    do times.push(await call());
    while (performance.now() < end);
  });
  const samples = parseReport(await report(file));
  const cpuMs = samples.reduce((sum, { period }) => sum + period, 0) / 1e6;
  if (cpuMs === 0) throw new Error('perf recorded no sample.');
  const wallMs = times.reduce((sum, ms) => sum + ms, 0);
  const form = spec.precision === 'float32' ? 'direct' : 'delta';
  const counted = splitByKind(model.config, { patches, visible, variants: visible }, form);
  return {
    model: model.name,
    label: spec.label,
    precision: spec.precision,
    images,
    calls: times.length,
    msPerImage: spread(times.map((ms) => ms / images)) as Spread,
    threads: pace.threads,
    busy: cpuMs / (pace.threads * wallMs),
    cpuMsPerImage: cpuMs / (images * times.length),
    ...shares(samples),
    productFlops: counted.products,
    attentionFlops: counted.attention,
    productsOfPeak: null,
    attentionOfPeak: null,
  };
}

/** How fast products and attention ran while they ran, against the best peaks of the run. */
export function fillProfileShares(profile: Profile, peaks: readonly Peak[]): void {
  const peak = (precision: Peak['precision']): number | null =>
    peaks.find((found) => found.precision === precision)?.gflops ?? null;
  // Peaks are of all threads together.
  const milliseconds = (...parts: readonly string[]): number =>
    (profile.cpuMsPerImage / profile.threads) *
    profile.parts.reduce((sum, { part, share }) => sum + (parts.includes(part) ? share : 0), 0);
  const both = { float32: peak('float32'), own: peak(profile.precision) };
  profile.productsOfPeak = shareOfPeak(profile.productFlops, milliseconds('products'), both);
  profile.attentionOfPeak = shareOfPeak(
    { float32: profile.attentionFlops, own: 0 },
    milliseconds('logits', 'values'),
    both,
  );
}

/** Runs `work` while perf looks at the process `pid`, and at nothing before or after. */
async function whileRecorded(
  pid: number,
  file: string,
  frequency: number,
  work: () => Promise<void>,
): Promise<void> {
  const options = ['record', '--quiet', '--event=cpu-clock', `--freq=${frequency}`];
  const control = ['--delay=-1', '--control=fd:3,4'];
  const perf = spawn('perf', [...options, ...control, `--output=${file}`, `--pid=${pid}`], {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'],
  });
  const [, , errors, commands, answers] = perf.stdio as [
    null,
    null,
    Readable,
    Writable,
    Readable,
    ...unknown[],
  ];
  let log = '';
  errors.on('data', (chunk: Buffer) => (log += chunk.toString('utf8')));
  commands.on('error', () => undefined); // its exit is what counts
  const gone = new Promise<void>((resolve, reject) => {
    perf.on('error', reject);
    perf.on('close', (status) => {
      if (status === 0) resolve();
      else reject(new Error(`perf record ended with ${String(status)}: ${log.trim()}`));
    });
  });
  gone.catch(() => undefined); // thrown where it is awaited
  const lines = createInterface({ input: answers })[Symbol.asyncIterator]();
  const tell = async (command: string): Promise<void> => {
    commands.write(`${command}\n`);
    const silent = new Error(`perf did not answer '${command}': ${log.trim()}`);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        reject(silent);
      }, 20_000);
    });
    try {
      // Closed without an answer: the reason is in how it ended.
      if ((await Promise.race([lines.next(), late])).done === true) await gone;
    } finally {
      clearTimeout(timer);
    }
  };
  try {
    await tell('enable');
    await work();
    await tell('disable');
    commands.write('stop\n');
    await gone;
  } finally {
    if (perf.exitCode === null) perf.kill('SIGKILL');
  }
}

/** Functions with their times. Without source lines and without symbols from the network, which take minutes. */
async function report(file: string): Promise<string> {
  const { stdout } = await promisify(execFile)(
    'perf',
    [
      ...['report', '--stdio', '--quiet', `--input=${file}`, '--percent-limit=0'],
      ...[`--fields=${reportFields}`, `--field-separator=${reportSeparator}`],
    ],
    { maxBuffer: 2 ** 28, env: { ...process.env, DEBUGINFOD_URLS: '' } },
  );
  return stdout;
}
