/** Exit, throw, signals, workers, forks and clusters while the core computes: 50 times each, two at a time. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { makeTeacher } from '../support/lifecycle-models.js';
import { companies, endings, take, titleOf, type Expected } from '../support/lifecycle.js';

let folder = '';
let teacher = '';

test.before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'ltrp-endings-'));
  teacher = await makeTeacher(folder);
});

test.after.always(async () => {
  await rm(folder, { recursive: true, force: true });
});

/** All problems of `times` turns, two at a time, and how many ended in which stage. */
async function repeat(
  expected: Expected,
  times: number,
): Promise<{ problems: string[]; met: Record<string, number> }> {
  const problems: string[] = [];
  const met: Record<string, number> = {};
  let turns = 0;
  const lane = async (): Promise<void> => {
    while (turns < times) {
      const turn = (turns += 1);
      const { problem, stage } = await take(expected, teacher, { turn });
      if (problem !== null) problems.push(`turn ${String(turn)}: ${problem}`);
      if (stage !== undefined) met[stage] = (met[stage] ?? 0) + 1;
    }
  };
  await Promise.all([lane(), lane()]);
  return { problems, met };
}

for (const expected of [...endings, ...companies]) {
  // Some hold several workers or processes: 50 ends of them altogether.
  const { ends, stages = {} } = expected;
  const inMany = ends !== undefined && companies.includes(expected);
  const times = inMany ? Math.ceil(50 / ends) : 50;
  const how = inMany ? `, ${String(times * ends)} workers or processes` : '';
  test.serial(`${String(times)} times ${titleOf(expected)}${how}`, async (t) => {
    const { problems, met } = await repeat(expected, times);
    t.deepEqual(problems, []);
    for (const [stage, least] of Object.entries(stages)) {
      const count = met[stage] ?? 0;
      t.log(`${stage}: ${String(count)} of ${String(times)}`);
      t.true(count >= least, stage);
    }
  });
}
