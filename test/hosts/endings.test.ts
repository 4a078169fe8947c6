/** Exit, throw, signals, workers, forks and clusters while the core computes: 50 times each, two at a time. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { makeTeacher } from '../support/lifecycle-models.js';
import { companies, deviation, endings, scenario, type Expected } from '../support/lifecycle.js';

let folder = '';
let teacher = '';

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ltrp-endings-'));
  teacher = await makeTeacher(folder);
});

test.after.always(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** Every deviation of `times` turns. */
async function repeat(expected: Expected, times: number): Promise<string[]> {
  const { name, kill, killAfter } = expected;
  const deviations: string[] = [];
  let turn = 0;
  const lane = async (): Promise<void> => {
    while (turn < times) {
      turn += 1;
      const ending = await scenario(name, teacher, {
        turn,
        ...(kill === undefined ? {} : { kill }),
        ...(killAfter === undefined ? {} : { killAfter: killAfter(turn) }),
      });
      const problem = deviation(expected, ending);
      if (problem !== null) deviations.push(`turn ${String(turn)}: ${problem}`);
    }
  };
  await Promise.all([lane(), lane()]);
  return deviations;
}

for (const expected of endings) {
  const how = expected.kill ?? (expected.stderr === undefined ? 'process.exit()' : 'an error');
  test.serial(`50 times ${expected.name}, ${how}`, async (t) => {
    t.deepEqual(await repeat(expected, 50), []);
  });
}

// These hold several workers or processes each: 50 ends of them altogether.
for (const [name, times] of [
  ['terminate-worker-any-time', 5],
  ['terminate-many-workers', 7],
  ['terminate-worker', 17],
  ['fork', 17],
  ['cluster', 17],
] as const) {
  test.serial(`${String(times)} times ${name}`, async (t) => {
    const expected = companies.find((item) => item.name === name);
    if (expected === undefined) throw new Error(name);
    t.deepEqual(await repeat(expected, times), []);
  });
}
