/** Where Python keeps the package torch, found without importing it. */
import { execFile } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { cacheFolder, type Environment } from './paths.js';

/** `lib/python3.x/site-packages/torch` folders of a Python prefix, and the prefix itself (conda's own libtorch). */
export function torchOfPrefix(prefix: string | undefined): string[] {
  if (prefix === undefined || prefix === '') return [];
  const found: string[] = [];
  const library = listFolder(path.join(prefix, 'lib'));
  for (const name of library) {
    if (!/^python3\.\d+$/.test(name)) continue;
    const folder = path.join(prefix, 'lib', name, 'site-packages', 'torch');
    if (listFolder(folder).length > 0) found.push(folder);
  }
  if (library.some((name) => name.startsWith('libtorch_cpu.'))) found.push(prefix);
  return found;
}

function listFolder(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

/**
 * The torch that `python3` would import, from its own answer. Asking takes about as long as a start of Python, half of what
 * LibTorch itself takes to open, so the answer is remembered (`python3.json` in the cache folder) together with everything it
 * rests on: the interpreter, the variables Python reads, and every folder and file that decides where it looks. Any of them
 * changed, gone or new, and Python is asked again.
 */
export async function torchOfPython3(env: Environment): Promise<string[]> {
  const interpreter = onPath('python3', env['PATH']);
  if (interpreter === null) return [];
  const identity = identityOf(interpreter, env);
  const file = path.join(cacheFolder(env), 'python3.json');
  if (identity !== null) {
    const known = recall(file, identity);
    if (known !== null) return known.torch === '' ? [] : [known.torch];
  }
  const asked = await ask(interpreter, env);
  if (asked === null) return [];
  const answer = { ...asked, watched: [...asked.watched, ...(pyenvFiles(interpreter, env) ?? [])] };
  if (identity !== null) remember(file, identity, answer);
  return answer.torch === '' ? [] : [answer.torch];
}

interface Answer {
  /** Folder of the package, empty without one. */
  readonly torch: string;
  /** What the answer depends on, whether it exists or not. */
  readonly watched: readonly string[];
}

// The empty entry of sys.path is the working folder, where anything may lie. Modules that are loaded at every start (through
// .pth files, sitecustomize) may change where Python looks, so their files count too.
const question = `
import sys
sys.path = [p for p in sys.path if p]
import importlib.util, json, os, site
spec = importlib.util.find_spec('torch')
torch = os.path.dirname(spec.origin) if spec and spec.origin else ''
folders = list(sys.path)
if hasattr(site, 'getsitepackages'):
    folders += site.getsitepackages() + [site.getusersitepackages()]
files = [os.path.join(os.path.dirname(sys.executable), 'pyvenv.cfg'), os.path.join(sys.prefix, 'pyvenv.cfg')]
for folder in folders:
    if os.path.isdir(folder):
        files += [os.path.join(folder, name) for name in os.listdir(folder) if name.endswith('.pth')]
standard = os.path.dirname(os.__file__)
for module in list(sys.modules.values()):
    name = getattr(module, '__file__', None)
    if name and os.path.dirname(name) != standard:
        files.append(name)
files += [sys.executable, os.path.realpath(sys.executable)]
print(json.dumps({'torch': torch, 'watched': sorted({os.path.abspath(p) for p in folders + files})}))
`;

async function ask(interpreter: string, env: Environment): Promise<Answer | null> {
  try {
    const { stdout } = await promisify(execFile)(interpreter, ['-c', question], {
      env,
      encoding: 'utf8',
      timeout: 15_000,
      maxBuffer: 2 ** 24,
    });
    return asAnswer(JSON.parse(stdout));
  } catch {
    return null; // not a Python of this decade, or one that does not answer
  }
}

function asAnswer(value: unknown): Answer | null {
  const { torch, watched } = (value ?? {}) as { torch?: unknown; watched?: unknown };
  if (typeof torch !== 'string' || !Array.isArray(watched)) return null;
  return watched.every((item) => typeof item === 'string') ? { torch, watched } : null;
}

function onPath(command: string, folders: string | undefined): string | null {
  for (const folder of (folders ?? '').split(path.delimiter)) {
    if (folder === '') continue;
    const file = path.resolve(folder, command);
    try {
      const stats = statSync(file);
      if (stats.isFile() && (stats.mode & 0o111) !== 0) return file;
    } catch {
      // Not there, or in what is no folder, or in one that may not be read: the next one.
    }
  }
  return null;
}

/**
 * Everything outside the watched files that decides what the interpreter answers. Null where that cannot be known: scripts
 * choose an interpreter in their own ways (pyenv's way is known), and macOS has a stand-in that asks Xcode.
 */
function identityOf(interpreter: string, env: Environment): string | null {
  if (process.platform !== 'linux') return null;
  const chooser = isScript(interpreter) ? pyenvFiles(interpreter, env) : [];
  if (chooser === null) return null;
  // A chooser looks into more variables, and into the folders above the working one.
  const read = chooser.length > 0 ? /^(PYTHON|PYENV|HOME$|PATH$)/ : /^(PYTHON|HOME$)/;
  const variables = Object.entries(env)
    .filter(([name, value]) => value !== undefined && read.test(name))
    .sort(([a], [b]) => (a < b ? -1 : 1));
  // Relative entries mean another folder in every working folder.
  if (/(^|:)[^/:]/.test(env['PYTHONPATH'] ?? '')) return null;
  let real: string;
  try {
    real = realpathSync(interpreter);
  } catch {
    return null;
  }
  return JSON.stringify([interpreter, real, stampOf(real), variables, chooser]);
}

/**
 * The files that a pyenv stand-in for python3 chooses by: `.python-version` of the working folder and those above it, and what
 * is set for the user. Null for any other script.
 */
function pyenvFiles(interpreter: string, env: Environment): string[] | null {
  const root = env['PYENV_ROOT'] ?? path.join(env['HOME'] ?? '', '.pyenv');
  if (interpreter !== path.join(root, 'shims', 'python3')) return null;
  const files = [path.join(root, 'version'), path.join(root, 'versions')];
  // 'system' is the next one on the PATH.
  for (const place of (env['PATH'] ?? '').split(':')) files.push(path.resolve(place, 'python3'));
  let folder = path.resolve(env['PYENV_DIR'] ?? '.');
  for (;;) {
    files.push(path.join(folder, '.python-version'));
    const parent = path.dirname(folder);
    if (parent === folder) return files;
    folder = parent;
  }
}

function isScript(file: string): boolean {
  const start = Buffer.alloc(2);
  try {
    const descriptor = openSync(file, 'r');
    try {
      readSync(descriptor, start, 0, 2, 0);
    } finally {
      closeSync(descriptor);
    }
  } catch {
    return true; // may be run but not read: nothing is known of it
  }
  return start.toString('latin1') === '#!';
}

/** Changes when a file is written or replaced, and when a folder gains or loses an entry. */
function stampOf(file: string): string {
  try {
    const stats = statSync(file, { bigint: true });
    return [stats.dev, stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].join(':');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unknown';
  }
}

function recall(file: string, identity: string): Answer | null {
  try {
    const stored = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    if (stored['identity'] !== identity) return null;
    const answer = asAnswer(stored);
    if (answer === null) return null;
    return stored['stamps'] === answer.watched.map(stampOf).join() ? answer : null;
  } catch {
    return null;
  }
}

function remember(file: string, identity: string, answer: Answer): void {
  const mine = `${file}.${process.pid}-${Math.random().toString(36).slice(2)}`;
  try {
    const stamps = answer.watched.map(stampOf).join();
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(mine, JSON.stringify({ identity, ...answer, stamps }));
    renameSync(mine, file); // whoever reads sees all of it or nothing
  } catch {
    // Read-only or full: Python is asked again next time.
    try {
      rmSync(mine, { force: true });
    } catch {
      // It was never written.
    }
  }
}
