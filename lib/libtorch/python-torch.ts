/** Where Python keeps the package torch, found without importing it. */
import { execFile } from 'node:child_process';
import { readFileSync, realpathSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { describe, quote } from '../download/failures.js';
import { cacheFolder, firstBytes, listFolder, type Environment } from './folders.js';

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

/**
 * The torch that `python3` would import, from its own answer. Asking takes about as long as a start of Python, half of what
 * LibTorch itself takes to open, so the answer is remembered (`python3.json` in the cache folder) together with everything it
 * rests on: the interpreter, the variables Python reads, and every folder and file that decides where it looks. Any of them
 * changed, gone or new, and Python is asked again.
 */
export async function askPython3(env: Environment): Promise<PythonTorch> {
  const interpreter = onPath('python3', env['PATH']);
  if (interpreter === null) return { torch: null, reason: 'python3 is not on the PATH' };
  const identity = identityOf(interpreter, env);
  const file = path.join(cacheFolder(env), 'python3.json');
  const known = identity === null ? null : recall(file, identity);
  const asked = known ?? (await ask(interpreter, env));
  if (typeof asked === 'string') return { torch: null, reason: asked };
  if (known === null && identity !== null) {
    const more = pyenvFiles(interpreter, env) ?? [];
    await remember(file, identity, { ...asked, watched: [...asked.watched, ...more] });
  }
  if (asked.torch !== '') return { torch: asked.torch, reason: '' };
  return { torch: null, reason: `${interpreter} has no torch installed` };
}

export interface PythonTorch {
  /** Folder of the package. */
  readonly torch: string | null;
  /** Why there is no torch. */
  readonly reason: string;
}

interface Answer {
  /** Folder of the package, empty without one. */
  readonly torch: string;
  /** Files that the answer depends on, existing or not. */
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

/** The answer, or the output instead of one. */
async function ask(interpreter: string, env: Environment): Promise<Answer | string> {
  return new Promise((resolve) => {
    const limits = { timeout: 10_000, killSignal: 'SIGKILL', maxBuffer: 2 ** 24 } as const;
    execFile(interpreter, ['-c', question], { env, ...limits }, (error, stdout, stderr) => {
      if (error?.killed === true) resolve(`${interpreter} gave no answer within 10 s`);
      else if (error !== null) {
        const end = String(error.code ?? error.signal);
        const said = stderr.trim().split('\n').at(-1) ?? '';
        resolve(`${interpreter} ended with ${end}${said === '' ? '' : ` and said ${quote(said)}`}`);
      } else {
        // Code that Python loads at every start may print too.
        const answer = asAnswer(stdout.trim().split('\n').at(-1) ?? '');
        const came = describe(Buffer.from(stdout));
        resolve(answer ?? `${interpreter} did not answer where torch is, but ${came}`);
      }
    });
  });
}

/** Null if it is not an answer. */
function asAnswer(text: string): (Answer & Record<string, unknown>) | null {
  try {
    const value = JSON.parse(text) as (Answer & Record<string, unknown>) | null;
    if (typeof value?.torch !== 'string' || !Array.isArray(value.watched)) return null;
    return value.watched.every((item) => typeof item === 'string') ? value : null;
  } catch {
    return null;
  }
}

function onPath(command: string, folders: string | undefined): string | null {
  for (const folder of (folders ?? '').split(path.delimiter)) {
    if (folder === '') continue;
    const file = path.resolve(folder, command);
    try {
      const stats = statSync(file);
      if (stats.isFile() && (stats.mode & 0o111) !== 0) return file;
    } catch {
      // Missing, or in a folder that does not exist or cannot be read: try the next one.
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
  try {
    return firstBytes(file, 2).toString('latin1') === '#!';
  } catch {
    return true; // can be run but not read: its type is unknown
  }
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
    const stored = asAnswer(readFileSync(file, 'utf8'));
    if (stored?.['identity'] !== identity) return null;
    return stored['stamps'] === stored.watched.map(stampOf).join() ? stored : null;
  } catch {
    return null;
  }
}

async function remember(file: string, identity: string, answer: Answer): Promise<void> {
  const stamps = answer.watched.map(stampOf).join();
  try {
    const { default: writeFileAtomic } = await import('write-file-atomic');
    await mkdir(path.dirname(file), { recursive: true });
    await writeFileAtomic(file, JSON.stringify({ identity, ...answer, stamps }));
  } catch {
    // Read-only or full: Python is asked again next time.
  }
}
