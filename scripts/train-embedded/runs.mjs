/** Runs of the command `ltrp`, in folders whose names say what they depend on. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../../', import.meta.url));

export const words = (text) => text.split(/\s+/).filter((word) => word !== '');

/** Tells apart whatever JSON can say. */
export const shortDigest = (value) =>
  createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 12);

/** Ends this process where the command does not succeed. */
export function ltrp(args) {
  console.log(`\n> ltrp ${args.join(' ')}`);
  const { status, signal } = spawnSync(
    process.execPath,
    [join(root, 'dist', 'cli', 'main.js'), ...args],
    { stdio: 'inherit' },
  );
  if (status === 0) return;
  process.stderr.write(
    `ltrp ${args[0]} ended with ${signal ?? status}; run this command again to go on.\n`,
  );
  process.exit(status ?? 1);
}

/** Starts or continues a training run. Returns the file of its model. */
export function train(command, out, steps, args) {
  if (isFinished(out, steps)) console.log(`\n${out} is finished.`);
  else ltrp([command, '--out', out, '--steps', String(steps), '--resume', ...args]);
  return modelOf(out);
}

/** The model is written after the last checkpoint; one that is older is of a run that was stopped on its way. */
function isFinished(out, steps) {
  const written = (file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs;
  const last = written(join(out, `checkpoint-${String(steps).padStart(9, '0')}.safetensors`));
  return last !== undefined && written(modelOf(out)) >= last;
}

export const hasBegun = (out) => existsSync(join(out, 'run.json'));

const modelOf = (out) => join(out, 'model.safetensors');
