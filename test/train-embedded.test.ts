/** `npm run train:embedded`: both models of photographs, runs that are told apart, and what is refused. */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { MaskedAutoencoder, PatchRanker } from '../lib/index.js';
import { run } from './support/command.js';
import { repository, temporaryFolder } from './support/paths.js';
import { picture } from './support/pictures.js';

const script = (name: string, args: readonly string[], env: Record<string, string> = {}) =>
  run(process.execPath, [join(repository, 'scripts', name), ...args], {
    env: { ...process.env, ...env },
  });

const trainEmbedded = (...args: readonly string[]) => script('train-embedded/main.mjs', args);

/** When each file of a kind in a folder was written. */
const written = (folder: string, name: RegExp) =>
  new Map(
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((path) => name.test(path))
      .sort()
      .map((path) => [path, statSync(join(folder, path)).mtimeMs]),
  );

test('both models; the same options go on, others make other runs', async (t) => {
  t.timeout(480_000);
  const folder = await temporaryFolder(t);
  const [runs, models, more] = ['runs', 'models', 'more'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  const photographs = [join(folder, 'a'), join(folder, 'b')];
  for (let i = 0; i < 24; i++) {
    const of = photographs[i % 2]!;
    await mkdir(of, { recursive: true });
    await picture(96, 64, 3, i + 1)
      .jpeg()
      .toFile(join(of, `${i}.jpg`));
  }
  const command = [
    ...photographs.flatMap((of) => ['--data', of]),
    ...['--maps', '2', '--precision', 'float32', '--runs', runs],
  ];
  const make = async (...args: string[]) => {
    const { code, stdout, stderr } = await trainEmbedded(...command, ...args);
    t.is(code, 0, stderr);
    return stdout;
  };
  const own = ['--teacher-steps', '1', '--steps', '2', '--models', models];

  const first = await make(...own);
  t.notRegex(first, /npm run evaluate/, 'these folders have not its layout');
  const [teacherFile, rankerFile] = ['tiny-mae', 'tiny-ranker'].map((name) =>
    join(models, `${name}.safetensors`),
  ) as [string, string];
  (await MaskedAutoencoder.load(teacherFile)).dispose();
  (await PatchRanker.load(rankerFile)).dispose();
  const lists = readdirSync(runs).filter((name) => name.endsWith('.txt'));
  const counts = lists.map((name) => readFileSync(join(runs, name), 'utf8').trim().split('\n'));
  t.deepEqual(
    counts.map((names) => names.length).sort((a, b) => a - b),
    [1, 2, 23],
  );

  const before = written(runs, /log\.jsonl$|\.safetensors$/);
  t.is((await make(...own)).match(/is finished/g)?.length, 2);
  t.deepEqual(written(runs, /log\.jsonl$|\.safetensors$/), before);

  const ranker = readFileSync(rankerFile);
  await make(...own, '--steps', '3');
  t.notDeepEqual(readFileSync(rankerFile), ranker);
  const after = written(runs, /log\.jsonl$|\.safetensors$/);
  for (const [path, time] of before) t.is(after.get(path), time, path);

  const scoring = ['--scoring', '--metric l1 --rounds 1 --mask-ratio 0.5'];
  const said = await make('--teacher', teacherFile, '--steps', '1', ...scoring);
  t.regex(said, /The ranker: .*ranker-\w+.model\.safetensors/);
  await make('--teacher', teacherFile, '--steps', '1', ...scoring, '--models', more);
  t.deepEqual(readdirSync(more), ['tiny-ranker.safetensors']);
  const maps = readdirSync(runs)
    .filter((name) => name.startsWith('maps-'))
    .map((name) => JSON.parse(readFileSync(join(runs, name, 'scores.json'), 'utf8')) as Scores);
  t.deepEqual(maps.map(({ options }) => options.metric).sort(), ['l1', 'reach']);

  // A greater teacher is not put where the tiny one is.
  const small = join(folder, 'small');
  const named = await make(
    ...['--teacher-steps', '1', '--teacher-size', 'small', '--steps', '1', '--models', small],
  );
  t.deepEqual(readdirSync(small), ['tiny-ranker.safetensors']);
  const found = /The teacher: (.*)\n/.exec(named)?.[1] ?? '';
  const teacher = await MaskedAutoencoder.load(found);
  t.is(teacher.config.encoder.dim, 384);
  teacher.dispose();
  for (const name of readdirSync(runs).filter((each) => found.includes(each.slice(0, 20))))
    await rm(join(runs, name), { recursive: true });

  // Longer: the steps at the peak go on, and the shorter teacher stays.
  await make(...own, '--teacher-steps', '2');
  const teachers = readdirSync(runs).filter((name) => name.startsWith('teacher-'));
  const steps = teachers.map((name) =>
    readFileSync(join(runs, name, 'log.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { step: number; learningRate?: number })
      .flatMap(({ step, learningRate }) => (learningRate === undefined ? [] : [step])),
  );
  t.deepEqual(
    teachers.map((name) => name.split('-')[2]),
    [undefined, '1', '2'],
  );
  t.deepEqual(steps, [
    [1, 2],
    [1, 2],
    [1, 2, 3],
  ]);
  await rm(join(runs, teachers[1]!), { recursive: true });
  const { code, stderr } = await trainEmbedded(...command, ...own);
  t.is(code, 2);
  t.regex(stderr, /--teacher-steps must be 2 or more, which are done; got 1\./);
});

interface Scores {
  options: { metric: string };
}

test('what is refused', async (t) => {
  const folder = await temporaryFolder(t);
  const data = ['--data', folder, '--runs', join(folder, 'runs')];
  for (const [args, sentence] of [
    [[], '--data needs a folder of photographs.'],
    [['--data', join(folder, 'none')], /^--data must name folders; there is no folder .*none\.$/],
    [data, 'There are no photographs in --data.'],
    [[...data, '--steps', '1.5'], '--steps must be a positive integer; got 1.5.'],
    [[...data, '--precision', 'int8'], '--precision must be float32 or bfloat16; got int8.'],
    [[...data, '--scoring', '--metric l3'], /^--scoring: option .* 'l3' is invalid\..*reach\.$/],
    [[...data, '--scoring', '--lines 3'], "--scoring: unknown option '--lines'"],
    [[...data, '--scoring', '--rounds 1 --precision float32'], /^--scoring: .*--precision/],
    [[...data, '--scoring', '--patches 400'], /^--scoring: patches is not for --store without/],
    [[...data, '--scoring', '--parts 2'], /^--scoring: .* without --part and --parts/],
    [[...data, '--teacher', 'none'], /^There is no model .*none; /],
    [
      [...data, '--teacher', 'tiny', '--teacher-steps', '9'],
      '--teacher-steps is for a teacher that is trained; leave it or --teacher out.',
    ],
    [[...data, '--teacher-size', 'huge'], '--teacher-size must be tiny, small, base; got huge.'],
    [
      [...data, '--init', 'tiny', '--teacher-size', 'small'],
      '--init has the size of its model; leave it or --teacher-size out.',
    ],
  ] as const) {
    const { code, stderr } = await trainEmbedded(...args);
    t.is(code, 2);
    const said = /^train:embedded: (.*) \(--help lists the options\)\n$/.exec(stderr)?.[1] ?? '';
    if (typeof sentence === 'string') t.is(said, sentence);
    else t.regex(said, sentence);
  }
});

test('prepare.mjs leaves out the photographs of the demo, and removes copies of them', async (t) => {
  const cache = await temporaryFolder(t);
  const puzzles = join(cache, 'ltrp/photos/files/puzzle-jigsaw/usr/share/puzzle-jigsaw/samples');
  const others = join(
    cache,
    'ltrp/photos/files/gcompris-qt-data/erase.rcc/gcompris/src/activities/erase/resource',
  );
  const demo = 'cat-animal-cat-portrait-mackerel.jpg';
  const prepared = join(cache, 'ltrp', 'photos-train');
  for (const of of [puzzles, others, prepared]) await mkdir(of, { recursive: true });
  await picture(64, 48).jpeg().toFile(join(puzzles, demo));
  await picture(64, 48).webp().toFile(join(others, 'bee.webp'));
  await picture(64, 48)
    .jpeg()
    .toFile(join(prepared, `puzzle-jigsaw-${demo}`));

  const { code, stdout, stderr } = await script('photos/prepare.mjs', [], {
    XDG_CACHE_HOME: cache,
  });
  t.is(code, 0, stderr);
  t.regex(stdout, /^1 photos: .*photos-train$/m);
  t.deepEqual(readdirSync(prepared), ['gcompris-qt-data-erase.rcc-bee.jpg']);
});
