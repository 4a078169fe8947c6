/** The report's sections about our own engine: sparse deltas, memory, and where the time goes. */
import type { MemoryRow, Profile, ProfilePart, Results, ToleranceCurve } from '../results.js';
import { digits, fixed, percent, table, times, tiny } from './tables.js';

export function tolerance(curves: readonly ToleranceCurve[]): string {
  if (curves.length === 0) return '';
  const parts = curves.map((curve) => {
    const body = curve.points.map((point) => [
      point.label,
      point.tolerance === 0 ? '0' : tiny(point.tolerance),
      milliseconds(point.msPerImage),
      times(point.speedUp),
      fixed(point.kendallTau, 3),
      fixed(point.lowestTau, 3),
      tiny(point.error),
    ]);
    const head = ['', 'tolerance', 'ms/image (quartiles)', 'against tolerance 0'];
    const order = ['mean Kendall tau', 'lowest', 'mean relative error'];
    return `### ${curve.model}
${curve.lists} lists of ${curve.visible} scores (${curve.patches} patches); ${verdict(curve)}

${table([...head, ...order], body)}`;
  });
  return `## Sparse deltas
\`tolerance\` leaves tokens out of the products whose differences hold at most that share of a variant's squared norm. Speed is that of the rounds' ratios,
order and error are against the float32 scores with the same masks.

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

function milliseconds(spread: ToleranceCurve['points'][number]['msPerImage']): string {
  if (spread === null) return '–';
  const { median, low, high, count } = spread;
  return count < 2 ? digits(median) : `${digits(median)} (${digits(low)} to ${digits(high)})`;
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
    milliseconds(row.msPerImage),
    mega(row.weights),
    mega(row.beforeLoad),
    mega(row.loadPeak),
    mega(row.afterLoad),
    mega(row.peak),
    mega(row.peak - row.afterLoad),
    `${mega(beyondWeights(row))}${aboveLimit(row) ? ' **too much**' : ''}`,
    percent(Math.max(row.peak, row.loadPeak) / limits.whole),
  ]);
  const head = ['teacher', '', 'images in a call', 'ms/image (quartiles)', 'weights, float32'];
  const resident = ['before load', 'peak of load', 'after load', 'peak of scoring'];
  const relative = ['beyond load', 'beyond the weights', 'of 24 GiB'];
  return `## Memory
Resident size of the process that scores, in MB of 10^6 bytes. Before load: Node and LibTorch. Beyond load is the peak of scoring less the size after load, which may
have freed memory in it that scoring takes again; beyond the weights is the peak less the size before load and less the weights in float32, so that packed copies
and the input images count. The limits: 1,500 MB beyond the weights for ViT-B at any number of images, 24 GiB in all for the larger teachers.

${table([...head, ...resident, ...relative], body)}`;
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

const partNames: Record<ProfilePart, string> = {
  products: 'matrix products',
  logits: 'attention: q kᵀ',
  values: 'attention: p v',
  softmax: 'attention: exponentials',
  operands: 'attention: operands in, output out',
  removal: 'first block without a key',
  norm: 'layer norms',
  gelu: 'GELU',
  rounding: "rounding of attention's output",
  heads: 'q, k, v by head',
  core: 'rest of the core',
  library: "LibTorch's other operators",
  allocation: 'allocation, copying (libc)',
  waiting: 'threads waiting for each other',
  kernel: 'system (page faults, scheduling)',
  node: 'Node (JavaScript thread)',
};

type Texts = Record<Exclude<ProfilePart, 'products' | 'logits' | 'values'>, string>;

/** Why a part is not smaller, in the delta form. */
const deltaTexts: Texts = {
  softmax: 'An exponential for every query, key, head and block; a small difference saves none.',
  operands:
    "Every operand once: the differences are added to the anchor's q, k and v, k is transposed, the anchor's output subtracted.",
  removal: "One pass over the anchor's attention for all variants of an image.",
  norm: "The anchor's in float32; of the variants one pass that adds the update, normalises, finds the largest value and rounds.",
  gelu: "An error function and a rounding for every value of the MLP's inside, four times as many as in a layer norm.",
  rounding:
    "A row's scale is known only when all of its heads are done, so it is a pass of its own.",
  heads: 'A copy, so that attention reads its operands as streams.',
  core: 'Sums of the scores, choice and scheduling of the tasks.',
  library:
    'Encoder and anchor outside their products; dispatch of every product, the same for short and long ones.',
  allocation: 'Every product has a new tensor for its result; pictures are copied in.',
  waiting: "In the encoder's and the anchor's products, and at the end of a group of images.",
  kernel: 'Pages of freshly allocated tensors; switching threads, the more the busier the machine.',
  node: "The event loop and the benchmark's own protocol.",
};

/** The same, in the direct form. */
const directTexts: Texts = {
  ...deltaTexts,
  operands:
    'Every operand once: k is transposed, queries are scaled, outputs divided by their sums.',
  norm: 'One pass over the rows before every pair of products.',
  gelu: 'Where the product does not apply it to its own result.',
  library:
    "Rows of each variant gathered without the dropped token's, and of the last block for masked tokens alone; differences of predictions.",
  waiting: "In the encoder's and the anchor's products, and at the end of a group of images.",
};

function explanation(part: ProfilePart, profile: Profile): string {
  const { precision, productFlops, productsOfPeak, attentionFlops, attentionOfPeak } = profile;
  const direct = precision === 'float32';
  if (part === 'products') {
    const giga = (flops: number): string => `${digits(flops / 1e9)} GFLOP`;
    const counted = direct
      ? giga(productFlops.float32)
      : `${giga(productFlops.own)} in ${precision} and ${giga(productFlops.float32)} in float32 (encoder, anchor)`;
    return (
      `${counted} at ${percent(productsOfPeak)} of the peaks of this run: all tokens of all variants go through every linear, ` +
      'some hundred rows at a time, which keeps the rows in the cache and reads the weights again for each.'
    );
  }
  if (part === 'logits' || part === 'values') {
    const other = part === 'logits' ? 'p v' : 'q kᵀ';
    const why = direct
      ? ''
      : ' Float32 in every precision: as a difference it would be two products instead of one.';
    return (
      `Together with ${other} ${digits(attentionFlops / 1e9)} GFLOP at ${percent(attentionOfPeak)} of the float32 peak; ` +
      `heads are narrow (32 in ViT-B's decoder).${why}`
    );
  }
  return (direct ? directTexts : deltaTexts)[part];
}

