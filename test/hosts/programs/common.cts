// CommonJS in TypeScript: types by import type, values by import(), in every module resolution that knows packages.
import type { Ranking } from 'ltrp' with { 'resolution-mode': 'import' };

export async function rank(path: string): Promise<Ranking> {
  const { PatchRanker, readImages } = await import('ltrp');
  const ranker = await PatchRanker.load('tiny');
  return ranker.rank(await readImages([path], { size: 224 }));
}
