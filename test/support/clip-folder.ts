/** A CLIP vision tower in a folder as the hub has it, made of the embedded ranker, whose weights have seen photographs. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { convertCheckpoint } from '../../lib/index.js';
import { modelType } from '../../lib/onnx/schema.js';

interface Graph {
  input: { name: string }[];
  output: object[];
  node: { op_type: string; input: string[]; output: string[] }[];
}

/** Output: `image_embeds` [n, width], the mean over the tokens. */
export async function writeClipFolder(folder: string): Promise<void> {
  const file = join(folder, 'onnx', 'vision_model.onnx');
  await mkdir(join(folder, 'onnx'), { recursive: true });
  await convertCheckpoint('tiny', file, { kind: 'ranker' });
  const model = modelType.decode(await readFile(file)) as unknown as { graph: Graph };
  const { graph } = model;
  const [input] = graph.input as [{ name: string }];
  for (const node of graph.node)
    node.input = node.input.map((name) => (name === input.name ? 'pixel_values' : name));
  input.name = 'pixel_values';
  // The last slice takes the patches of the tokens [n, T, width]; logits are made of them.
  const last = graph.node.findLastIndex(({ op_type }) => op_type === 'Slice');
  const [tokens = ''] = graph.node[last]?.input ?? [];
  const mean = {
    op_type: 'ReduceMean',
    input: [tokens],
    output: ['image_embeds'],
    attribute: [
      { name: 'axes', type: 7, ints: [1] },
      { name: 'keepdims', type: 2, i: 0 },
    ],
  };
  const { node } = modelType.root
    .lookupType('onnx.GraphProto')
    .fromObject({ node: [mean] }) as unknown as Graph;
  graph.node = [...graph.node.slice(0, last), ...node];
  const type = { tensor_type: { elem_type: 1, shape: { dim: [{ dim_param: 'n' }, {}] } } };
  graph.output = [{ name: 'image_embeds', type }];
  await writeFile(file, modelType.encode(modelType.fromObject(model)).finish());
  await writeFile(join(folder, 'config.json'), JSON.stringify({ model_type: 'clip_vision_model' }));
  const processor = {
    image_processor_type: 'CLIPImageProcessor',
    do_resize: true,
    do_center_crop: true,
    do_rescale: true,
    do_normalize: true,
    resample: 3,
    size: { shortest_edge: 224 },
    crop_size: { height: 224, width: 224 },
    image_mean: [0.485, 0.456, 0.406],
    image_std: [0.229, 0.224, 0.225],
  };
  await writeFile(join(folder, 'preprocessor_config.json'), JSON.stringify(processor));
}