export function profile({ profiles, profileProblem }: Results): string {
  const title = '## Where the time goes';
  if (profiles.length === 0) {
    return profileProblem === null ? '' : `${title}\nNot measured: ${profileProblem}`;
  }
  const parts = profiles.map((found) => {
    const body = found.parts.map(({ part, share }) => [
      partNames[part],
      share < 0.0995 ? `${(100 * share).toFixed(1)}%` : percent(share),
      digits(share * found.cpuMsPerImage),
      explanation(part, found),
    ]);
    return `### ${found.label}, ${found.model}
${found.calls} calls of ${found.images} images, ${digits(found.msPerImage.median)} ms an image (perf running); ${found.threads} threads had a processor ${percent(found.busy)} of the
time, ${digits(found.cpuMsPerImage)} ms of processor time an image.

${table(['part', 'share', 'ms of processor time', 'why it is not smaller'], body)}`;
  });
  return `${title}
Samples of Linux \`perf\` (event cpu-clock) while images are scored, after a call to warm up, all threads together. Generated code is oneDNN's and counts as products; other code
is told apart by its functions' names. A share is of the processor time, so a thread that sleeps or has no processor counts for nothing. Peaks are by the
clock: beside other programs they come out too low, and shares of them too high.

${parts.join('\n\n')}`;
}
