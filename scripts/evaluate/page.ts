/** The pictures on which the ranker and plain arithmetic disagree most, as a page to look at. */
import sharp from 'sharp';
import { reportPage, type ReportImage } from '../../lib/cli/report/page.js';
import { singles, sums } from './maps.js';
import type { MeasuredPicture } from './measure.js';
import { descending } from '../../lib/evaluation/asked.js';
import { sum, type ObjectPixels } from '../../lib/evaluation/masks.js';
import { objectRecall } from '../../lib/evaluation/recall.js';
import { keptCount } from './shares.js';

type Seen = MeasuredPicture & { objects: ObjectPixels };

/**
 * @param ranker - its row.
 * @param each - so many pictures on which the heuristics are better, and so many on which the ranker is.
 */
export async function disagreementPage(
  pictures: readonly Seen[],
  ranker: string,
  title: string,
  each = 12,
): Promise<string> {
  const keep = 0.25;
  const recall = ({ picture, maps, objects }: Seen, row: string): number =>
    objectRecall(
      objects,
      descending(maps.get(row) ?? []).slice(0, keptCount(picture.patches, keep)),
    ).value;
  const judged = pictures
    .map((seen) => {
      const rows = [...singles, ...sums];
      const arithmetic = sum(rows.map((row) => recall(seen, row))) / rows.length;
      return { seen, ranker: recall(seen, ranker), arithmetic };
    })
    .sort((a, b) => a.ranker - a.arithmetic - (b.ranker - b.arithmetic));
  const chosen = [...judged.slice(0, each), ...judged.slice(Math.max(each, judged.length - each))];
  const images: ReportImage[] = [];
  for (const { seen, ranker: own, arithmetic } of chosen) {
    const { picture, maps } = seen;
    const { pixels, height, width, patch } = picture;
    const grid = { rows: height / patch, columns: width / patch };
    const jpeg = await sharp(pixels, { raw: { width, height, channels: 3 } })
      .jpeg({ quality: 85 })
      .toBuffer();
    images.push({
      name: `${picture.name}: ${ranker} ${percent(own)}, heuristics ${percent(arithmetic)}`,
      ...{ width, height },
      source: `data:image/jpeg;base64,${jpeg.toString('base64')}`,
      maps: [...maps].map(([label, scores]) => ({ label, ...grid, scores })),
    });
  }
  return reportPage({
    title,
    description: `Pictures on which ${ranker} and the heuristics disagree most about objects. First those on which the heuristics keep more of them, then those on which ${ranker} does.`,
    keepRatio: keep,
    images,
    notes: [
      `Percentages: object pixels in a quarter of the patches; heuristics: mean of ${[...singles, ...sums].join(', ')}.`,
      'The photographs are not ours: do not publish this page.',
    ],
  });
}

const percent = (share: number): string => `${(100 * share).toFixed(0)}%`;
