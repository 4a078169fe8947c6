/** A folder for each test of a file: importing this makes and removes them. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';

/** ava's, whose tests find their folder in `t.context`. */
export const test = anyTest as TestFn<{ folder: string }>;

// Serial: hooks of the test's own that follow find the folder.
test.serial.beforeEach(async (t) => {
  t.context = { folder: await mkdtemp(join(tmpdir(), 'ltrp-test-')) };
});

test.afterEach.always((t) => rm(t.context.folder, { recursive: true, force: true }));
