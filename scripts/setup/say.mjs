/** Talking to the person at the terminal, and running other programs. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');

/** Ends the set-up with one sentence instead of a stack trace. */
export class SetupError extends Error {
  constructor(message, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

export function say(text) {
  process.stderr.write(`ltrp: ${text}\n`);
}

/** Says what is being done and how long it took. */
export async function step(text, work) {
  say(`${text} ...`);
  const start = performance.now();
  const result = await work();
  say(`${text}: done in ${((performance.now() - start) / 1000).toFixed(1)} s`);
  return result;
}

/**
 * Runs a program in the repository's root; its output goes to the terminal. Resolves with its exit status, or throws a
 * SetupError naming it unless `check` is false. With `quiet`, output is held back and shown only when it fails.
 */
export function run(command, args, { check = true, quiet = false, env = {}, onOutput } = {}) {
  return new Promise((resolve, reject) => {
    const pipe = quiet || onOutput !== undefined;
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: pipe ? ['ignore', 'pipe', 'pipe'] : ['ignore', 'inherit', 'inherit'],
    });
    let output = '';
    const collect = (chunk) => {
      output += chunk;
      if (!quiet) process.stdout.write(chunk);
      onOutput?.(chunk);
    };
    // A character can lie across two chunks.
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', collect);
    child.on('error', (error) => {
      reject(
        new SetupError(
          error.code === 'ENOENT' ? `${command} is not installed.` : `${command}: ${error.message}`,
        ),
      );
    });
    child.on('close', (status, signal) => {
      if (status === 0 || !check) return resolve(status ?? 1);
      if (quiet) process.stderr.write(output);
      const how = signal === null ? `exit status ${status}` : `signal ${signal}`;
      reject(new SetupError(`${path.basename(command)} ${args[0] ?? ''} failed (${how}).`));
    });
  });
}

/** A program out of node_modules, run by this Node. */
export function runPackage(bin, args, options) {
  return run(process.execPath, [path.join(root, 'node_modules', bin), ...args], options);
}

/** npm: the one that started us, if one did, so that no other npm on the PATH interferes. */
export function runNpm(args) {
  const cli = process.env.npm_execpath;
  const words = [...args, '--loglevel=error'];
  return cli?.endsWith('npm-cli.js')
    ? run(process.execPath, [cli, ...words], { quiet: true })
    : run('npm', words, { quiet: true });
}
