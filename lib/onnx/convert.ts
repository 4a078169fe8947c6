/** A checkpoint's weights as an ONNX model. */
import { LtrpError } from '../errors.js';
import type { NativeMaeConfig, NativeRankerConfig, NativeWeights } from '../native/binding.js';
import { packageVersion } from '../native/paths.js';
import type { Graph } from './graph.js';
import { decoderGraph, encoderGraph, reconstructGraph, type WholeMaeConfig } from './mae-graph.js';
import { writeModelFile, type ModelFileOptions } from './model-file.js';
import { rankerGraph } from './ranker-graph.js';
import type { ModelMessage } from './schema.js';

/** The exported part of an autoencoder. */
export type MaePart = 'reconstruct' | 'encoder' | 'decoder';

/** The first operator set with LayerNormalization, and the format version that came with it. */
const operatorSet = 17;
const irVersion = 8;

/** A model of which kind, and of an autoencoder which part. */
export type OnnxModel = { kind: 'ranker' } | { kind: 'mae'; part: MaePart };

/** The graph of a model. */
export function onnxGraph(model: OnnxModel, { config, tensors }: NativeWeights): Graph {
  if (model.kind === 'ranker') return rankerGraph(config as NativeRankerConfig, tensors);
  const mae = config as NativeMaeConfig;
  if (model.part === 'encoder') return encoderGraph(mae, tensors);
  if (!hasDecoder(mae)) {
    throw new LtrpError(
      'ERR_LTRP_CHECKPOINT_CONTENT',
      "This checkpoint has an encoder only (as mae_pretrain_*.pth); export the part 'encoder', or give one with a decoder, such as mae_visualize_*.pth.",
    );
  }
  return model.part === 'decoder' ? decoderGraph(mae, tensors) : reconstructGraph(mae, tensors);
}

function hasDecoder(config: NativeMaeConfig): config is WholeMaeConfig {
  return config.decoder !== null;
}

/**
 * Writes `model` to `path`.
 *
 * @returns the files, and how many of the checkpoint's tensors are in them.
 * @throws {LtrpError} `ERR_LTRP_CHECKPOINT_CONTENT` (the requested decoder is missing), `ERR_LTRP_FILE_WRITE`.
 */
export async function writeOnnx(
  path: string,
  model: OnnxModel,
  weights: NativeWeights,
  options: ModelFileOptions,
): Promise<{ files: string[]; tensors: number }> {
  const graph = onnxGraph(model, weights);
  const message: ModelMessage = {
    ir_version: irVersion,
    producer_name: 'ltrp',
    producer_version: packageVersion(),
    doc_string: description(model),
    opset_import: [{ domain: '', version: operatorSet }],
    // Code that prepares pixels for the model needs its normalisation and patch size.
    metadata_props: [
      { key: 'ltrp.kind', value: model.kind },
      ...(model.kind === 'mae' ? [{ key: 'ltrp.part', value: model.part }] : []),
      { key: 'ltrp.config', value: JSON.stringify(weights.config) },
    ],
  };
  const files = await writeModelFile(path, message, graph, options);
  const tensors = graph.initializers.filter(({ name }) => name in weights.tensors).length;
  return { files, tensors };
}

function description(model: OnnxModel): string {
  if (model.kind === 'ranker') return 'Ranks the patches of images.';
  return {
    reconstruct: 'Masked autoencoder: predicts all patches from the visible ones.',
    encoder: 'Encoder of a masked autoencoder.',
    decoder: 'Decoder of a masked autoencoder.',
  }[model.part];
}
