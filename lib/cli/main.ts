#!/usr/bin/env node
/** The `ltrp` command. */
import { CommanderError } from 'commander';
import { LtrpError } from '../errors.js';
import { exitCodes } from './exit-codes.js';
import { complain, errorLine } from './image-command.js';
import { interruption, interruptionBy } from './interrupt.js';
import { broughtLibtorch } from './offer.js';
import { buildProgram, fileAsOption } from './program.js';
import { ReaderLeft, watchStandardStreams } from './standard-output.js';

async function main(): Promise<void> {
  watchStandardStreams();
  try {
    if (process.argv.length <= 2) {
      buildProgram().outputHelp({ error: true });
      process.exitCode = exitCodes.usage;
      return;
    }
    await run();
  } catch (error) {
    process.exitCode = exitCodeOf(error);
  }
}

/** Once more where LibTorch was what it lacked and was fetched. */
async function run(): Promise<void> {
  try {
    await buildProgram().parseAsync();
  } catch (error) {
    if (!(await broughtLibtorch(error))) throw error;
    await buildProgram().parseAsync();
  }
}

/** Says what went wrong, where commander has not yet, and returns the exit code. */
function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) {
    const hint = fileAsOption(error);
    if (hint !== undefined) complain(hint);
    return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
  }
  const stopped = interruption();
  if (error instanceof ReaderLeft) return stopped?.exitCode ?? exitCodes.ok;
  if (stopped !== undefined && interruptionBy(error) !== undefined) {
    complain(`${stopped.word}.`);
    return stopped.exitCode;
  }
  complain(errorLine(error));
  // What commander cannot know: values that only the library checks, and options that do not go together.
  if (error instanceof LtrpError && error.code === 'ERR_LTRP_INVALID_ARGUMENT')
    return exitCodes.usage;
  if (!(error instanceof LtrpError) && error instanceof Error && error.stack !== undefined) {
    // Not one of ours: a bug report needs this.
    process.stderr.write(`${error.stack}\n`);
  }
  return exitCodes.failed;
}

await main();
