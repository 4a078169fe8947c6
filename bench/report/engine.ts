/** The report's sections about our own engine: sparse deltas, memory, and where the time goes. */
import type {
  MemoryRow,
  MetricRow,
  Profile,
  ProfilePart,
  Results,
  ToleranceCurve,
  TrainingRow,
} from '../results.js';
import { digits, fixed, percent, quartiles, table, times, tiny } from './tables.js';

export function tolerance(curves: readonly ToleranceCurve[]): string {
  if (curves.length === 0) return '';
  const parts = curves.map((curve) => {
    const labels = [...new Set(curve.points.map(({ label }) => label))];
    const cells = (tolerance: number, label: string): string[] =>
      curve.points
        .filter((point) => point.tolerance === tolerance && point.label === label)
        .flatMap((point) => [
          tolerance === 0 ? `${quartiles(point.msPerImage)} ms/image` : times(point.speedUp),
          `${fixed(point.kendallTau, 3)} (${fixed(point.lowestTau, 3)})`,
          tiny(point.error),
        ]);
    const body = [...new Set(curve.points.map((point) => point.tolerance))].map((tolerance) => [
      tolerance === 0 ? '0' : tiny(tolerance),
      ...labels.flatMap((label) => cells(tolerance, label)),
    ]);
    const head = labels.flatMap((label) => [`${label}: speed`, 'tau (lowest)', 'error']);
    return `### ${curve.model}
${curve.lists} lists of ${curve.visible} scores (${curve.patches} patches); ${verdict(curve)}

${table(['tolerance', ...head], body)}`;
  });
  return `## Sparse deltas
\`tolerance\` is the share of a variant's squared norm that its products may leave out. Tau and relative error are means over lists, against
float32 scores under the same masks.

${parts.join('\n\n')}`;
}

/** The order that the aim for sparse deltas asks for. */
const wantedTau = 0.97;

function verdict({ points }: ToleranceCurve): string {
  const ordered = points.filter(({ kendallTau, speedUp }) => kendallTau >= wantedTau && speedUp);
  const best = ordered.sort((a, b) => (b.speedUp ?? 0) - (a.speedUp ?? 0))[0];
  if (best === undefined) return `no point keeps a mean Kendall tau of ${wantedTau}.`;
  return best.tolerance === 0
    ? `no tolerance is faster than 0 and keeps a mean Kendall tau of ${wantedTau}.`
    : `the most that keeps a mean Kendall tau of ${wantedTau} is ${times(best.speedUp)}, ${best.label} at tolerance ` +
        `${tiny(best.tolerance)}.`;
}

export function metrics(rows: readonly MetricRow[]): string {
  if (rows.length === 0) return '';
  const body = rows.map((row) => [
    row.model,
    row.label,
    row.metric,
    quartiles(row.msPerImage),
    times(row.againstL1),
  ]);
  return `## Metrics
The same images and masks by every metric in turns. The last column is the median over rounds of the time relative to l1. psnr and ssim
predict every patch, l1 and l2 only the masked ones.

${table(['teacher', 'contender', 'metric', 'ms/image', 'of l1'], body)}`;
}

/** What is asked of ViT-B at any batch size, beyond its weights, and what larger teachers must run in. */
const limits = { beyondWeights: 1.5e9, whole: 24 * 2 ** 30 };

export function memory(rows: readonly MemoryRow[]): string {
  if (rows.length === 0) return '';
  const mega = (bytes: number): string => digits(bytes / 1e6);
  const body = rows.map((row) => [
    row.model,
    row.label,
    String(row.images),
    quartiles(row.msPerImage),
    mega(row.weights),
    mega(row.loadPeak),
    mega(row.peak),
    `${mega(beyondWeights(row))}${aboveLimit(row) ? ' **too much**' : ''}`,
  ]);
  const head = ['teacher', '', 'images in a call', 'ms/image (quartiles)', 'weights, float32'];
  const resident = ['peak of load', 'peak of scoring', 'beyond the weights'];
  return `## Memory
Resident size of the scoring process, in MB of 10^6 bytes. "Beyond the weights" is the scoring peak minus Node, LibTorch and the float32
weights. Limits: 1,500 MB beyond the weights for ViT-B, 24 GiB in all for larger teachers.

${table([...head, ...resident], body)}`;
}

/** The stricter of the two readings. */
function beyondWeights({ peak, beforeLoad, weights }: MemoryRow): number {
  return Math.max(0, peak - beforeLoad - weights);
}

function aboveLimit(row: MemoryRow): boolean {
  return row.model.startsWith('ViT-B')
    ? Math.max(beyondWeights(row), row.peak - row.afterLoad) > limits.beyondWeights
    : Math.max(row.peak, row.loadPeak) > limits.whole;
}

