/** How many threads this process may keep busy: its affinity, and the quotas of its control groups (containers, systemd). */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { posix } from 'node:path';

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** The folder and those above it, up to the root. */
function upwards(folder: string): string[] {
  const folders = [folder];
  for (let last = folder; last !== '/' && last !== '.'; folders.push(last))
    last = posix.dirname(last);
  return folders;
}

/** Processors' worth of time that a group's files allow; Infinity without a limit. */
function quotaOf(root: string, group: string, version: 1 | 2, read: typeof readText): number {
  const quotas = upwards(group).map((folder) => {
    const file = (name: string): string => read(posix.join(root, folder, name))?.trim() ?? '';
    const [quota, period] =
      version === 2
        ? file('cpu.max').split(' ').map(Number)
        : ['cpu.cfs_quota_us', 'cpu.cfs_period_us'].map((name) => Number(file(name) || NaN));
    const share = (quota as number) / (period as number);
    return share > 0 ? share : Infinity;
  });
  return Math.min(...quotas);
}

/**
 * At least 1. onnxruntime counts the host's cores whatever a container may use, so its threads are set to this number.
 *
 * @param affinity - processors that the process may run on.
 * @param read - the text of a file; undefined where there is none.
 */
export function usableThreads(affinity = availableParallelism(), read = readText): number {
  let quota = Infinity;
  for (const line of (read('/proc/self/cgroup') ?? '').split('\n')) {
    const [, controllers, group] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
    if (controllers === undefined || group === undefined) continue;
    if (controllers === '') quota = Math.min(quota, quotaOf('/sys/fs/cgroup', group, 2, read));
    else if (controllers.split(',').includes('cpu'))
      quota = Math.min(quota, quotaOf(`/sys/fs/cgroup/${controllers}`, group, 1, read));
  }
  return Math.max(1, Math.min(affinity, Math.floor(quota)));
}
