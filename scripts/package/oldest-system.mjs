/**
 * Binaries that load on older systems than the one that builds them.
 *
 * A program linked here takes the newest version of every function of glibc and libstdc++, and then loads nowhere older. So
 * ours are linked against stand-ins for those libraries: shared objects without code that offer what this machine's
 * libraries offer in the versions up to a limit, and nothing newer. What is missing in them is an unresolved name, which
 * {@link newerSymbols} reports. The limits are LibTorch's own (glibc) and the GCC of that time (GCC 8).
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { root, say, SetupError } from '../setup/say.mjs';

/** The newest version of each kind of symbol that a binary may need; package.json names the first two for the loader. */
export const limits = readLimits();

function readLimits() {
  const { binary } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
  return { GLIBC: binary.glibc, GLIBCXX: binary.glibcxx, CXXABI: '1.3.11', GCC: '7.0.0' };
}

const libraries = [
  { file: 'libc.so.6', link: 'libc.so' },
  { file: 'libm.so.6', link: 'libm.so' },
  { file: 'libstdc++.so.6', link: 'libstdc++.so' },
];

/** True where binaries for other machines are made: elsewhere they are built for the machine itself. */
export const canTargetOldest = process.platform === 'linux' && process.arch === 'x64';

/**
 * The folder of the stand-ins, made when it is missing or this machine's libraries changed since; null elsewhere, and where
 * the tools for it are missing or too old: a build for this machine alone is still a build, and the tests of the package say
 * which one it was.
 */
export function ensureStandIns() {
  if (!canTargetOldest) return null;
  try {
    return makeStandIns();
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(`The binaries will be linked for systems as new as this one: ${error.message}`);
    return null;
  }
}

function makeStandIns() {
  const folder = path.join(root, 'build', `glibc-${limits.GLIBC}`);
  const real = libraries.map(({ file }) => compilerFile(file));
  const stamp = JSON.stringify([
    limits,
    real.map((file) => [file, statSync(file).size, statSync(file).mtimeMs]),
  ]);
  const stampFile = path.join(folder, 'made-from.json');
  if (existsSync(stampFile) && readFileSync(stampFile, 'utf8') === stamp) return folder;
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  libraries.forEach(({ file, link }, i) => makeStandIn(real[i], file, link, folder));
  writeFileSync(stampFile, stamp);
  return folder;
}

/**
 * What of a binary an older system cannot satisfy, one sentence each: names in a version beyond {@link limits}, and names
 * that the stand-ins lacked and this machine's libraries have. `libtorch`: LibTorch's lib/, whose libraries bring parts of a
 * newer libstdc++ along and export them; null for a binary that is loaded without it.
 */
export function newerSymbols(file, libtorch) {
  const newer = [];
  const unversioned = new Set();
  for (const { name, version, defined, weak } of dynamicSymbols(file)) {
    if (defined) continue;
    if (version === null && !weak) unversioned.add(name);
    else if (version !== null && !isWithin(version)) newer.push(`${name} of ${version}`);
  }
  for (const name of libtorch === null ? [] : ['libtorch_cpu.so', 'libc10.so']) {
    for (const symbol of dynamicSymbols(path.join(libtorch, name))) {
      if (symbol.defined) unversioned.delete(symbol.name);
    }
  }
  for (const { file: library } of libraries) {
    for (const { name, defined } of dynamicSymbols(compilerFile(library))) {
      if (defined && unversioned.has(name)) newer.push(`${name}, which an older ${library} lacks`);
    }
  }
  return [...new Set(newer)];
}

/** The newest version of each kind that a binary needs: `{ GLIBC: '2.27', ... }`. */
export function neededVersions(file) {
  const newest = {};
  for (const { version, defined } of dynamicSymbols(file)) {
    const [kind, number] = version?.split('_') ?? [];
    if (defined || number === undefined) continue;
    if (newest[kind] === undefined || compare(number, newest[kind]) > 0) newest[kind] = number;
  }
  return newest;
}

