/** The README of the package of the CUDA core. */
export function cudaReadme(version, glibc) {
  return `# ltrp-cuda

The core of the npm package \`ltrp\` for NVIDIA GPUs: one shared library, built for LibTorch 2.14 and CUDA 13.0.

\`\`\`sh
npm install ltrp@${version} ltrp-cuda@${version}
npx ltrp libtorch install --cuda   # LibTorch and NVIDIA's libraries into the cache folder, 2.8 GB
npx ltrp doctor                    # what was found, and why a GPU is not used
\`\`\`

There is nothing to import: ltrp finds this package when it first needs a core, if the versions are equal. You need Linux on x86-64 with
glibc ${glibc} or newer and a driver for CUDA 13.
`;
}
