/** What selectors ask. */
import type { SelectorName } from '../selectors.js';
import { invalid } from '../validation.js';

export type AskedModel = 'none' | 'mae' | 'ranker' | 'classifier';

/** The model that a selector is asked with in an evaluation. */
export const askedModels: Readonly<Record<SelectorName, AskedModel>> = {
  centre: 'none',
  'cls-attention': 'classifier',
  contrast: 'none',
  'dpc-knn': 'none',
  evit: 'classifier',
  'grad-cam': 'classifier',
  gradient: 'none',
  grid: 'none',
  'k-means': 'none',
  'mae-attention': 'mae',
  random: 'none',
  ranker: 'ranker',
  'ranker-diverse': 'ranker',
  rollout: 'mae',
  teacher: 'mae',
  tome: 'mae',
  variance: 'none',
};

/** Selectors of the caller's own get the classifier, as in `VisionTransformer.classify`. */
const isOwn = (name: string): boolean => !Object.hasOwn(askedModels, name);

export const askedModelOf = (name: SelectorName): AskedModel =>
  isOwn(name) ? 'classifier' : askedModels[name];

/** Those whose scores depend on how many patches are kept. */
export const needKeep: ReadonlySet<SelectorName> = new Set([
  'evit',
  'grid',
  'k-means',
  'ranker-diverse',
  'tome',
] as const);

/** Whether a selector's scores may depend on how many patches are kept: nobody says so of the caller's own. */
export const dependsOnKeep = (name: SelectorName): boolean => needKeep.has(name) || isOwn(name);

/** Whether a selector was trained with labels. */
export const usesLabels = (name: SelectorName): boolean => askedModels[name] === 'classifier';

/** The same for readers; of the caller's own nobody knows. */
export function labelsWord(name: SelectorName): string {
  if (isOwn(name)) return '?';
  return usesLabels(name) ? 'yes' : 'no';
}

/** Whether a classifier can be asked so: `evit` reads the attention of a CLS token with a head, others want a linear head. */
export function canAsk(name: SelectorName, { pooling }: { pooling: string }): boolean {
  if (name === 'evit') return pooling === 'cls';
  return (name !== 'cls-attention' && name !== 'grad-cam') || pooling !== 'queries';
}

/** Patches by descending score; equal scores in raster order. */
export function descending(map: ArrayLike<number>): number[] {
  return Array.from(map, (_, i) => i).sort((a, b) => (map[b] as number) - (map[a] as number));
}

/**
 * How many of the patches a share keeps.
 *
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for a share that keeps none.
 */
export function keptOf(patches: number, keep: number): number {
  const count = Math.round(keep * patches);
  if (count > 0) return count;
  throw invalid(
    `keep must keep at least one of the ${patches} patches; got ${keep}, which keeps none.`,
  );
}
