/** The README of the package of the CUDA core. */
export function cudaReadme(version, glibc) {
  return `# ltrp-cuda

The core of the npm package \`ltrp\` for NVIDIA GPUs: one shared library, built for LibTorch 2.14 and CUDA 13.0.

\`\`\`sh
npm install ltrp@${version} ltrp-cuda@${version}
npx ltrp libtorch install --cuda   # LibTorch and NVIDIA's libraries into the cache folder, 2.8 GB
npx ltrp doctor                    # what was found, and what keeps a GPU from being used
\`\`\`

There is nothing to import: ltrp looks for this package, of its own version, when it first needs a core. Linux on x86-64 with
glibc ${glibc} or newer and a driver for CUDA 13.
`;
}
