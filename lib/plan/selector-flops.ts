/** Matrix products of selectors on one image, as lib/plan/flops.ts counts; what docs/method.md says that each computes. */
import type { SelectorName } from '../selectors.js';
import type { MaeConfig, ModelConfig, TransformerConfig } from '../types.js';
import { loopFlops, rankerFlops, transformerFlops } from './flops.js';

/** The models that selectors ask. */
export interface AskedConfigs {
  ranker: Pick<ModelConfig, 'encoder' | 'patchSize'> | undefined;
  mae: Pick<MaeConfig, 'encoder' | 'decoder' | 'patchSize'> | undefined;
  classifier: Pick<ModelConfig, 'encoder' | 'patchSize'> & { pooling: string };
}

/** Without products worth counting. */
const arithmetic: ReadonlySet<SelectorName> = new Set([
  'centre',
  'contrast',
  'gradient',
  'grid',
  'random',
  'variance',
] as const);

/** As `teacher` asks: rounds, and the share that is hidden. */
const teacherRounds = 4;
const teacherMaskRatio = 0.9;

/** Of a selector that will keep `kept` of the patches; undefined where nobody has counted, or there is no model. */
export function selectorFlops(
  name: SelectorName,
  { ranker, mae, classifier }: AskedConfigs,
  patches: number,
  kept: number,
): number | undefined {
  if (arithmetic.has(name)) return 0;
  switch (name) {
    case 'ranker':
      return ranker && rankerFlops(ranker, patches);
    case 'mae-attention':
      return mae && lastAttention(mae, patches);
    case 'rollout':
      return mae && rollout(mae, patches);
    case 'tome':
      return mae && merging(mae, patches, kept);
    case 'teacher':
      return mae && teacher(mae, patches);
    case 'cls-attention':
      return lastAttention(classifier, patches, classifier.pooling === 'cls' ? 1 : patches + 1);
    case 'evit':
      return dropping(classifier, patches, kept);
    case 'grad-cam':
      return gradient(classifier, patches);
    default:
      return undefined;
  }
}

type Vit = Pick<ModelConfig, 'encoder' | 'patchSize'>;

const embedding = ({ encoder, patchSize }: Vit, patches: number): number =>
  2 * patches * 3 * patchSize ** 2 * encoder.dim;

/** Parts of a block on so many tokens. */
const qkv = ({ dim }: TransformerConfig, tokens: number): number => 6 * tokens * dim ** 2;
const attended = ({ dim }: TransformerConfig, tokens: number): number => 4 * tokens ** 2 * dim;
const projected = ({ dim }: TransformerConfig, tokens: number): number => 2 * tokens * dim ** 2;
const mlp = ({ dim, mlpDim }: TransformerConfig, tokens: number): number =>
  4 * tokens * dim * mlpDim;

/** All patches and CLS through all blocks but the last, of which queries, keys and values are made. */
function toLastKeys(vit: Vit, patches: number): number {
  const { encoder } = vit;
  const most = { ...encoder, depth: encoder.depth - 1 };
  return embedding(vit, patches) + transformerFlops(most, patches + 1) + qkv(encoder, patches + 1);
}

/** What the last block's queries attend to: the CLS token's, or all of them. */
const lastAttention = (vit: Vit, patches: number, queries = 1): number =>
  toLastKeys(vit, patches) + 2 * queries * (patches + 1) * vit.encoder.dim;

/** Attention is computed once more in each block, and multiplied with what came before. */
function rollout(vit: Vit, patches: number): number {
  const { dim, depth } = vit.encoder;
  const tokens = patches + 1;
  return toLastKeys(vit, patches) + depth * (2 * tokens ** 2 * dim + 2 * tokens ** 3);
}

/** Forward, and the last block backward; a head that reads CLS needs but one token of what follows the attention. */
function gradient(vit: AskedConfigs['classifier'], patches: number): number {
  const { encoder } = vit;
  const tokens = patches + 1;
  const rows = vit.pooling === 'cls' ? 1 : tokens;
  const after = projected(encoder, rows) + mlp(encoder, rows);
  const forward = toLastKeys(vit, patches) + attended(encoder, tokens) + after;
  return forward + after + 2 * attended(encoder, tokens) + qkv(encoder, tokens);
}

/** Patches go in three blocks, between attention and MLP; of the last of them only CLS's attention is computed. */
function dropping(vit: Vit, patches: number, kept: number): number {
  const { encoder } = vit;
  const { depth } = encoder;
  const stages = [...new Set([1, 2, 3].map((quarter) => Math.floor((quarter * depth) / 4)))];
  const share = (kept / patches) ** (1 / stages.length);
  let tokens = patches + 1;
  let sum = embedding(vit, patches);
  for (let block = 0; ; block++) {
    sum += qkv(encoder, tokens);
    if (stages.includes(block)) sum += 2 * tokens * encoder.dim;
    if (block === stages.at(-1)) return sum;
    sum += attended(encoder, tokens) + projected(encoder, tokens);
    if (stages.includes(block)) tokens = Math.ceil(share * (tokens - 1) - 1e-9) + 1;
    sum += mlp(encoder, tokens);
  }
}

/** Tokens are merged in every block, between attention and MLP; even ones are compared with odd ones by a head's width. */
function merging(vit: Vit, patches: number, kept: number): number {
  const { encoder } = vit;
  let tokens = patches + 1;
  let left = patches - kept;
  let sum = embedding(vit, patches);
  for (let block = 0; block < encoder.depth && left > 0; block++) {
    const merges = Math.min(
      Math.ceil(left / (encoder.depth - block)),
      Math.floor((tokens - 1) / 2),
    );
    const pairs = Math.ceil(tokens / 2) * Math.floor(tokens / 2);
    sum += qkv(encoder, tokens) + attended(encoder, tokens) + projected(encoder, tokens);
    sum += (2 * pairs * encoder.dim) / encoder.heads;
    tokens -= merges;
    left -= merges;
    sum += mlp(encoder, tokens);
  }
  return sum;
}

/** As the authors' loop counts: a pass of the decoder for every visible patch. The engine shares some of the work. */
function teacher(mae: NonNullable<AskedConfigs['mae']>, patches: number): number {
  const visible = Math.floor(patches * (1 - teacherMaskRatio));
  const masks = teacherRounds * Math.ceil(patches / visible);
  return masks * loopFlops(mae, { patches, visible, variants: visible });
}
