/** For each test of a file a folder and the environment of a user who has nothing: no LibTorch, no Python, no package index. */
import { spawnSync } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import anyTest, { type TestFn } from 'ava';
import { built, run, type Outcome } from './command.js';
import './folder.js';

export type Environment = Record<string, string | undefined>;

export interface Place {
  folder: string;
  env: Environment;
}

/** ava's, whose tests find their {@link Place} in `t.context`. */
export const test = anyTest as TestFn<Place>;

test.serial.beforeEach(async (t) => {
  const { folder } = t.context;
  const empty = join(folder, 'empty');
  await mkdir(empty);
  t.context.env = { HOME: join(folder, 'home'), PATH: empty, PIP_NO_INDEX: '1' };
});

export const hasPython = spawnSync('python3', ['--version']).status === 0;

/** Tests for which Python writes zip files or is asked itself. */
export const withPython = hasPython ? test : test.skip;

/** The command in this environment and nothing else of ours. */
export const ltrp = (args: readonly string[], env: Environment, uid?: number): Promise<Outcome> =>
  run(process.execPath, [built, ...args], { env, ...(uid !== undefined && { uid, gid: uid }) });
