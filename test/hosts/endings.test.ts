/**
 * Exit, throw, signals, workers, forks and clusters while the core computes, two at a time: as often as LTRP_ENDINGS says.
 * `npm run release:check` says 50; here each stage of an ending is met a few times.
 */
import test from 'ava';
import { makeTeacher } from '../support/lifecycle-models.js';
import { companies, endings, take, titleOf, type Expected } from '../support/lifecycle.js';
import { sharedFolder } from '../support/paths.js';

const ends = Number(process.env['LTRP_ENDINGS'] ?? 9);

const teacher = await makeTeacher(sharedFolder());

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
  // Some hold several workers or processes, each of which is an end.
  const { ends: inOne, stages = {} } = expected;
  const inMany = inOne !== undefined && companies.includes(expected);
  const times = inMany ? Math.ceil(ends / inOne) : ends;
  const how = inMany ? `, ${String(times * inOne)} workers or processes` : '';
  test.serial(`${String(times)} times ${titleOf(expected)}${how}`, async (t) => {
    const { problems, met } = await repeat(expected, times);
    t.deepEqual(problems, []);
    for (const [stage, least] of Object.entries(stages)) {
      const count = met[stage] ?? 0;
      t.log(`${stage}: ${String(count)} of ${String(times)}`);
      t.true(count >= Math.floor(least * ends), stage);
    }
  });
}
