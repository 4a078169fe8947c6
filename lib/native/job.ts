/** From one call with `signal` and `onProgress` to a native job and back. */
import { toLtrpError } from '../errors.js';
import type { JobOptions } from '../types.js';
import type { CoreBinding, NativeJob } from './binding.js';

/**
 * Runs one native call.
 *
 * - An aborted signal: throws its reason before anything is made.
 * - An abort while the call waits or runs: the native job is cancelled, and as soon as it says so the promise rejects with
 *   `signal.reason`, even if the result arrives at the same moment. A queued job answers at once.
 * - `onProgress` gets the newest event only, none after an abort and none after the promise is settled. What it throws
 *   cancels the call and is what the promise rejects with.
 * - Native errors become {@link LtrpError}s with their code.
 */
export async function runJob<T>(
  core: Pick<CoreBinding, 'Job'>,
  options: JobOptions,
  start: (job: NativeJob) => Promise<T>,
): Promise<T> {
  const { signal, onProgress } = options;
  signal?.throwIfAborted();

  // Each entry is a reason to reject with, in the order of arrival: what onProgress threw, or the signal's reason.
  const reasons: unknown[] = [];
  const report = (done: number, total: number): void => {
    if (reasons.length > 0) return;
    try {
      onProgress?.({ done, total });
    } catch (error) {
      reasons.push(error);
      job.cancel();
    }
  };
  const job = onProgress === undefined ? new core.Job() : new core.Job(report);
  const cancel = (): void => {
    reasons.push(signal?.reason);
    job.cancel();
  };
  try {
    signal?.addEventListener('abort', cancel, { once: true });
    const result = await start(job);
    // The native side may finish in the very moment of the abort; the caller has been promised a rejection.
    if (reasons.length > 0) throw reasons[0];
    return result;
  } catch (error) {
    if (reasons.length > 0) throw reasons[0];
    throw toLtrpError(error);
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}
