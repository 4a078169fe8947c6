/** Weights that a run is given to begin with, or to learn from: what they say of the model's geometry. */
import { imageNetMean, imageNetStd } from '../images.js';
import type {
  CoreBinding,
  NativeClassifierConfig,
  NativeMaeConfig,
  NativeModelConfig,
  NativeRankerConfig,
  NativeTransformerConfig,
} from '../native/binding.js';
import { runJob } from '../native/job.js';
import { invalid } from '../validation.js';
import type { TrainingSettings } from './training-options.js';

interface Configs {
  classifier: NativeClassifierConfig;
  mae: NativeMaeConfig;
  ranker: NativeRankerConfig;
}

/** Geometry and pixel statistics of the model in `path`. Reads the file; no device is used. */
export async function modelConfig<Kind extends keyof Configs>(
  core: CoreBinding,
  path: string,
  kind: Kind,
  signal: AbortSignal,
): Promise<Configs[Kind]> {
  const { config } = await runJob(core, { signal }, (job) => core.readWeights(job, path, { kind }));
  return config as Configs[Kind];
}

/** What a run without weights to begin from is made for. */
export const standardGeometry = ({
  patchSize = 16,
}: Pick<TrainingSettings, 'patchSize'>): Omit<NativeModelConfig, 'encoder'> => ({
  imageHeight: 224,
  imageWidth: 224,
  patchSize,
  layerNormEps: 1e-6,
  mean: imageNetMean,
  std: imageNetStd,
});

/** The geometry of a new run: of the weights that it begins from, else as asked for, else `standard`. */
export function geometryOf(
  settings: TrainingSettings,
  preset: NativeTransformerConfig,
  from: NativeModelConfig | null,
  standard: Omit<NativeModelConfig, 'encoder'>,
): NativeModelConfig {
  const { imageHeight, imageWidth, patchSize, layerNormEps, mean, std } = from ?? standard;
  const { height, width } = settings.imageSize ?? { height: imageHeight, width: imageWidth };
  const { dim = preset.dim, depth = preset.depth, heads = preset.heads } = settings;
  const encoder = from?.encoder ?? { dim, depth, heads, mlpDim: settings.mlpDim ?? 4 * dim };
  const image = { imageHeight: height, imageWidth: width, patchSize };
  return { ...image, encoder, layerNormEps, mean, std };
}

/** The command's options that the geometry of given weights decides. */
export function encoderOptions({
  encoder,
  patchSize,
}: Pick<NativeModelConfig, 'encoder' | 'patchSize'>) {
  const { dim, depth, heads, mlpDim } = encoder;
  return { dim, depth, heads, mlpDim, patchSize };
}

/** @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for an option that was given and is another than that of the weights. */
export function checkGeometry<Settings extends TrainingSettings>(
  settings: Settings,
  given: (name: keyof Settings & string) => boolean,
  weights: Record<string, unknown>,
): void {
  if (given('model'))
    throw invalid('--model must be left out: the size is that of the weights of --init.');
  const values = settings as unknown as Record<string, unknown>;
  for (const [name, value] of Object.entries(weights)) {
    if (!given(name as keyof Settings & string) || values[name] === value) continue;
    const flag = `--${name.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    throw invalid(
      `${flag} must be ${String(value)}, as in the weights of --init, or be left out; got ${String(values[name])}.`,
    );
  }
}
