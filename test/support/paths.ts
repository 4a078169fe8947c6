/** Where tests find their data: golden data beside the repository where it is, a small set of it in test/fixtures. */
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';

export const repository = fileURLToPath(new URL('../../', import.meta.url));

export const fixtures = join(repository, 'test', 'fixtures');

/** The folder of golden data, which is not part of the repository. */
export const golden = join(repository, '..', 'shared', 'golden');

export const hasGolden = existsSync(join(golden, 'README.md'));

/** A folder for one test, removed after it. */
export async function temporaryFolder(t: ExecutionContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'ltrp-test-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

/** A folder for all tests of a file, removed at the end of their process. */
export function sharedFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'ltrp-test-'));
  process.once('exit', () => {
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}
