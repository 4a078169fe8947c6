/** `ltrp plan`: whether fewer patches pay on this machine. */
import type { Command } from 'commander';
import { planSavings, type PlanCost, type SavingsPlan } from '../plan-savings.js';
import { shortPath } from './image-arguments.js';
import { interruptSignal } from './interrupt.js';
import { parseInteger, parseName, parseShares } from './options.js';

interface PlanSettings {
  shares?: number[];
  ranker?: string;
  batchSize?: number;
  rounds?: number;
  threads?: number;
  size?: number;
  patches?: number;
  json?: true;
}

export function register(program: Command): void {
  program
    .command('plan')
    .summary('measure whether fewer patches pay for a vision transformer in ONNX')
    .description(
      `Measures on this machine the time, operations and memory of a vision transformer in ONNX with all of its patches, and of ranker \
and model together with fewer. Prints at which shares of the patches it pays, or that it does not pay. Needs onnxruntime-node.`,
    )
    .argument('<model>', 'the .onnx file, whose only input is pictures')
    .option(
      '--shares <list>',
      'shares to measure, separated by commas (default: 75%,50%,25%)',
      parseShares('(0, 1)'),
    )
    .option('--ranker <model>', 'an embedded ranker or a path (default: tiny)', parseName)
    .option('--batch-size <count>', 'pictures in a run (default: 1)', parseInteger(1, 1024))
    .option('--rounds <count>', 'measured runs of each (default: 20)', parseInteger(4, 10_000))
    .option(
      '--threads <count>',
      "threads for ranker and model (default: the process's affinity or quota)",
      parseInteger(1, 1024),
    )
    .option(
      '--size <pixels>',
      'side of a picture, if the model leaves it open (default: 224)',
      parseInteger(1, 65536),
    )
    .option(
      '--patches <count>',
      'patches of a picture, if the model leaves its size open',
      parseInteger(2, 2 ** 20),
    )
    .option('--json', 'print the plan as JSON on standard output')
    .addHelpText(
      'after',
      `
Times are medians of alternating runs. Memory is the peak of a separate process.
A share pays if three quarters of its runs were faster than the full model.

Examples:
  ltrp plan vit.onnx
  ltrp plan clip.onnx --shares 60%,30% --batch-size 8 --json

Exit codes:
  0  measured, whether it pays or not
  1  onnxruntime-node is missing, or the model cannot be cut or run
  2  the command line is wrong
  130, 143  interrupted with Ctrl-C, ended by SIGTERM`,
    )
    .action(async (model: string, { json, ...settings }: PlanSettings) => {
      const { shares, ranker, batchSize, rounds, threads, size, patches } = settings; // not those of every command
      const given = { shares, ranker, batchSize, rounds, threads, size, patches };
      const plan = await planSavings(model, { ...given, signal: interruptSignal() });
      process.stdout.write(
        json === true ? `${JSON.stringify({ model, ...plan })}\n` : table(shortPath(model), plan),
      );
    });
}

const columns = ['patches', 'ms', 'with ranker', 'of full', 'GFLOP', 'with ranker', 'peak MB'];

const rounded = (value: number | null, scale: number, digits: number): string =>
  value === null ? '?' : (value / scale).toFixed(digits);
const giga = (flops: number | null): string => rounded(flops, 1e9, 2);
const percent = (share: number): string => `${Number((share * 100).toFixed(1))}%`;

/** For people. */
export function table(name: string, plan: SavingsPlan): string {
  const { patches, batchSize, threads, rounds, full, scorer, shares, uncounted } = plan;
  const milliseconds = ({ milliseconds: time }: PlanCost): string => rounded(time, 1, 2);
  const rows = [
    columns,
    [
      `all ${patches}`,
      milliseconds(full),
      '',
      '1.00',
      giga(full.flops),
      '',
      rounded(full.memory, 1e6, 0),
    ],
    ...shares.map(({ share, keep, model, total, ratio }) => [
      `${percent(share)} ${keep}`,
      milliseconds(model),
      milliseconds(total),
      `${ratio.median.toFixed(2)} (${ratio.from.toFixed(2)} to ${ratio.to.toFixed(2)})`,
      giga(model.flops),
      giga(total.flops),
      rounded(total.memory, 1e6, 0),
    ]),
  ];
  const widths = columns.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  const lines = rows.map((row) => row.map((text, i) => text.padStart(widths[i] ?? 0)).join('  '));
  const uncounting =
    uncounted.length === 0 ? [] : [`Operations are not counted: ${uncounted.join(', ')}.`];
  return [
    `${name}: ${batchSize} ${batchSize === 1 ? 'picture' : 'pictures'} a run, ${threads} ` +
      `${threads === 1 ? 'thread' : 'threads'}, medians of ${rounds} rounds (in brackets the middle half)`,
    ...lines,
    `The ranker: ${milliseconds(scorer)} ms, ${giga(scorer.flops)} GFLOP.`,
    ...uncounting,
    verdict(plan),
    '',
  ].join('\n');
}

function verdict({ shares, paysBelow }: SavingsPlan): string {
  if (paysBelow !== null) return `It pays below ${percent(paysBelow)} of the patches.`;
  const list = (pays: boolean): string =>
    shares
      .filter((each) => each.pays === pays)
      .map(({ share }) => percent(share))
      .join(', ');
  if (shares.some(({ pays }) => pays))
    return `It pays at ${list(true)} of the patches, and not at ${list(false)}.`;
  const smallest = percent(shares.at(-1)?.share ?? NaN);
  return `It does not pay: at no share down to ${smallest} is ranker plus model faster than the full model.`;
}
