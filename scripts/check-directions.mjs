#!/usr/bin/env node
/**
 * The directions of dependency (docs/architecture.md): cli -> lib -> lib/native -> lib/libtorch -> lib/download,
 * binding -> core -> kernels, and so on. Prints every include or import that points elsewhere; exit status 1 when there is one.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');

/** Layers of native/, by folder: what each may include besides itself. The longest matching folder counts. */
const native = {
  kernels: [],
  'core/top': [],
  'core/device': ['core/top', 'kernels'],
  'core/weights': ['core/top'],
  'core/model': ['core/top', 'core/weights', 'kernels'],
  'core/engine': ['core/top', 'core/device', 'core/weights', 'core/model', 'kernels'],
  'core/selectors': ['core/top', 'core/weights', 'core/model', 'core/engine', 'kernels'],
  'core/checkpoint': ['core/top', 'core/weights'],
  'core/training': [
    'core/top',
    'core/weights',
    'core/model',
    'core/engine',
    'core/selectors',
    'core/checkpoint',
    'core/ranks',
    'kernels',
  ],
  'core/ranks': ['core/top'],
  gloo_names: [],
  binding: ['core', 'kernels'],
  bootstrap: [],
  portable: [],
  test: ['core', 'kernels'],
};

/** System headers that only some folders may know. */
const reserved = [
  {
    pattern: /^(napi\.h|node_api\.h|node_api_types\.h|js_native_api\.h|uv\.h)$/,
    only: /^(binding|bootstrap)$/,
  },
  { pattern: /^(torch|ATen|c10)\//, only: /^(kernels|core\/|binding$|test$)/ },
];

/** Folders of lib/ and scripts: what each may import besides itself and packages. */
const typescript = {
  'lib/download': ['lib/errors.ts'],
  'lib/hub': ['lib/errors.ts', 'lib/folder-lock.ts', 'lib/download'],
  'lib/libtorch': ['lib/errors.ts', 'lib/folder-lock.ts', 'lib/user-folders.ts', 'lib/download'],
  'lib/native': ['lib/errors.ts', 'lib/types.ts', 'lib/validation.ts', 'lib/libtorch'],
  'lib/onnx': ['lib/errors.ts', 'lib/folder-lock.ts', 'lib/output-files.ts', 'lib/native'],
  'lib/prune': ['lib/errors.ts', 'lib/onnx'],
  'lib/shards': ['lib/top', 'lib/download'],
  'lib/pictures': ['lib/top', 'lib/shards'],
  'lib/plan': ['lib/top', 'lib/native'],
  'lib/data': ['lib/top', 'lib/native', 'lib/pictures', 'lib/shards'],
  'lib/stream': ['lib/top', 'lib/data', 'lib/pictures'],
  'lib/training': ['lib/top', 'lib/native', 'lib/data', 'lib/shards'],
  'lib/store': ['lib/top', 'lib/data', 'lib/shards'],
  'lib/serve': ['lib/top', 'lib/native', 'lib/pictures', 'lib/stream', 'lib/download'],
  'lib/evaluation': ['lib/top', 'lib/native', 'lib/plan'],
  'lib/cli': [
    ...['lib/top', 'lib/native', 'lib/libtorch'],
    ...['lib/data', 'lib/pictures', 'lib/stream', 'lib/training', 'lib/serve', 'lib/hub'],
    ...['lib/shards', 'lib/store', 'lib/evaluation'],
  ],
  'lib/top': [
    'lib/native',
    'lib/hub',
    'lib/onnx',
    'lib/pictures',
    'lib/plan',
    'lib/prune',
    'lib/stream',
  ],
};

const problems = [];

function files(folder, pattern) {
  const absolute = path.join(root, folder);
  if (!existsSync(absolute)) return [];
  return readdirSync(absolute, { recursive: true, encoding: 'utf8' })
    .filter((name) => pattern.test(name) && !name.startsWith('third_party'))
    .map((name) => path.posix.join(folder, name));
}

/** `core/engine` for core/engine/x.h, `core/top` for core/x.h, `kernels` for kernels/cpu/x.h. */
function nativeLayer(file) {
  const parts = file.split('/');
  if (parts[0] !== 'core') return parts[0];
  return parts.length === 2 ? 'core/top' : `core/${parts[1]}`;
}

function mayReach(allowed, target, layer) {
  return allowed.some(
    (entry) => entry === target || entry === layer || layer.startsWith(`${entry}/`),
  );
}

for (const file of files('native', /\.(h|cpp|cu|cuh)$/)) {
  const inside = file.slice('native/'.length);
  const layer = nativeLayer(inside);
  const allowed = native[layer];
  if (allowed === undefined) {
    problems.push(`${file}: the folder is not in the table of scripts/check-directions.mjs`);
    continue;
  }
  readFileSync(path.join(root, file), 'utf8')
    .split('\n')
    .forEach((line, index) => {
      const quoted = /^\s*#\s*include\s*"([^"]+)"/.exec(line)?.[1];
      const angled = /^\s*#\s*include\s*<([^>]+)>/.exec(line)?.[1];
      const where = `${file}:${index + 1}`;
      if (quoted !== undefined) {
        const target = existsSync(path.join(root, 'native', quoted))
          ? quoted
          : path.posix.join(path.posix.dirname(inside), quoted);
        const targetLayer = nativeLayer(target);
        if (targetLayer !== layer && !mayReach(allowed, target, targetLayer)) {
          problems.push(`${where}: ${layer} may not include ${quoted}`);
        }
      }
      for (const { pattern, only } of angled === undefined ? [] : reserved) {
        if (pattern.test(angled) && !only.test(layer)) {
          problems.push(`${where}: ${layer} may not include <${angled}>`);
        }
      }
    });
}

function typescriptLayer(file) {
  const parts = file.split('/');
  return parts.length === 2 ? 'lib/top' : `lib/${parts[1]}`;
}

for (const file of files('lib', /\.ts$/)) {
  const layer = typescriptLayer(file);
  const allowed = typescript[layer];
  if (allowed === undefined) {
    problems.push(`${file}: the folder is not in the table of scripts/check-directions.mjs`);
    continue;
  }
  const text = readFileSync(path.join(root, file), 'utf8');
  for (const match of text.matchAll(/(?:from|import)\s*\(?\s*'(\.[^']+)'/g)) {
    const target = path.posix.normalize(
      path.posix.join(path.posix.dirname(file), match[1].replace(/\.js$/, '.ts')),
    );
    const targetLayer = typescriptLayer(target);
    if (targetLayer !== layer && !mayReach(allowed, target, targetLayer)) {
      const line = text.slice(0, match.index).split('\n').length;
      problems.push(`${file}:${line}: ${layer} may not import ${target}`);
    }
  }
}

for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exitCode = 1;
