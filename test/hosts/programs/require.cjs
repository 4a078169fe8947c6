// CommonJS: the package is an ES module, which newer Nodes can require.
const { PatchRanker, version } = require('ltrp');

async function main() {
  const ranker = await PatchRanker.load('tiny');
  ranker.dispose();
  console.log(version, ranker.config.imageSize);
}
void main();
