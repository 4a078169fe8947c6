/** `npm pack` and `npm publish` of the clone itself: refused while the binaries are not there. */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', '..');
if (!existsSync(path.join(root, 'prebuilds'))) {
  process.stderr.write(
    'ltrp: There are no binaries to pack. `npm run package` makes build/packages/*.tgz.\n',
  );
  process.exitCode = 1;
}
