/** Sizes of models by name. */
import type { NativeTransformerConfig } from '../native/binding.js';

export const presetNames = ['tiny', 'small', 'base'] as const;
export type PresetName = (typeof presetNames)[number];

const transformer = (dim: number, depth: number, heads: number): NativeTransformerConfig => ({
  dim,
  depth,
  heads,
  mlpDim: 4 * dim,
});

/** Masked autoencoders: the encoders of ViT-Ti, ViT-S and ViT-B; base is the published MAE. */
export const maePresets: Record<
  PresetName,
  { encoder: NativeTransformerConfig; decoder: NativeTransformerConfig }
> = {
  tiny: { encoder: transformer(192, 12, 3), decoder: transformer(128, 4, 4) },
  small: { encoder: transformer(384, 12, 6), decoder: transformer(256, 4, 8) },
  base: { encoder: transformer(768, 12, 12), decoder: transformer(512, 8, 16) },
};

/**
 * Rankers. A scorer has to be small to save anything: at 224 px with 16 px patches tiny costs 2.5% of ViT-B's forward pass,
 * small 7%, base (the paper's ViT-S) 26%.
 */
export const rankerPresets: Record<PresetName, NativeTransformerConfig> = {
  tiny: transformer(192, 4, 3),
  small: transformer(192, 12, 3),
  base: transformer(384, 12, 6),
};
