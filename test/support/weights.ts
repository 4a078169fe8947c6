/** Weights of a checkpoint as the core reads them, and what a test needs to compute with them by itself. */
import { readFile, writeFile } from 'node:fs/promises';
import type { NativeTensor, NativeWeights } from '../../lib/native/binding.js';
import { runJob } from '../../lib/native/job.js';
import { loadCore } from '../../lib/native/loader.js';

export async function readWeights(path: string, kind: 'mae' | 'ranker'): Promise<NativeWeights> {
  const core = await loadCore({});
  return runJob(core, {}, (job) => core.readWeights(job, path, { kind }));
}

/** Writes float32 tensors as safetensors. */
export async function writeTensors(
  path: string,
  tensors: Record<string, NativeTensor>,
): Promise<void> {
  let end = 0;
  const header = Object.entries(tensors).map(([name, { data, shape }]) => {
    const begin = end;
    end += data.byteLength;
    return [name, { dtype: 'F32', shape, data_offsets: [begin, end] }];
  });
  const text = Buffer.from(JSON.stringify(Object.fromEntries(header)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  const data = Object.values(tensors).map(({ data: values }) =>
    Buffer.from(values.buffer, values.byteOffset, values.byteLength),
  );
  await writeFile(path, Buffer.concat([length, text, ...data]));
}

/**
 * The decoder's input [n, L + 1, E], computed here: latent [n, V + 1, D] embedded, set among mask tokens, positions added.
 */
export function decoderInput(
  { tensors }: NativeWeights,
  latent: Float32Array,
  visible: Int32Array,
  images: number,
): { data: Float32Array; shape: [number, number, number] } {
  const weight = tensors['decoder_embed.weight']!;
  const bias = tensors['decoder_embed.bias']!.data;
  const positions = tensors['decoder_pos_embed']!;
  const mask = tensors['mask_token']!.data;
  const [width, from] = weight.shape as [number, number];
  const count = positions.shape[1]!;
  const seen = visible.length / images;
  const data = new Float32Array(images * count * width);
  for (let image = 0; image < images; image++) {
    const rows = new Map([[0, 0]]);
    for (let slot = 0; slot < seen; slot++) rows.set(visible[image * seen + slot]! + 1, slot + 1);
    for (let token = 0; token < count; token++) {
      const row = rows.get(token);
      for (let out = 0; out < width; out++) {
        let value = row === undefined ? mask[out]! : bias[out]!;
        for (let i = 0; row !== undefined && i < from; i++) {
          const latentIndex = (image * (seen + 1) + row) * from + i;
          value += latent[latentIndex]! * weight.data[out * from + i]!;
        }
        data[(image * count + token) * width + out] = value + positions.data[token * width + out]!;
      }
    }
  }
  return { data, shape: [images, count, width] };
}

/** tokens [n, T, E] of one image without token `removed`: [1, T - 1, E]. */
export function withoutToken(
  { data, shape }: { data: Float32Array; shape: [number, number, number] },
  image: number,
  removed: number,
): { data: Float32Array; shape: [number, number, number] } {
  const [, count, width] = shape;
  const tokens = data.subarray(image * count * width, (image + 1) * count * width);
  const kept = new Float32Array((count - 1) * width);
  kept.set(tokens.subarray(0, removed * width));
  kept.set(tokens.subarray((removed + 1) * width), removed * width);
  return { data: kept, shape: [1, count - 1, width] };
}

export const sameBytes = async (a: string, b: string): Promise<boolean> =>
  (await readFile(a)).equals(await readFile(b));
