// Makes the embedded models, from nothing: photographs, scenes, teacher, ranker, models/. Hours on two cores; stop it with
// Press Ctrl-C at any time (or lose the machine): the same command continues from the last checkpoint.
//   npm run train:embedded
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheRoot } from './photos/paths.mjs';

const root = fileURLToPath(new URL('../', import.meta.url));

function run(script, args) {
  console.log(`\n> node ${script} ${args.join(' ')}`);
  const { status, signal } = spawnSync(process.execPath, [join(root, script), ...args], {
    stdio: 'inherit',
  });
  if (status !== 0) {
    console.error(`${script} ended with ${signal ?? status}; run this command again to go on.`);
    process.exit(status ?? 1);
  }
}

/** Starts or continues a training run; its options are those it began with. */
function train(command, out, args) {
  if (existsSync(join(out, 'model.safetensors'))) {
    console.log(`\n${out} is finished.`);
    return;
  }
  const begun = existsSync(join(out, 'run.json'));
  run('dist/cli/main.js', [command, '--out', out, ...(begun ? ['--resume'] : args)]);
}

run('scripts/photos/fetch.mjs', ['--extra']);
run('scripts/photos/prepare.mjs', []);
const scenes = (args) => run('scripts/photos/scenes.mjs', args.split(' '));
scenes('--split train --size 256 --count 8000 --seed 1 --extra');
scenes('--split val --size 224 --count 200 --seed 2');

const data = [
  join(cacheRoot(), 'photos-train@0.3'),
  join(cacheRoot(), 'scenes', 'train-256-seed1-extra', 'images'),
];
const val = join(cacheRoot(), 'scenes', 'val-224-seed2', 'images');
const runs = join(cacheRoot(), 'runs');
const shared = [
  '--data',
  ...data,
  '--val',
  val,
  '--cache-memory',
  '3GiB',
  '--precision',
  'bfloat16',
];
const words = (text) => text.trim().split(/\s+/);

train('pretrain', join(runs, 'tiny-mae'), [
  ...shared,
  ...words(`
    --model tiny --steps 2000 --batch-size 64 --micro-batch-size 64
    --learning-rate 0.001 --warmup 100 --crop-scale 0.3,1
    --val-every 250 --val-count 128 --checkpoint-every 5m`),
]);
train('train', join(runs, 'tiny-ranker'), [
  ...shared,
  ...['--teacher', join(runs, 'tiny-mae', 'model.safetensors')],
  ...words(`
    --model tiny --start teacher --input full --loss listMle --mask-ratio 0.75
    --steps 600 --batch-size 16 --micro-batch-size 16
    --learning-rate 0.0005 --warmup 50 --crop-scale 0.3,1
    --val-every 100 --val-count 32 --checkpoint-every 2m`),
]);

for (const kind of ['mae', 'ranker']) {
  copyFileSync(
    join(runs, `tiny-${kind}`, 'model.safetensors'),
    join(root, 'models', `tiny-${kind}.safetensors`),
  );
}
console.log('\nmodels/ is up to date. Measure: npm run evaluate -- --mae tiny --ranker tiny');
