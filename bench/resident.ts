/** Resident memory of processes, as Linux tells it. */
import { readFileSync } from 'node:fs';

/** In bytes, now and at its highest; null where the system does not tell, or the process has ended. */
export function residentOf(pid: number | undefined): { now: number; peak: number } | null {
  try {
    const status = readFileSync(`/proc/${String(pid)}/status`, 'utf8');
    const bytes = (key: string): number =>
      1024 * Number(new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? NaN);
    const [now, peak] = [bytes('VmRSS'), bytes('VmHWM')];
    return Number.isNaN(now + peak) ? null : { now, peak };
  } catch {
    return null;
  }
}
