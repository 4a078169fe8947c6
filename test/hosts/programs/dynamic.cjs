// CommonJS everywhere: import() works in every Node.
import('ltrp').then(async ({ PatchRanker, version }) => {
  const ranker = await PatchRanker.load('tiny');
  ranker.dispose();
  console.log(version, ranker.config.imageSize);
});
