/**
 * npm run cuda:roofline: how long the kernels and products of one ViT-B/16 image take at the least on an H100 SXM, as a Markdown
 * table. An estimate: bytes and FLOPs are counted, rates are those that NVIDIA publishes; nothing is measured.
 */

/** NVIDIA H100 SXM5, dense: memory in bytes/s, arithmetic in FLOP/s. */
const memory = 3.35e12;
const peak = { float32: 67e12, bfloat16: 989e12, fp8: 1979e12 };

// The decoder of ViT-B/16 at 224 pixels, mask ratio 0.9.
const width = 512; // E
const mlp = 2048; // M
const blocks = 8;
const tokens = 197; // T
const variants = 19;
const queries = 177; // masked patches
const pixels = 768; // of a predicted patch
const rows = variants * tokens;
const lastRows = variants * queries;

interface Entry {
  name: string;
  /** How often in one image. */
  times: number;
  bytes: number;
  flops: number;
  unit: keyof typeof peak;
}

/** y = x W^T with `inputs` and results of the given sizes; weights are read once. */
function product(
  name: string,
  times: number,
  count: number,
  inner: number,
  outer: number,
  bytesIn: number,
): Entry {
  const bytes = count * (inner * bytesIn + 2 * outer) + inner * outer * bytesIn;
  return {
    name,
    times,
    bytes,
    flops: 2 * count * inner * outer,
    unit: bytesIn === 1 ? 'fp8' : 'bfloat16',
  };
}

/** One image in the delta form; `size`: bytes of a rounded value. The anchor's arrays are read once, from then on they are in the second-level cache. */
function entries(size: number): Entry[] {
  const anchor = tokens * width * 4;
  const kernel = (name: string, times: number, bytes: number, flops: number): Entry => ({
    name,
    times,
    bytes,
    flops,
    unit: 'float32',
  });
  return [
    kernel(
      'removal attention (first block)',
      1,
      3 * anchor + anchor + rows * width * 4,
      4 * tokens * tokens * width + 6 * rows * width,
    ),
    {
      // On the tensor cores, each operand split in two: three products for one.
      name: 'attention difference',
      times: blocks - 1,
      bytes: rows * 3 * width * 2 + 4 * anchor + rows * width * 4,
      flops: 3 * 4 * rows * tokens * width,
      unit: 'bfloat16',
    },
    kernel('round rows', blocks, rows * width * (4 + size), 4 * rows * width),
    kernel(
      'layer norm difference',
      2 * blocks,
      rows * width * (4 + 2 + 4 + size) + anchor,
      16 * rows * width,
    ),
    kernel(
      'GELU difference',
      blocks,
      rows * mlp * (2 + size) + 2 * tokens * mlp * 4,
      30 * rows * mlp,
    ),
    kernel('split heads', blocks - 1, rows * 3 * width * 4, 0),
    kernel('row sums (masked L1)', 1, lastRows * pixels * 2, 2 * lastRows * pixels),
    product('product: q, k, v', blocks - 1, rows, width, 3 * width, size),
    product('product: projection', blocks, rows, width, width, size),
    product('product: MLP in', blocks, rows, width, mlp, size),
    product('product: MLP out', blocks, rows, mlp, width, size),
    product('product: prediction', 1, lastRows, width, pixels, size),
  ];
}

const number = (value: number, digits = 3): string => Number(value.toPrecision(digits)).toString();

function table(precision: 'bfloat16' | 'fp8'): string {
  const lines = [
    `| ${precision} | times | MB | GFLOP | bound by | at least, µs |`,
    '| --- | --: | --: | --: | --- | --: |',
  ];
  let total = 0;
  for (const { name, times, bytes, flops, unit } of entries(precision === 'fp8' ? 1 : 2)) {
    const reading = bytes / memory;
    const computing = flops / peak[unit];
    const microseconds = times * Math.max(reading, computing) * 1e6;
    total += microseconds;
    lines.push(
      `| ${name} | ${times} | ${number((times * bytes) / 1e6)} | ${number((times * flops) / 1e9)} | ` +
        `${reading > computing ? 'memory' : `${unit} arithmetic`} | ${number(microseconds)} |`,
    );
  }
  lines.push(`| **sum** | | | | | **${number(total)}** |`);
  return lines.join('\n');
}

process.stdout.write(`${table('bfloat16')}\n\n${table('fp8')}\n`);
