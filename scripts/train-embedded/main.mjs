/**
 * Makes the embedded models from photographs: teacher, score maps, ranker. Hours on two cores. Stop it with Ctrl-C at any time, or
 * lose the machine: the same command continues, and loses minutes at most.
 *
 *   npm run train:embedded -- --data FOLDER
 *   npm run train:embedded -- --data FOLDER --teacher MODEL
 */
import { copyFileSync, mkdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { modelDigest } from '../../dist/file-digest.js';
import { locateModel } from '../../dist/models.js';
import { presetNames } from '../../dist/training/presets.js';
import { cacheRoot } from '../photos/paths.mjs';
import { hasLayout, photographsOf } from './photographs.mjs';
import { checkScoring, trainRanker } from './ranker.mjs';
import { root } from './runs.mjs';
import { trainTeacher } from './teacher.mjs';

const help = `npm run train:embedded -- --data FOLDER [options]

Makes the embedded models, tiny-mae.safetensors (the teacher) and tiny-ranker.safetensors. The same command continues after any end.
Other options or photographs make other runs, beside those that are there.

  --data <folder>      photographs, of all folders below it too; of a folder with photographs.tsv, the layout of npm run evaluate,
                       its training part alone. Give it again for more, as for photos-train in the user's cache, which npm run photos -- --extra
                       and then node scripts/photos/prepare.mjs fill
  --teacher <model>    distils a ranker from this masked autoencoder, in place of training one: a file, a folder or hf:NAME
  --teacher-steps <n>  of the teacher at the peak learning rate, 64 crops each; a tenth as many follow, in which the rate falls
                       (default 16000: with these 1.1 million crops, 2 to 9 hours on two cores that do 143 to 36 a second).
                       A greater number later prolongs the run; the teacher of each number stays
  --teacher-size <name>  of the teacher: tiny (default), small or base, the encoders of ViT-Ti, ViT-S and ViT-B. Only a tiny one is put
                       into --models
  --init <model>       weights that the teacher begins from (default: random); what tiny names is replaced in the end, unless
                       --models is given
  --maps <n>           photographs that the ranker learns from, at most (default 4000)
  --scoring <options>  options of ltrp score for the maps (default "--metric reach --surprise --rounds 1 --mask-ratio 0.75";
                       the paper's own: "--metric l1 --rounds 16 --mask-ratio 0.9")
  --steps <n>          of the ranker's training, 32 crops each (default 3000)
  --precision <name>   of both trainings and the maps: float32 or bfloat16 (default), which is float32 where the processor has no
                       products of bfloat16
  --models <folder>    where the models are put (default: models/ of the project). With --teacher it is the ranker alone, and only
                       if this is given
  --runs <folder>      where runs and maps are kept (default: runs in the user's cache)
`;

const options = {
  data: { type: 'string', multiple: true, default: [] },
  teacher: { type: 'string' },
  'teacher-steps': { type: 'string' },
  'teacher-size': { type: 'string' },
  init: { type: 'string' },
  maps: { type: 'string', default: '4000' },
  scoring: { type: 'string', default: '--metric reach --surprise --rounds 1 --mask-ratio 0.75' },
  steps: { type: 'string', default: '3000' },
  precision: { type: 'string', default: 'bfloat16' },
  models: { type: 'string' },
  runs: { type: 'string', default: join(cacheRoot(), 'runs') },
  help: { type: 'boolean', default: false },
};

try {
  await main(parseArgs({ options, args: commandLine() }).values);
} catch (error) {
  process.stderr.write(`train:embedded: ${error.message} (--help lists the options)\n`);
  process.exitCode = 2;
}

async function main(values) {
  if (values.help) return void process.stdout.write(help);
  const { data, teacher, init, scoring, precision } = values;
  if (data.length === 0) throw new Error('--data needs a folder of photographs.');
  const ofTeacher = ['teacher-steps', 'teacher-size', 'init'].find(
    (name) => values[name] !== undefined,
  );
  if (teacher !== undefined && ofTeacher !== undefined)
    throw new Error(`--${ofTeacher} is for a teacher that is trained; leave it or --teacher out.`);
  const size = values['teacher-size'] ?? 'tiny';
  if (!presetNames.includes(size))
    throw new Error(`--teacher-size must be ${presetNames.join(', ')}; got ${size}.`);
  if (values['teacher-size'] !== undefined && init !== undefined)
    throw new Error('--init has the size of its model; leave it or --teacher-size out.');
  if (!['float32', 'bfloat16'].includes(precision))
    throw new Error(`--precision must be float32 or bfloat16; got ${precision}.`);
  const teacherSteps = positive('teacher-steps', values['teacher-steps'] ?? '16000');
  const [maps, steps] = [positive('maps', values.maps), positive('steps', values.steps)];
  checkScoring(scoring);
  const [given, begin] = [await located(teacher), await located(init)];

  const runs = resolve(values.runs);
  mkdirSync(runs, { recursive: true });
  const photographs = photographsOf(data.map((folder) => resolve(folder)));
  const from =
    given ??
    (await located(
      trainTeacher({ photographs, runs, steps: teacherSteps, precision, size, init: begin }),
    ));
  const ranker = trainRanker({
    ...{ teacher: from, photographs: photographs.slice(0, maps) },
    ...{ runs, scoring, steps, precision },
  });

  const models = values.models ?? (given === undefined ? join(root, 'models') : undefined);
  const put = (file, name) => {
    if (models === undefined) return file;
    mkdirSync(models, { recursive: true });
    copyFileSync(file, join(models, name));
    return resolve(models, name);
  };
  if (given === undefined) {
    const kept = size === 'tiny' ? put(from.path, 'tiny-mae.safetensors') : from.path;
    console.log(`\nThe teacher: ${kept}`);
  }
  const made = put(ranker, 'tiny-ranker.safetensors');
  console.log(`\nThe ranker: ${made}`);
  const measured = data.find(hasLayout);
  if (measured !== undefined)
    console.log(`Measure it: npm run evaluate -- --photographs ${measured} --ranker ${made}`);
}

/** parseArgs takes a value that begins with a dash only as `--scoring=X`. */
function commandLine() {
  const args = process.argv.slice(2);
  const at = args.indexOf('--scoring');
  if (at >= 0 && at + 1 < args.length) args.splice(at, 2, `--scoring=${args[at + 1]}`);
  return args;
}

function positive(name, text) {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new Error(`--${name} must be a positive integer; got ${text}.`);
}

/** A masked autoencoder's path, and what tells it apart wherever it lies. */
async function located(model) {
  if (model === undefined) return undefined;
  const path = await locateModel(model, 'mae', {});
  return { path, digest: await modelDigest(path) };
}