function isWithin(version) {
  const [kind, number] = version.split('_');
  const limit = limits[kind];
  return limit !== undefined && /^[\d.]+$/.test(number ?? '') && compare(number, limit) <= 0;
}

function compare(a, b) {
  const [x, y] = [a, b].map((text) => text.split('.').map(Number));
  for (let i = 0; i < Math.max(x.length, y.length); i++) {
    const difference = (x[i] ?? 0) - (y[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

function makeStandIn(real, soname, link, folder) {
  const versions = new Map(); // name to its versions within the limits
  for (const symbol of dynamicSymbols(real)) {
    if (!symbol.defined || symbol.version === null || !isWithin(symbol.version)) continue;
    if (symbol.name === symbol.version) continue; // the version's own entry
    versions.set(symbol.name, [...(versions.get(symbol.name) ?? []), symbol]);
  }
  const lines = { text: ['.text'], data: ['.data'], tls: ['.section .tbss,"awT",@nobits'] };
  const used = new Set();
  let count = 0;
  for (const [name, symbols] of versions) {
    const order = [...symbols].sort((a, b) => compareVersions(a.version, b.version));
    // The linker takes the library's own choice if it is old enough, else the newest version that is.
    const chosen = order.find((symbol) => symbol.isDefault) ?? order.at(-1);
    for (const symbol of order) {
      const label = `ltrp_${count++}`;
      const sign = symbol === chosen ? '@@' : '@';
      used.add(symbol.version);
      const kind = symbol.type === 'TLS' ? 'tls' : symbol.type === 'OBJECT' ? 'data' : 'text';
      const type = { tls: 'tls_object', data: 'object', text: 'function' }[kind];
      lines[kind].push(
        `.globl ${label}`,
        `.type ${label}, @${type}`,
        `.symver ${label}, "${name}${sign}${symbol.version}", remove`,
        `.size ${label}, 8`,
        `${label}: .zero 8`,
      );
    }
  }
  const source = path.join(folder, `${soname}.s`);
  const script = path.join(folder, `${soname}.map`);
  const output = path.join(folder, soname);
  writeFileSync(source, `${Object.values(lines).flat().join('\n')}\n`);
  writeFileSync(script, [...used].map((version) => `${version} { };\n`).join(''));
  tool(compiler(), [
    ...['-shared', '-nostdlib', '-x', 'assembler', source, '-o', output],
    ...[`-Wl,-soname,${soname}`, `-Wl,--version-script,${script}`, '-Wl,--no-gc-sections'],
  ]);
  const file = path.join(folder, link);
  // The part of glibc that is always linked in stays the system's.
  if (soname === 'libc.so.6') {
    writeFileSync(file, `GROUP ( "${output}" "${compilerFile('libc_nonshared.a')}" )\n`);
  } else {
    writeFileSync(file, `INPUT ( "${output}" )\n`);
  }
}

function compareVersions(a, b) {
  return compare(a.split('_')[1], b.split('_')[1]);
}

/** Entries of the table by which shared libraries find each other's functions. */
function dynamicSymbols(file) {
  const text = tool('readelf', ['--dyn-syms', '--wide', file]);
  return text.split('\n').flatMap((line) => {
    const fields = line.trim().split(/\s+/);
    if (!/^\d+:$/.test(fields[0] ?? '') || fields.length < 8) return [];
    const [name, ...rest] = fields[7].split(/@@?/);
    return {
      name,
      version: rest[0] ?? null,
      isDefault: fields[7].includes('@@'),
      type: fields[3],
      weak: fields[4] === 'WEAK',
      defined: fields[6] !== 'UND',
    };
  });
}

function compiler() {
  return process.env.CXX || 'c++';
}

function compilerFile(name) {
  const file = tool(compiler(), [`-print-file-name=${name}`]).trim();
  if (!path.isAbsolute(file)) throw new SetupError(`The compiler does not know where ${name} is.`);
  return file;
}

function tool(command, args) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env: { ...process.env, LC_ALL: 'C' },
  });
  if (status === 0) return stdout;
  throw new SetupError(`${command} ${args[0]} failed: ${error?.message ?? stderr.slice(0, 2000)}`);
}
