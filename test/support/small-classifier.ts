/** A classifier that costs no training: the embedded ranker's ViT, whose head becomes that of two classes. */
import { join } from 'node:path';
import { repository } from './paths.js';
import { readWeights, writeTensors } from './weights.js';

/** Writes it as safetensors; patches of 16 pixels, pooling `'cls'`, width 192. */
export async function writeClassifier(path: string): Promise<void> {
  const ranker = join(repository, 'models', 'tiny-ranker.safetensors');
  const { tensors } = await readWeights(ranker, 'ranker');
  const head = Array.from(tensors['head.weight']!.data);
  await writeTensors(path, {
    ...tensors,
    'head.weight': { data: Float32Array.from([...head, ...head.reverse()]), shape: [2, 192] },
    'head.bias': { data: new Float32Array(2), shape: [2] },
  });
}
