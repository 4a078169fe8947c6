/** The pictures of an evaluation: decoded, cut to one size, measured in batches. */
import { Buffer } from 'node:buffer';
import type { Labels } from '../data/labels.js';
import { toLtrpError } from '../errors.js';
import type { SelectorStudy, Shown, ShownObjects } from '../evaluation/study.js';
import { decodePicture, type Fit } from '../images.js';
import { toldOnce } from '../shards/shard.js';
import { mapOrdered, settled } from '../stream/ordered.js';
import { invalid } from '../validation.js';
import type { VisionTransformer } from '../vision-transformer.js';
import { complain, errorLine, isFatal } from './image-command.js';
import { printable } from './image-arguments.js';
import { duration, everyTenSeconds } from './training-progress.js';

/** In pixels. */
export interface Size {
  height: number;
  width: number;
}

/** Pictures decoded ahead of those that are computed. */
const decodedAhead = 32;

/**
 * Of all pictures: the one asked for, or the classifier's.
 *
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` where it is not made of whole patches.
 */
export function sizeOf(imageSize: Size | undefined, { config }: VisionTransformer): Size {
  const { patchSize, grid } = config;
  const size = imageSize ?? { height: grid[0] * patchSize, width: grid[1] * patchSize };
  if (size.height % patchSize === 0 && size.width % patchSize === 0) return size;
  throw invalid(
    `--image-size ${size.height}x${size.width} is not made of whole patches; both must be multiples of ${patchSize}.`,
  );
}

/**
 * Adds all pictures to the study, in their order.
 *
 * @returns those that cannot be read.
 * @throws {LtrpError} `ERR_LTRP_DOWNLOAD` and others that every picture would end in; as {@link SelectorStudy.add}.
 */
export async function measurePictures(
  study: SelectorStudy,
  files: readonly string[],
  labels: Labels,
  run: {
    size: Size;
    fit: Fit;
    batchSize: number;
    signal: AbortSignal;
    objectsOf: (file: string) => Promise<ShownObjects | null>;
  },
): Promise<string[]> {
  const { fit, batchSize, signal } = run;
  const { height, width } = run.size;
  const decoded = mapOrdered(
    files,
    { ahead: decodedAhead, signal },
    settled((file) => decodePicture(file, { size: [height, width], fit, signal })),
  );
  const unreadable: string[] = [];
  let batch: { pixels: Uint8Array; shown: Shown; objects: ShownObjects | null }[] = [];
  const flush = async (): Promise<void> => {
    if (batch.length === 0) return;
    const bytes = Buffer.concat(batch.map(({ pixels }) => pixels));
    await study.add(
      { data: bytes, shape: [batch.length, height, width, 3] },
      batch.map(({ shown }) => shown),
      batch.map(({ objects }) => objects),
    );
    batch = [];
  };
  const tell = progress(files.length);
  let index = 0;
  for await (const outcome of decoded) {
    const file = files[index] as string;
    const { label, labels: ids } = labels.ofFiles[index] ?? {};
    index++;
    if (outcome.status === 'rejected') {
      const error = toLtrpError(outcome.reason);
      // Figures of the pictures before a store fell silent are figures of some of the pictures.
      if (isFatal(error)) throw error;
      unreadable.push(file);
      const line = toldOnce(file, error, errorLine(error));
      if (line !== undefined) complain(printable(line));
      continue;
    }
    const objects = await run.objectsOf(file);
    batch.push({ pixels: outcome.value.pixels, shown: label ?? ids ?? [], objects });
    if (batch.length < batchSize) continue;
    await flush();
    tell(index);
  }
  await flush();
  return unreadable;
}

/** A line every ten seconds. */
function progress(total: number): (done: number) => void {
  const begin = performance.now();
  const isDue = everyTenSeconds();
  return (done) => {
    if (!isDue()) return;
    const left = duration(((performance.now() - begin) / 1000 / done) * (total - done));
    complain(`${done} of ${total} pictures, ${left} left`);
  };
}
