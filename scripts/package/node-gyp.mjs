#!/usr/bin/env node
/**
 * What prebuildify runs in place of node-gyp: builds through cmake-js in the project's own build folder, and puts the
 * binaries, stripped, where prebuildify looks for them (build/Release of the folder it works in). With LTRP_PACKAGE_BUILT=1
 * (`npm run package -- --built`) it takes what was built before.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { ensureNative } from '../setup/native.mjs';
import { root, say } from '../setup/say.mjs';
import { stripInto } from './strip.mjs';

if (process.env.LTRP_PACKAGE_BUILT !== '1') await ensureNative();
const from = path.join(root, 'build', 'Release');
const into = path.join(process.cwd(), 'build', 'Release');
const core = 'libltrp_core-2.13-cpu.so';
if (!existsSync(path.join(from, core))) {
  say(`The package carries ${core}, which was not built: name a LibTorch 2.13 with LIBTORCH.`);
  process.exit(1);
}
for (const name of ['ltrp.node', core]) {
  await stripInto(path.join(from, name), into);
}
