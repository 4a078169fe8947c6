/** Shares of the patches that are kept. */
export const keeps = [0.25, 0.5, 0.75] as const;

/** Number of patches kept: 49, 98 and 147 of 196. */
export function keptCount(patches: number, keep: number): number {
  return Math.floor(patches * keep);
}
