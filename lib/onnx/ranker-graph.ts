/** The ranker as an ONNX graph; shapes and order of computation as in native/core/model/ranker.cpp. */
import type { NativeRankerConfig, NativeTensor } from '../native/binding.js';
import { GraphBuilder, type Graph } from './graph.js';
import {
  imagesInput,
  patchCount,
  patchify,
  patchValues,
  positions,
  prependCls,
  slice,
  toTheEnd,
} from './tokens.js';
import { linear, linearTokens, transformer } from './transformer.js';

/** images [n, 3, H, W] -> logits [n, L]. */
export function rankerGraph(
  config: NativeRankerConfig,
  weights: Record<string, NativeTensor>,
): Graph {
  const g = new GraphBuilder('ranker', weights);
  const { dim } = config.encoder;
  const patches = patchCount(config);
  const images = imagesInput(g, config);

  const table = positions(g, 'pos_embed', config, dim);
  const embedded = linearTokens(g, patchify(g, images, config), 'patch_embed.proj', {
    in: patchValues(config),
    out: dim,
    count: g.integers(patches),
  });
  const placed = g.node('Add', [embedded, slice(g, table, 0, 1, toTheEnd)]);
  const tokens = transformer(g, prependCls(g, placed, table, dim), config.encoder, {
    prefix: 'blocks',
    norm: 'norm',
    epsilon: config.layerNormEps,
  });

  const read = {
    // One logit per slot of the grid from the CLS token, or one from each patch token.
    cls: () => linear(g, g.node('Gather', [tokens, g.integer(0)], { axis: 1 }), 'head'),
    token: () => {
      const rows = g.node('Reshape', [slice(g, tokens, 1, 1, toTheEnd), g.integers(-1, dim)]);
      return g.node('Reshape', [linear(g, rows, 'head'), g.integers(-1, patches)]);
    },
  };
  const description = 'one per patch in raster order; larger ranks higher';
  g.output(read[config.head](), 'logits', ['n', patches], description);
  return g.graph;
}
