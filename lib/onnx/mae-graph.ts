/** The masked autoencoder as ONNX graphs; shapes and order of computation as in native/core/model/mae.cpp. */
import type { NativeMaeConfig, NativeTensor, NativeTransformerConfig } from '../native/binding.js';
import { GraphBuilder, type Graph, type Value } from './graph.js';
import {
  batchShape,
  imagesInput,
  patchCount,
  patchify,
  patchValues,
  positions,
  prependCls,
  slice,
  toTheEnd,
} from './tokens.js';
import { linearTokens, tokenCount, transformer } from './transformer.js';

/** An autoencoder with a decoder. */
export type WholeMaeConfig = NativeMaeConfig & { decoder: NativeTransformerConfig };

type Weights = Record<string, NativeTensor>;

const predictionsDescription =
  "patches in the model's target space, values ordered (row, column, channel)";

/** images [n, 3, H, W], visible [n, V] -> latent [n, V + 1, D], CLS first. */
export function encoderGraph(config: NativeMaeConfig, weights: Weights): Graph {
  const g = new GraphBuilder('encoder', weights);
  const { images, visible } = encoderInputs(g, config);
  const latent = encode(g, config, images, visible);
  g.output(latent, 'latent', ['n', 'V + 1', config.encoder.dim], 'after the final norm, CLS first');
  return g.graph;
}

/** tokens [m, T, E] -> predictions [m, T - 1, p * p * 3]. */
export function decoderGraph(config: WholeMaeConfig, weights: Weights): Graph {
  const g = new GraphBuilder('decoder', weights);
  const tokens = g.input(
    'tokens',
    'float32',
    ['m', 'T', config.decoder.dim],
    'input of the first decoder block: positions added, CLS first, any patches left out',
  );
  const predictions = decode(g, config, tokens);
  const shape = ['m', 'T - 1', patchValues(config)];
  g.output(predictions, 'predictions', shape, predictionsDescription);
  return g.graph;
}

/** images [n, 3, H, W], visible [n, V] -> predictions [n, L, p * p * 3]. */
export function reconstructGraph(config: WholeMaeConfig, weights: Weights): Graph {
  const g = new GraphBuilder('reconstruct', weights);
  const { images, visible } = encoderInputs(g, config);
  const latent = encode(g, config, images, visible);
  const predictions = decode(g, config, decoderInput(g, config, latent, visible));
  const shape = ['n', patchCount(config), patchValues(config)];
  g.output(predictions, 'predictions', shape, predictionsDescription);
  return g.graph;
}

function encoderInputs(
  g: GraphBuilder,
  config: NativeMaeConfig,
): { images: Value; visible: Value } {
  const description = 'ids of the visible patches in raster order, ascending for each image';
  return {
    images: imagesInput(g, config),
    visible: g.input('visible', 'int64', ['n', 'V'], description),
  };
}

function encode(g: GraphBuilder, config: NativeMaeConfig, images: Value, visible: Value): Value {
  const { dim } = config.encoder;
  const table = positions(g, 'pos_embed', config, dim);
  const ids = g.node('Unsqueeze', [visible, g.integers(-1)]);
  const patches = g.node('GatherND', [patchify(g, images, config), ids], { batch_dims: 1 });
  const embedded = linearTokens(g, patches, 'patch_embed.proj', {
    in: patchValues(config),
    out: dim,
    count: tokenCount(g, visible),
  });
  const places = g.node('Gather', [slice(g, table, 0, 1, toTheEnd), visible], { axis: 0 });
  const tokens = prependCls(g, g.node('Add', [embedded, places]), table, dim);
  return transformer(g, tokens, config.encoder, {
    prefix: 'blocks',
    norm: 'norm',
    epsilon: config.layerNormEps,
  });
}

/** latent [n, V + 1, D] -> decoder input [n, L + 1, E]: mask tokens in the hidden places, positions added. */
function decoderInput(
  g: GraphBuilder,
  config: WholeMaeConfig,
  latent: Value,
  visible: Value,
): Value {
  const { dim } = config.decoder;
  const embedded = linearTokens(g, latent, 'decoder_embed', {
    in: config.encoder.dim,
    out: dim,
    count: tokenCount(g, latent),
  });
  const masks = g.node('Expand', [
    g.weight('mask_token'),
    batchShape(g, visible, patchCount(config), dim),
  ]);
  const seen = slice(g, embedded, 1, 1, toTheEnd);
  const ids = g.node('Expand', [
    g.node('Unsqueeze', [visible, g.integers(-1)]),
    g.node('Shape', [seen]),
  ]);
  const patches = g.node('ScatterElements', [masks, ids, seen], { axis: 1 });
  const tokens = g.concat(1, slice(g, embedded, 1, 0, 1), patches);
  return g.node('Add', [tokens, positions(g, 'decoder_pos_embed', config, dim)]);
}

/** tokens [m, T, E] -> predictions [m, T - 1, p * p * 3] of the tokens after CLS. */
function decode(g: GraphBuilder, config: WholeMaeConfig, tokens: Value): Value {
  const normed = transformer(g, tokens, config.decoder, {
    prefix: 'decoder_blocks',
    norm: 'decoder_norm',
    epsilon: config.layerNormEps,
  });
  const patches = slice(g, normed, 1, 1, toTheEnd);
  return linearTokens(g, patches, 'decoder_pred', {
    in: config.decoder.dim,
    out: patchValues(config),
    count: tokenCount(g, patches),
  });
}
