/** lib/ to dist/. */
import { existsSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { root, runPackage, say } from './say.mjs';

export async function buildTypeScript() {
  removeOrphans();
  const start = performance.now();
  await runPackage('typescript/bin/tsc', ['-p', 'tsconfig.build.json']);
  const seconds = (performance.now() - start) / 1000;
  say(`TypeScript is built (${seconds.toFixed(1)} s)`);
}

/** Output whose source is gone would still be imported; tsc leaves it. */
function removeOrphans() {
  const dist = path.join(root, 'dist');
  if (!existsSync(dist)) return;
  for (const name of readdirSync(dist, { recursive: true, encoding: 'utf8' })) {
    const source = name.replace(/(\.d\.ts|\.js)(\.map)?$/, '.ts');
    if (source !== name && !existsSync(path.join(root, 'lib', source))) {
      rmSync(path.join(dist, name), { force: true });
    }
  }
}
