#!/usr/bin/env node
/**
 * THIRD_PARTY_NOTICES.md: what of others is compiled into the binaries, each with its licence's own text. Run it when one of
 * them changes; a test compares.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { root } from '../setup/say.mjs';

const components = [
  {
    name: 'nlohmann/json',
    where: 'reads and writes JSON in the cores',
    file: 'native/third_party/nlohmann/LICENSE',
  },
  {
    name: 'node-addon-api',
    where: 'the C++ face of Node-API, in all binaries',
    file: 'node_modules/node-addon-api/LICENSE.md',
  },
  {
    name: 'node-api-headers',
    where: "Node-API's declarations, in all binaries",
    file: 'node_modules/node-api-headers/LICENSE',
  },
  {
    name: 'PyTorch (LibTorch)',
    where:
      'functions of its headers, in the cores; LibTorch itself is in none of the packages, and comes with its own notices',
    file: 'native/third_party/pytorch/LICENSE',
  },
];

export function notices() {
  const sections = components.map(({ name, where, file }) => {
    const text = readFileSync(path.join(root, file), 'utf8').replace(/\r/g, '').trim();
    return `## ${name}\n\n${where[0].toUpperCase()}${where.slice(1)}.\n\n\`\`\`text\n${text}\n\`\`\`\n`;
  });
  return `# Third-party notices

ltrp is under the MIT licence (LICENSE). Its binaries contain code of others, under the licences below. npm packages that ltrp
depends on are not part of it: each is installed with its own licence.

${sections.join('\n')}
## GCC's C++ library

Functions of its headers, in all binaries. GNU General Public License, version 3, with the GCC Runtime Library Exception 3.1,
which permits conveying what GCC compiled from them under any terms. The library itself is the system's.

## NVIDIA CUDA runtime

In the package ltrp-cuda alone: the static runtime (libcudart_static), which NVIDIA's CUDA Toolkit End User License Agreement
(https://docs.nvidia.com/cuda/eula/) lists among what may be distributed as a part of an application. NVIDIA's other libraries
are in none of the packages.
`;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  writeFileSync(path.join(root, 'THIRD_PARTY_NOTICES.md'), notices());
}
