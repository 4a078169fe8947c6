/** `npm run test:install`: the real packages, looked into and installed in every way that users install them. `--built`: see package.mjs. */
import { conclude, runAva } from './commands.mjs';
import { makePackages } from './package.mjs';

export async function testInstall(args) {
  await makePackages(args.filter((arg) => arg === '--built'));
  const chosen = args.filter((arg) => arg !== '--built');
  const files = chosen.length > 0 ? chosen : ['test/install/*.test.ts'];
  const { passed, failed, skipped } = await runAva(files);
  conclude(passed, failed, skipped);
}
