// Fetches the photographs that the embedded models are trained and measured on: Debian packages, unpacked without root
// into the user's cache. Only the files named in objects.tsv and photos.tsv are kept. Safe to interrupt and to repeat.
import { execFileSync, spawnSync } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { extraPackages, readObjects, readPhotos } from './lists.mjs';
import { photosRoot } from './paths.mjs';
import { openResources } from './rcc.mjs';

const { values: options } = parseArgs({
  options: { extra: { type: 'boolean' }, help: { type: 'boolean' }, packages: { type: 'string' } },
});
if (options.help) {
  console.log(`npm run photos -- [--extra] [--packages NAME,NAME]

Fetches the Debian packages that hold the photographs (core: 250 MB, --extra: 93 MB more) with apt-get download,
unpacks the listed files into ${photosRoot()}, and checks every one of them.
--packages fetches only those packages (palapeli-data,puzzle-jigsaw are 4 MB together).`);
  process.exit(0);
}

const rows = [...readObjects(), ...readPhotos()];
const known = [...new Set(rows.map((row) => row.package))];
const wanted = options.packages
  ? options.packages.split(',')
  : known.filter((name) => options.extra || !extraPackages.includes(name));
for (const name of wanted)
  if (!known.includes(name)) fail(`${name} is not in the lists; known: ${known.join(', ')}`);

const debs = join(photosRoot(), 'debs');
const files = join(photosRoot(), 'files');
mkdirSync(debs, { recursive: true });
mkdirSync(files, { recursive: true });

for (const name of wanted) {
  const listed = rows.filter((row) => row.package === name);
  if (listed.every((row) => existsSync(row.file))) {
    console.log(`${name}: ${listed.length} files are there`);
    continue;
  }
  const deb = fetchPackage(name);
  console.log(`${name}: unpacking`);
  unpack(name, deb, listed);
  rmSync(deb, { force: true });
}
await verify();

function fail(message) {
  console.error(`photos: ${message}`);
  process.exit(1);
}

function fetchPackage(name) {
  const complete = () =>
    readdirSync(debs).find(
      (file) => file.startsWith(`${name}_`) && file.endsWith('.deb') && isWhole(join(debs, file)),
    );
  const there = complete();
  if (there) return join(debs, there);
  console.log(`${name}: downloading`);
  if (download(name)) return join(debs, complete());
  if (process.getuid?.() === 0) {
    console.log('apt knows no such package yet; running apt-get update');
    spawnSync('apt-get', ['update', '-qq'], { stdio: 'inherit' });
    if (download(name)) return join(debs, complete());
  }
  return fail(
    `apt-get download ${name} failed. This needs Debian 12 or later (or a derivative) with its package lists: ` +
      `run "apt-get update" as root, then "npm run photos" again. Other systems: unpack the package by hand into ${files}/${name}.`,
  );
}

function download(name) {
  // apt-get drops to the user _apt when it can; a folder that user may not enter only earns a warning.
  const result = spawnSync('apt-get', ['download', '-q', name], { cwd: debs, encoding: 'utf8' });
  if (result.error)
    return fail(
      `apt-get cannot be run (${result.error.message}); the photographs come from Debian packages`,
    );
  if (result.status !== 0) console.error(result.stderr.trim());
  return result.status === 0;
}

function isWhole(deb) {
  return spawnSync('dpkg-deb', ['--fsys-tarfile', deb], { stdio: 'ignore' }).status === 0;
}

/** Unpacks beside the destination and moves file by file, so that a file that is there is always whole. */
function unpack(name, deb, listed) {
  const work = mkdtempSync(join(photosRoot(), `unpack-${name}-`));
  try {
    execFileSync('dpkg-deb', ['-x', deb, work], { stdio: ['ignore', 'ignore', 'inherit'] });
    const archives = new Map();
    for (const row of listed) {
      mkdirSync(dirname(row.file), { recursive: true });
      const partial = `${row.file}.partial`;
      if (row.archive) {
        if (!archives.has(row.archive)) {
          archives.set(
            row.archive,
            openResources(join(work, 'usr/share/gcompris-qt/rcc', row.archive)),
          );
        }
        const content = archives.get(row.archive).get(row.path);
        if (!content)
          fail(
            `${name}: ${row.archive} has no ${row.path}; is this another version of the package?`,
          );
        writeFileSync(partial, content());
      } else {
        const source = join(work, row.path);
        if (!existsSync(source))
          fail(`${name} has no ${row.path}; is this another version of the package?`);
        copyFileSync(source, partial);
      }
      renameSync(partial, row.file);
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Every listed file must decode, have the listed size (photos) or transparency (cut-outs). */
async function verify() {
  const problems = [];
  const mine = rows.filter((row) => wanted.includes(row.package));
  for (const row of mine) {
    try {
      const { width, height, hasAlpha } = await sharp(row.file).metadata();
      if (row.width && (width !== row.width || height !== row.height)) {
        problems.push(`${row.file}: ${width} x ${height}, listed as ${row.width} x ${row.height}`);
      }
      if (row.object && !hasAlpha) problems.push(`${row.file}: a cut-out without alpha`);
    } catch (error) {
      problems.push(`${row.file}: ${error.message}`);
    }
  }
  if (problems.length > 0)
    fail(
      `${problems.length} of ${mine.length} files are not as listed:\n  ${problems.join('\n  ')}`,
    );
  console.log(`${mine.length} files checked, all as listed: ${files}`);
}
