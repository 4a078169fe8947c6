#!/usr/bin/env node
/** The `ltrp` command. */
import { Command, CommanderError } from 'commander';
import { LtrpError } from '../errors.js';
import { packageVersion } from '../native/paths.js';
import { register as registerConvert } from './convert.js';
import { register as registerDoctor } from './doctor.js';
import { exitCodes } from './exit-codes.js';
import { complain, errorLine } from './image-command.js';
import { interruption, isInterruption } from './interrupt.js';
import { register as registerLibtorch } from './libtorch.js';
import { register as registerPretrain } from './pretrain.js';
import { register as registerRank } from './rank.js';
import { register as registerReconstruct } from './reconstruct.js';
import { register as registerScore } from './score.js';
import { register as registerTrain } from './train.js';

function buildProgram(): Command {
  const program = new Command('ltrp')
    .description(
      `Which patches of a picture matter, learned without labels: a masked autoencoder scores what each patch is worth, a small
ranker has learned the order. Method: "Learning to Rank Patches for Unbiased Image Redundancy Reduction" (CVPR 2024).`,
    )
    .version(packageVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help of a command')
    .configureHelp({ sortSubcommands: false })
    .showSuggestionAfterError()
    .exitOverride();
  const commands = [
    registerRank,
    registerScore,
    registerReconstruct,
    registerPretrain,
    registerTrain,
    registerConvert,
    registerDoctor,
    registerLibtorch,
  ];
  for (const register of commands) register(program);
  for (const command of program.commands)
    command.exitOverride().showHelpAfterError(`(ltrp ${command.name()} --help says more)`);
  program.addHelpText(
    'after',
    `
Examples:
  ltrp rank photos/ --keep 0.25      rank pictures, keep a quarter of their patches, make a page to look at
  ltrp score cat.jpg --rounds 16     ask the teacher itself
  ltrp doctor                        see what is used to compute, and why`,
  );
  return program;
}

async function main(): Promise<void> {
  // A reader that has seen enough (| head) closes the pipe; that is no error of ours.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit(interruption()?.exitCode ?? exitCodes.ok);
    throw error;
  });
  const program = buildProgram();
  try {
    if (process.argv.length <= 2) {
      program.outputHelp({ error: true });
      process.exitCode = exitCodes.usage;
      return;
    }
    await program.parseAsync();
  } catch (error) {
    process.exitCode = exitCodeOf(error);
  }
}

/** Says what went wrong, where commander has not yet, and returns the exit code. */
function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  const stopped = interruption();
  if (stopped !== undefined && isInterruption(error)) {
    complain(`${stopped.word}.`);
    return stopped.exitCode;
  }
  complain(errorLine(error));
  // What commander cannot know: values that only the library checks, and options that do not go together.
  if (error instanceof LtrpError && error.code === 'ERR_LTRP_INVALID_ARGUMENT')
    return exitCodes.usage;
  if (!(error instanceof LtrpError) && error instanceof Error && error.stack !== undefined) {
    // Not one of ours: whoever reports it will need this.
    process.stderr.write(`${error.stack}\n`);
  }
  return exitCodes.failed;
}

await main();
