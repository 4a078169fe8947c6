/** The licences of everything that users get, on any platform: the lockfile names them all. */

/** Licences that ask for no more than their text, which comes with each package. */
const free = ['MIT', 'ISC', '0BSD', 'BSD-2-Clause', 'BSD-3-Clause', 'Apache-2.0', 'BlueOak-1.0.0'];

/** Exceptions, with the reason. */
const exceptions = [
  {
    // A separate shared library that the user can replace, as the LGPL asks.
    packages: /^@img\/sharp-(libvips-[\w-]+|wasm32|win32-[\w-]+)$/,
    licences: ['LGPL-3.0-or-later'],
  },
];

/**
 * @param lock - package-lock.json, parsed.
 * @returns how many packages have each licence, and one sentence for each that is not allowed.
 */
export function checkLicences(lock) {
  const counts = new Map();
  const problems = [];
  for (const [place, entry] of Object.entries(lock.packages)) {
    if (place === '' || entry.dev === true || entry.link === true) continue;
    const name = place.slice(place.lastIndexOf('node_modules/') + 'node_modules/'.length);
    const licence = entry.license ?? 'none';
    counts.set(licence, (counts.get(licence) ?? 0) + 1);
    const allowed = exceptions
      .filter(({ packages }) => packages.test(name))
      .reduce((all, { licences }) => [...all, ...licences], free);
    if (!satisfies(licence, allowed)) problems.push(`${name} ${entry.version}: ${licence}`);
  }
  return { counts, problems };
}

/** SPDX expressions of AND and OR: of an OR one has to be allowed, of an AND all. */
function satisfies(expression, allowed) {
  const bare = expression.replace(/[()]/g, ' ').trim();
  return bare
    .split(/\s+OR\s+/)
    .some((choice) => choice.split(/\s+AND\s+/).every((part) => allowed.includes(part.trim())));
}
