/** A contender that runs our ONNX graphs, a decoder or a whole ranker, in a library of its own. */
import { scoreWith, type Decode, type Inputs } from './decoding.js';
import { integer, rows, serve, timed, UnsupportedError } from './serve.js';
import { readTensor, type Tensor, type TensorFile } from './tensors.js';

export interface Peer {
  /** Loads the library, which is to use so many threads. */
  hello(threads: number): Promise<{
    name: string;
    versions: Record<string, string>;
    features: string[];
  }>;
  /** The function that the graph at `path` computes: of a decoder, or of a ranker, images [n, 3, H, W] to logits [n, L]. */
  load(kind: 'decoder' | 'ranker', path: string): Promise<Decode>;
}

/** Answers requests until standard input is closed. */
export async function servePeer(peer: Peer): Promise<void> {
  const models: { decoder?: Decode; ranker?: Decode } = {};
  let inputs: Inputs | undefined;
  let images: Tensor | undefined;
  const loaded = <T>(what: T | undefined): T => {
    if (what === undefined)
      throw new UnsupportedError('There is no ONNX graph, or nothing for it.');
    return what;
  };
  await serve({
    hello: (request) => peer.hello(integer(request, 'threads')),

    async load(request) {
      const graphs = (request['onnx'] ?? {}) as { decoder?: string; ranker?: string };
      for (const kind of ['decoder', 'ranker'] as const) {
        const path = graphs[kind];
        if (path !== undefined) models[kind] = await peer.load(kind, path);
      }
      if (request['tokens'] !== undefined) {
        const visible = request['visible'] as number[][];
        inputs = { tokens: readTensor(request['tokens'] as TensorFile), visible };
      }
      if (request['images'] !== undefined) images = readTensor(request['images'] as TensorFile);
      return {};
    },

    async scores(request) {
      const [decode, given] = [loaded(models.decoder), loaded(inputs)];
      const size = {
        images: integer(request, 'images'),
        variants: integer(request, 'variants'),
        batch: integer(request, 'decoderBatch'),
      };
      const { result, ...times } = await timed(() => scoreWith(decode, given, size));
      return { ...times, scores: result };
    },

    async rank(request) {
      const [rank, { data, shape }] = [loaded(models.ranker), loaded(images)];
      const [count, batch] = [integer(request, 'images'), integer(request, 'batch')];
      const [, ...size] = shape;
      const length = size.reduce((product, side) => product * side, 1);
      const { result, ...times } = await timed(async () => {
        const logits: number[][] = [];
        for (let from = 0; from < count; from += batch) {
          const part = Math.min(batch, count - from);
          const pixels = data.slice(from * length, (from + part) * length);
          const output = await rank({ data: pixels, shape: [part, ...size] });
          logits.push(...rows(output.data, output.shape[1] as number));
        }
        return logits;
      });
      return { ...times, logits: result };
    },
  });
}