export function training(rows: readonly TrainingRow[]): string {
  if (rows.length === 0) return '';
  const body = rows.map((row) => [
    row.title,
    row.label,
    quartiles(row.imagesPerSecond),
    percent(row.peakShare),
    row.memory === null ? '–' : digits(row.memory / 1e6),
  ]);
  return `## Training
Optimizer steps of 64 crops of 224 px, 32 at a time; mask ratio 0.75. Decoding, augmentation and a ranker's teacher are not timed. "Of peak"
counts the matrix products of the forward and backward pass, relative to the faster of the float32 and the precision's own peak. Without
bfloat16 products in the processor, ltrp trains in float32. "LibTorch autograd" is the same program with LibTorch's operators in the blocks.

${table(['what', 'contender', 'images/s', 'of peak', 'peak memory, MB'], body)}`;
}

const partNames: Record<ProfilePart, string> = {
  products: 'matrix products',
  logits: 'attention: q kᵀ',
  values: 'attention: p v',
  softmax: 'attention: exponentials',
  operands: 'attention: operands in, output out',
  removal: 'first block without a key',
  norm: 'layer norms',
  gelu: 'GELU, biases',
  rounding: "rounding of attention's output",
  heads: 'q, k, v by head',
  core: 'rest of the core',
  library: "LibTorch's other operators",
  allocation: 'allocation, copying (libc)',
  waiting: 'threads waiting for each other',
  kernel: 'system (page faults, scheduling)',
  node: 'Node (JavaScript thread)',
};

/** Why a part is not smaller. */
const reasons: Record<ProfilePart, string> = {
  products: 'Every token of every variant passes every linear.',
  logits: 'Float32 always: a difference would need two products. Heads are narrow (32).',
  values: 'The same.',
  softmax: 'One exponential for every query, key, head and block.',
  operands: 'Reads and writes every operand once.',
  removal: "One pass over the anchor's attention.",
  norm: 'One fused pass before each pair of products.',
  gelu: 'The MLP is four times as wide. In float32, biases and residuals too.',
  rounding: "A row's scale needs all of its heads.",
  heads: 'A copy that lets attention stream its operands.',
  core: 'Sums of scores and scheduling.',
  library: 'Float32: gathering rows. Otherwise: encoder and anchor.',
  allocation: 'Every product allocates its result.',
  waiting: 'Encoder, anchor, end of a group.',
  kernel: 'New pages and thread switches.',
  node: "Event loop and the benchmark's protocol.",
};

export function profile({ profiles, profileProblem }: Results): string {
  const title = '## Where the time goes';
  const [first] = profiles;
  if (first === undefined) {
    return profileProblem === null ? '' : `${title}\nNot measured: ${profileProblem}`;
  }
  const giga = (flops: number): string => digits(flops / 1e9);
  const summary = (name: string, cell: (found: Profile) => string): string[] => [
    name,
    ...profiles.map(cell),
    '',
  ];
  const cell = (part: ProfilePart, { parts }: Profile): string => {
    const share = parts.find((found) => found.part === part)?.share;
    if (share === undefined) return '–';
    return share < 0.0995 ? `${(100 * share).toFixed(1)}%` : percent(share);
  };
  const body = [
    summary('calls x images', ({ calls, images }) => `${calls} x ${images}`),
    summary('ms an image', ({ msPerImage }) => digits(msPerImage.median)),
    summary('processor ms an image', ({ cpuMsPerImage }) => digits(cpuMsPerImage)),
    summary('threads on a processor', ({ busy }) => percent(busy)),
    summary('products, GFLOP in float32', ({ productFlops }) => giga(productFlops.float32)),
    summary('products, GFLOP in the precision', ({ productFlops }) => giga(productFlops.own)),
    summary('products, of peak', ({ productsOfPeak }) => percent(productsOfPeak)),
    summary('attention, GFLOP', ({ attentionFlops }) => giga(attentionFlops)),
    summary('attention, of peak', ({ attentionOfPeak }) => percent(attentionOfPeak)),
    ...(Object.keys(partNames) as ProfilePart[])
      .filter((part) => profiles.some(({ parts }) => parts.some((found) => found.part === part)))
      .map((part) => [
        partNames[part],
        ...profiles.map((found) => cell(part, found)),
        reasons[part],
      ]),
  ];
  return `${title}
Linux \`perf\` (cpu-clock) samples all ${first.threads} threads while ${first.model} scores: shares of processor time. Generated code (oneDNN's)
counts as products. On a busy machine, peaks are too low and shares of them too high.

${table(['', ...profiles.map(({ label }) => label), 'why it is not smaller'], body)}`;
}
