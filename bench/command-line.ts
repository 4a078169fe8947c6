/** Programs that people start: their options, their help, and what becomes of wrong ones. */
import { parseArgs, type ParseArgsConfig } from 'node:util';

/** Wrong use of a command; the message is for the person who typed it. */
export class UsageError extends Error {}

/** Values of the options; others than these are a {@link UsageError}. */
export function parse<const Options extends NonNullable<ParseArgsConfig['options']>>(
  args: readonly string[],
  options: Options,
) {
  try {
    return parseArgs({ args: withQuotedOptions(args), options }).values;
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

/** parseArgs takes `--training '--epochs 2'`, options within a value, only as `--training=--epochs 2`. */
function withQuotedOptions(args: readonly string[]): string[] {
  const joined: string[] = [];
  for (const arg of args) {
    const last = joined.at(-1);
    if (last?.startsWith('--') === true && !last.includes('=') && /^-.*\s/.test(arg))
      joined.splice(-1, 1, `${last}=${arg}`);
    else joined.push(arg);
  }
  return joined;
}

/** An option that counts something. */
export function integer(name: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < least)
    throw new UsageError(`--${name} must be an integer from ${least}, not ${text}`);
  return value;
}

/** Does the work, or prints the help. Exit status 2 after wrong use, 1 where the library refuses; anything else is a fault. */
export async function program(
  name: string,
  help: string,
  work: (args: readonly string[]) => Promise<void>,
): Promise<void> {
  const args = process.argv.slice(2);
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(help);
    return;
  }
  try {
    await work(args);
  } catch (error) {
    const isUsage = error instanceof UsageError;
    if (!isUsage && (error as Error).name !== 'LtrpError') throw error;
    process.stderr.write(`${name}: ${(error as Error).message}\n`);
    process.exitCode = isUsage ? 2 : 1;
  }
}
