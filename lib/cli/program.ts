/** All commands, as commander knows them. */
import { existsSync } from 'node:fs';
import { Command, type CommanderError } from 'commander';
import { packageVersion } from '../native/paths.js';
import { register as registerConvert } from './convert.js';
import { register as registerDoctor } from './doctor.js';
import { register as registerEvaluate } from './evaluate.js';
import { register as registerFinetune } from './finetune.js';
import { register as registerLaunch } from './launch.js';
import { register as registerLibtorch } from './libtorch.js';
import { addYes, takeYes } from './offer.js';
import { useOptionsOf } from './option-names.js';
import { register as registerPlan } from './plan.js';
import { register as registerModels } from './models.js';
import { register as registerPretrain } from './pretrain.js';
import { register as registerPrune } from './prune.js';
import { register as registerRank } from './rank.js';
import { register as registerReconstruct } from './reconstruct.js';
import { register as registerScore } from './score.js';
import { register as registerSqueeze } from './squeeze.js';
import { register as registerServe } from './serve.js';
import { register as registerStore } from './store.js';
import { register as registerTrain } from './train.js';

export function buildProgram(): Command {
  const program = new Command('ltrp')
    .description(
      `Ranks the patches of pictures by their content, learned without labels. A masked autoencoder scores each patch; a small \
ranker learned the order. Method: "Learning to Rank Patches for Unbiased Image Redundancy Reduction" (CVPR 2024).`,
    )
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help of a command')
    .configureHelp({ sortSubcommands: false })
    .enablePositionalOptions() // what `launch` starts has options of its own
    .showSuggestionAfterError()
    .exitOverride();
  const commands = [
    registerRank,
    registerScore,
    registerReconstruct,
    registerPretrain,
    registerTrain,
    registerFinetune,
    registerEvaluate,
    registerLaunch,
    registerConvert,
    registerPrune,
    registerPlan,
    registerSqueeze,
    registerServe,
    registerStore,
    registerModels,
    registerDoctor,
    registerLibtorch,
  ];
  for (const register of commands) register(program);
  for (const command of program.commands) {
    command.exitOverride().showHelpAfterError(`(ltrp ${command.name()} --help explains it)`);
    addYes(command);
    refuseTwice(command);
  }
  program.hook('preAction', (_program, command) => {
    useOptionsOf(command);
    takeYes(command);
  });
  program.addHelpText(
    'after',
    `
Examples:
  ltrp rank photos/ --keep 0.25      rank pictures, keep a quarter of their patches, write a page
  ltrp score cat.jpg --rounds 16     ask the teacher
  ltrp doctor                        show which LibTorch and processor features are used, and why`,
  );
  return program;
}

/** Refuses an option with two values: one would be dropped silently. */
function refuseTwice(command: Command): void {
  for (const sub of command.commands) refuseTwice(sub);
  const given = new Set<string>();
  for (const option of command.options) {
    if (option.isBoolean() || option.negate || option.variadic) continue;
    command.on(`option:${option.name()}`, () => {
      if (given.has(option.name())) {
        command.error(`error: option '${option.flags}' is given more than once`, {
          code: 'ltrp.repeatedOption',
        });
      }
      given.add(option.name());
    });
  }
}

/** A file whose name begins with - looks like an option: what to do about it. */
export function fileAsOption({ code, message }: CommanderError): string | undefined {
  const name = /'(-[^']*)'/.exec(message)?.[1];
  if (code !== 'commander.unknownOption' || name === undefined || !existsSync(name)) {
    return undefined;
  }
  return `${name} is a file here too; write ./${name} for it.`;
}
