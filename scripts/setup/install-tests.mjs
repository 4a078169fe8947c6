/** `npm run test:install`: the real packages, looked into and installed in every way that users install them. */
import { conclude, runAva } from './commands.mjs';
import { makePackages } from './package.mjs';

export async function testInstall(args) {
  await makePackages([]);
  const files = args.length > 0 ? args : ['test/install/*.test.ts'];
  const { passed, failed, skipped } = await runAva(files);
  conclude(passed, failed, skipped);
}
