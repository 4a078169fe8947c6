/**
 * `npm run bench:plan`: `ltrp plan` on ViT-B/16 and CLIP ViT-B/16, one run, into docs/plan.md. bench/python/plan_vits.py makes the models.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { planSavings, type SavingsPlan } from '../lib/index.js';
import { integer, parse, program } from './command-line.js';
import { root } from './contenders.js';
import { busy } from './machine.js';
import { writeSection } from './report/section.js';
import { fixed, percent, table } from './report/tables.js';

const help = `npm run bench:plan -- [options]
  --models FOLDER  every .onnx file in it (default build/plan-models, made by bench/python/plan_vits.py if it is not there)
  --python PATH    a Python with torch, transformers, onnx and onnxscript, which makes them (default python3)
  --rounds N       measured runs of each (default 20)
  --no-write       print only, leave docs/plan.md as it is
  --help
`;

const options = {
  models: { type: 'string', default: join(root, 'build', 'plan-models') },
  python: { type: 'string', default: 'python3' },
  rounds: { type: 'string', default: '20' },
  'no-write': { type: 'boolean', default: false },
} as const;

const shares = [0.75, 0.5, 0.25];
/** Time of ranker and cut model by the full one's, at most, for what this project is for. */
const goals = new Map([
  [0.5, 0.62],
  [0.25, 0.38],
]);

function modelsIn(folder: string): string[] {
  try {
    const files = readdirSync(folder).filter((name) => name.endsWith('.onnx'));
    return files.sort().map((name) => join(folder, name));
  } catch {
    return [];
  }
}

function row(
  path: string,
  { patches, full, scorer, shares: found, paysBelow }: SavingsPlan,
): string[] {
  const side = Math.sqrt(patches);
  return [
    basename(path, '.onnx'),
    Number.isInteger(side) ? `${side} x ${side}` : String(patches),
    fixed(full.milliseconds, 1),
    fixed(scorer.milliseconds, 1),
    ...found.map(
      ({ total, ratio }) => `${fixed(total.milliseconds, 1)} (${fixed(ratio.median, 2)})`,
    ),
    paysBelow === null ? 'never' : percent(paysBelow),
  ];
}

async function main(args: readonly string[]): Promise<void> {
  const values = parse(args, options);
  const rounds = integer('rounds', values.rounds, 1);
  const folder = resolve(values.models);
  if (modelsIn(folder).length === 0) {
    const maker = join(root, 'bench', 'python', 'plan_vits.py');
    execFileSync(values.python, [maker, folder], { stdio: 'inherit' });
  }
  const crowded = busy();
  if (crowded !== null) console.error(crowded);
  // Where onnxruntime-node is.
  process.chdir(join(root, 'bench'));
  const plans: [string, SavingsPlan][] = [];
  for (const path of modelsIn(folder))
    plans.push([path, await planSavings(path, { shares, rounds })]);
  const head = ['model', 'grid', 'full, ms', 'ranker, ms'];
  const text = table(
    [...head, ...shares.map((share) => `keep ${percent(share)}`), 'pays below'],
    plans.map(([path, plan]) => row(path, plan)),
  );
  console.log(text);
  const missed = plans.flatMap(([path, plan]) =>
    plan.shares.flatMap(({ share, ratio }) => {
      const goal = goals.get(share);
      return goal === undefined || ratio.median <= goal
        ? []
        : [`${basename(path)} at ${percent(share)}: ${fixed(ratio.median, 2)} instead of ${goal}`];
    }),
  );
  for (const line of missed) console.error(line);
  if (missed.length > 0) process.exitCode = 1;
  if (values['no-write']) return;
  const threads = plans[0]?.[1].threads ?? 0;
  const section = `\`npm run bench:plan\` wrote this. Milliseconds per picture in onnxruntime-node, ${threads} threads, medians of ${rounds} rounds. With fewer
patches: ranker and cut model together, in brackets relative to the full model.${crowded === null ? '' : ` ${crowded}`}

${text}`;
  await writeSection('plan.md', 'savings', 'ViT-B/16 and CLIP ViT-B/16', section);
}

await program('bench:plan', help, main);
