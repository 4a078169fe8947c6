/** What a run was measured on. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg, release, totalmem, type } from 'node:os';
import { root } from './contenders.js';
import type { Machine } from './results.js';

export function machine(features: readonly string[], versions: Record<string, string>): Machine {
  return {
    cpu: cpuName(),
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    features: [...features],
    system: `${type()} ${release()}, ${process.arch}`,
    node: process.versions.node,
    versions,
  };
}

/** Virtual machines often hide the model's name; family, model and stepping still tell which it is. */
function cpuName(): string {
  const name = cpus()[0]?.model.trim() ?? 'unknown';
  try {
    const text = readFileSync('/proc/cpuinfo', 'utf8');
    const field = (key: string): string =>
      new RegExp(`^${key}\\s*: (.*)$`, 'm').exec(text)?.[1] ?? '?';
    return `${name} (family ${field('cpu family')}, model ${field('model')}, stepping ${field('stepping')}, L3 ${field('cache size')})`;
  } catch {
    return name;
  }
}

/** The commit that was measured; `+` when files differ from it. */
export function commit(): string | null {
  try {
    const git = (...args: string[]): string =>
      execFileSync('git', args, {
        cwd: root,
        encoding: 'utf8',
        stdio: ['ignore', 'pipe', 'ignore'],
      }).trim();
    return (
      git('rev-parse', '--short=12', 'HEAD') + (git('status', '--porcelain') === '' ? '' : '+')
    );
  } catch {
    return null;
  }
}

/** Version of PyTorch for `python3`, or null. */
export function pythonTorch(): string | null {
  try {
    return execFileSync('python3', ['-c', 'import torch; print(torch.__version__)'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return null;
  }
}

/** A warning when others were computing while the run began, or null. */
export function busy(): string | null {
  const [load = 0] = loadavg();
  return load < 0.5 * availableParallelism()
    ? null
    : `The machine was busy when the run began (load ${load.toFixed(1)}): timings are not to be trusted.`;
}
