/**
 * `npm pack` and `npm publish` of the clone itself are refused: they would take whatever dist/ and prebuilds/ hold, which may be
 * older than the sources. `npm run package` makes both again and packs them without this script.
 */
import { readFileSync } from 'node:fs';

const { version } = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
);
process.stderr.write(
  `ltrp: The clone is not packed as it lies, since what was built may be older than the sources. \`npm run package\` makes build/packages/ltrp-${version}.tgz; publish that file: npm publish build/packages/ltrp-${version}.tgz\n`,
);
process.exitCode = 1;
