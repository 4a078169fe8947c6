/** lib/ to dist/. */
import { copyFileSync, existsSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { ensurePackages } from './packages.mjs';
import { root, runPackage, say } from './say.mjs';

const dist = path.join(root, 'dist');
let built;

/** Once, however many steps ask for it. */
export function buildTypeScript() {
  built ??= compile();
  return built;
}

/** A module of dist/. */
export async function importBuilt(file) {
  await buildTypeScript();
  return import(pathToFileURL(path.join(dist, file)).href);
}

async function compile() {
  await ensurePackages();
  removeOrphans();
  const start = performance.now();
  await runPackage('typescript/bin/tsc', ['-p', 'tsconfig.build.json']);
  for (const name of ['page-script.js', 'page-style.css']) {
    const file = path.join('cli', 'report', name);
    copyFileSync(path.join(root, 'lib', file), path.join(dist, file));
  }
  const seconds = (performance.now() - start) / 1000;
  say(`TypeScript is built (${seconds.toFixed(1)} s)`);
}

/** Output whose source is gone would still be imported; tsc leaves it. */
function removeOrphans() {
  if (!existsSync(dist)) return;
  for (const name of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
    const source = name.replace(/(\.d\.ts|\.js)(\.map)?$/, '.ts');
    if (source !== name && !existsSync(path.join(root, 'lib', source))) {
      rmSync(path.join(dist, name), { force: true });
    }
  }
}
