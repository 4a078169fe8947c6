/**
 * ltrp: which patches of an image matter, learned without labels.
 *
 * A {@link MaskedAutoencoder} scores patches by what its reconstruction loses without them, a {@link PatchRanker} has
 * learned their order, and {@link selectPatches} chooses which to keep. The method is "Learning to Rank Patches for Unbiased
 * Image Redundancy Reduction" (Luo et al., CVPR 2024, arXiv 2404.00680).
 *
 * @packageDocumentation
 */
import { packageVersion } from './native/paths.js';

export { LtrpError, type LtrpErrorCode } from './errors.js';
export {
  imageNetMean,
  imageNetStd,
  maximumAspect,
  maximumPixels,
  minimumSide,
  readImages,
  type Fit,
  type ReadImagesOptions,
} from './images.js';
export { rankAgreement, type RankAgreement } from './agreement.js';
export {
  convertCheckpoint,
  type Conversion,
  type ConversionFormat,
  type ConvertOptions,
  type MaeFileConfig,
  type MaePart,
  type ModelKind,
  type RankerFileConfig,
} from './convert.js';
export { rankingLoss, type LossAndGradient, type RankingLossOptions } from './losses.js';
export { MaskedAutoencoder } from './masked-autoencoder.js';
export { embeddedModels } from './models.js';
export { PatchRanker, type RankOptions } from './patch-ranker.js';
export { patchBoxes, type Box, type PatchGrid } from './patch-grid.js';
export { selectPatches, type Selection, type SelectPatchesOptions } from './selection.js';
export {
  rankFiles,
  type FailedFile,
  type NamedPicture,
  type PictureSource,
  type RankedFile,
  type RankFilesOptions,
  type RankFilesResult,
} from './stream/rank-files.js';
export {
  Trainer,
  type Evaluation,
  type PretrainOptions,
  type RankerTrainingOptions,
  type StepResult,
  type StoredType,
  type TrainerOptions,
  type TrainingPicture,
} from './trainer.js';
export type {
  Device,
  Drop,
  Encoding,
  ImageBatch,
  PixelBatch,
  JobOptions,
  LoadOptions,
  LossName,
  MaeConfig,
  MaskingOptions,
  Metric,
  ModelConfig,
  PatchScores,
  Precision,
  ProgressEvent,
  ProgressListener,
  RankerConfig,
  Ranking,
  Reconstruction,
  ReconstructOptions,
  ScoreMap,
  ScoreMapOptions,
  ScoreOptions,
  TransformerConfig,
} from './types.js';

/** Version of this package. */
export const version: string = packageVersion();
