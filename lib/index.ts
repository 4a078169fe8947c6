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
export { rankAgreement, type RankAgreement, type RankAgreementOptions } from './agreement.js';
export {
  asymmetricLoss,
  meanAveragePrecision,
  type AsymmetricLossOptions,
  type MeanAveragePrecision,
} from './multi-label.js';
export {
  convertCheckpoint,
  type Conversion,
  type ConversionFormat,
  type ConvertOptions,
  type MaePart,
  type ModelKind,
} from './convert.js';
export type {
  NativeClassifierConfig as ClassifierFileConfig,
  NativeFileConfig as ModelFileConfig,
  NativeMaeConfig as MaeFileConfig,
  NativeRankerConfig as RankerFileConfig,
} from './native/binding.js';
export type { EmbedOptions } from './kept-patches.js';
export {
  keepFor,
  type CentreCrop,
  type KeepList,
  type KeepOptions,
  type KeepTarget,
  type PictureRanking,
} from './keep-list.js';
export { denseRegions, type Region, type RegionOptions } from './regions.js';
export { squeezePicture, type SqueezedPicture, type SqueezeOptions } from './squeeze.js';
export { qualityMap, type QualityMap, type QualityMapOptions } from './quality-map.js';
export { rankingLoss, type LossAndGradient, type RankingLossOptions } from './losses.js';
export { MaskedAutoencoder } from './masked-autoencoder.js';
export { embeddedModels } from './models.js';
export { PatchRanker, type RankOptions } from './patch-ranker.js';
export {
  planSavings,
  type PlanCost,
  type PlanOptions,
  type PlanShare,
  type SavingsPlan,
} from './plan-savings.js';
export { pruneOnnx, type PrunedOnnx, type PruneOptions } from './prune-onnx.js';
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
  type AnyTrainingOptions,
  type Evaluation,
  type FinetuneOptions,
  type PretrainOptions,
  type RankerTrainingOptions,
  type ScoredCrop,
  type ResumeOptions,
  type StepResult,
  type TrainerOptions,
  type TrainingChanges,
  type TrainingPicture,
} from './trainer.js';
export type {
  CropRounding,
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
  Prior,
  ProgressEvent,
  ProgressListener,
  RankerConfig,
  Ranking,
  Reconstruction,
  ReconstructOptions,
  ScoreMap,
  ScoreMapOptions,
  ScoreOptions,
  TeacherLoadOptions,
  TransformerConfig,
  SqueezeFill,
  SqueezeFormat,
  StoredType,
} from './types.js';

export {
  registerSelector,
  selectors,
  type Selector,
  type SelectorName,
  type SelectorOptions,
  type Selectors,
  type SelectorScores,
} from './selectors.js';
export {
  VisionTransformer,
  type Classification,
  type ClassifierConfig,
  type ClassifyOptions,
  type Embedding,
} from './vision-transformer.js';

/** Version of this package. */
export const version: string = packageVersion();
