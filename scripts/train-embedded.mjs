/**
 * Makes the embedded models from a folder of photographs: teacher, score maps, ranker. Hours on two cores. Stop it with Ctrl-C at
 * any time, or lose the machine: the same command continues, and loses minutes at most.
 *
 *   npm run train:embedded -- --data FOLDER
 *   npm run train:embedded -- --data FOLDER --teacher FILE
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cacheRoot } from './photos/paths.mjs';

const help = `npm run train:embedded -- --data FOLDER [options]

Makes the embedded models, models/tiny-mae.safetensors and models/tiny-ranker.safetensors. The same command continues after any end.

  --data <folder>      photographs. Of a folder with the layout of npm run evaluate, its training part alone
  --teacher <file>     distils a ranker from this masked autoencoder, in place of training one;
                       models/ stays as it is, and the last line says where the ranker is
  --maps <n>           photographs that the ranker learns from, at most (default 4000)
  --steps <n>          of the ranker's training, 32 crops each (default 3000)
  --precision <name>   of the maps: float32, bfloat16 (default) or int8
  --runs <folder>      where runs and maps are kept (default: runs in the user's cache)
`;

const root = fileURLToPath(new URL('../', import.meta.url));
const options = {
  data: { type: 'string' },
  teacher: { type: 'string' },
  maps: { type: 'string', default: '4000' },
  steps: { type: 'string', default: '3000' },
  precision: { type: 'string', default: 'bfloat16' },
  runs: { type: 'string', default: join(cacheRoot(), 'runs') },
  help: { type: 'boolean', default: false },
};

try {
  main(parseArgs({ options }).values);
} catch (error) {
  process.stderr.write(`train:embedded: ${error.message}\n\n${help}`);
  process.exitCode = 2;
}

function main({ data, teacher, maps, steps, precision, runs, help: asked }) {
  if (asked) return void process.stdout.write(help);
  if (data === undefined) throw new Error('--data needs a folder of photographs');
  for (const path of [data, teacher ?? data]) {
    if (path !== 'tiny' && !existsSync(path)) throw new Error(`there is no ${path}`);
  }
  for (const [name, value] of Object.entries({ maps, steps })) {
    if (!(Number.isInteger(Number(value)) && Number(value) > 0))
      throw new Error(`--${name} must be a positive integer; got ${value}`);
  }
  mkdirSync(runs, { recursive: true });
  const list = join(runs, 'photographs.txt');
  writeFileSync(list, sample(photographsOf(resolve(data)), Number(maps)).join('\n') + '\n');
  const from = teacher ?? trainTeacher(runs);
  const ranker = trainRanker(from, list, { precision, runs, name: nameOf(from), steps });
  if (teacher !== undefined) {
    console.log(
      `\nThe ranker: ${ranker}\nMeasure it: npm run evaluate -- --photographs ${data} --ranker ${ranker}`,
    );
    return;
  }
  copyFileSync(from, join(root, 'models', 'tiny-mae.safetensors'));
  copyFileSync(ranker, join(root, 'models', 'tiny-ranker.safetensors'));
  console.log(`\nmodels/ is up to date. Measure it: npm run evaluate -- --photographs ${data}`);
}

/** Paths of all photographs in a folder, or of the training part where npm run evaluate knows its layout. */
function photographsOf(folder) {
  if (!existsSync(join(folder, 'photographs.tsv'))) {
    return readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && /\.(jpe?g|png|webp)$/i.test(entry.name))
      .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
  }
  const args = ['--photographs', folder, '--part', 'training', '--list'];
  const listed = spawnSync(
    process.execPath,
    ['--import=tsx', 'scripts/evaluate/photographs.ts', ...args],
    { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 28 },
  );
  if (listed.status !== 0) throw new Error(listed.stderr);
  return listed.stdout.trim().split('\n');
}

/**
 * So many, the same ones every time and spread over folders: those with the lowest hashes of their names. Of other hashes than those
 * by which `ltrp train` holds pictures out, or a small sample would be nothing else.
 */
function sample(paths, count) {
  if (paths.length === 0) throw new Error('there are no photographs in --data');
  const place = (path) =>
    createHash('sha256')
      .update(`sample ${basename(path)}`)
      .digest('hex');
  return paths.sort((a, b) => (place(a) < place(b) ? -1 : 1)).slice(0, count);
}

/** Of photographs of Debian packages and scenes made of them, which everyone can fetch. */
function trainTeacher(runs) {
  run('scripts/photos/fetch.mjs', ['--extra']);
  run('scripts/photos/prepare.mjs', []);
  run('scripts/photos/scenes.mjs', words('--split train --size 256 --count 8000 --seed 1 --extra'));
  run('scripts/photos/scenes.mjs', words('--split val --size 224 --count 200 --seed 2'));
  const scenes = join(cacheRoot(), 'scenes');
  return train('pretrain', join(runs, 'tiny-mae'), [
    ...[
      '--data',
      join(cacheRoot(), 'photos-train@0.3'),
      join(scenes, 'train-256-seed1-extra', 'images'),
    ],
    ...['--val', join(scenes, 'val-224-seed2', 'images')],
    ...words(`
      --model tiny --steps 2000 --batch-size 64 --micro-batch-size 64 --precision bfloat16
      --learning-rate 0.001 --warmup 100 --crop-scale 0.3,1 --cache-memory 3GiB
      --val-every 250 --val-count 128 --checkpoint-every 5m`),
  ]);
}

/** Returns the file of a ranker that has learned from the teacher's maps of all photographs. */
function trainRanker(teacher, list, { precision, runs, name, steps }) {
  const maps = join(runs, `${name}-maps`);
  run('dist/cli/main.js', [
    ...['score', list, '--store', maps, '--model', teacher, '--precision', precision],
    ...words('--metric reach --surprise --rounds 1 --mask-ratio 0.75 --crop-scale 0.6,1 --seed 1'),
  ]);
  return train('train', join(runs, `${name}-ranker`), [
    ...['--scores', maps],
    ...words(`
      --model tiny --loss listMle --smoothing 0.7 --steps ${steps} --warmup ${Math.ceil(steps / 20)}
      --val-every ${Math.ceil(steps / 6)} --batch-size 32 --micro-batch-size 32 --precision bfloat16
      --learning-rate 0.001 --checkpoint-every 2m`),
  ]);
}

/** Starts or continues a training run, whose options are those it began with. Returns the file of its model. */
function train(command, out, args) {
  const model = join(out, 'model.safetensors');
  if (existsSync(model)) console.log(`\n${out} is finished.`);
  else {
    const begun = existsSync(join(out, 'run.json'));
    run('dist/cli/main.js', [command, '--out', out, ...(begun ? ['--resume'] : args)]);
  }
  return model;
}

function run(script, args) {
  console.log(`\n> node ${script} ${args.join(' ')}`);
  const { status, signal } = spawnSync(process.execPath, [join(root, script), ...args], {
    stdio: 'inherit',
  });
  if (status === 0) return;
  process.stderr.write(
    `${script} ended with ${signal ?? status}; run this command again to go on.\n`,
  );
  process.exit(status ?? 1);
}

/** What tells a model apart: `runs/a/model.safetensors` is `a`. */
function nameOf(file) {
  const name = basename(file).replace(/\.[a-z]+$/, '');
  return name === 'model' ? basename(dirname(resolve(file))) : name;
}

function words(text) {
  return text.trim().split(/\s+/);
}
