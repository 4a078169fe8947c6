/**
 * `npm run evaluate -- --retention --photographs FOLDER`: do the kept patches still have something of every label? On photographs
 * with several labels each and masks (coco).
 */
import { basename, join } from 'node:path';
import { integer, parse, program, UsageError } from '../../bench/command-line.js';
import { askedModels, descending, needKeep } from '../../lib/evaluation/asked.js';
import { categoryPixels, isMeasured, objectPixels } from '../../lib/evaluation/masks.js';
import { halfKept } from '../../lib/evaluation/recall.js';
import { modelDigest } from '../../lib/file-digest.js';
import { MaskedAutoencoder, PatchRanker, selectors, VisionTransformer } from '../../lib/index.js';
import { selectorNames } from '../../lib/selectors.js';
import { shareOf } from '../../lib/share.js';
import { checkPatchSizes, choice, listed, provenance, say, writeResults } from './command.js';
import { labelledPictures } from './instances.js';
import { partOf } from './parts.js';
import { readPicture } from './pictures.js';
import { retentionMarkdown, type RetentionResults } from './retention-table.js';
import { keptCount } from './shares.js';
import { Table } from './table.js';
import { evaluateCache } from './teacher-maps.js';

const help = `npm run evaluate -- --retention --photographs FOLDER [options]

For every selector and share: of how many labels of a photograph at least half of the pixels are in kept patches, how many
photographs keep all of their labels so, and how many instances. On photographs of coco with masks whose objects cover less than
60%. Writes retention.json and retention.md; the table also goes to standard output.

  --classifier <file>  what supervised selectors ask, such as the one that npm run evaluate -- --classify trains; without it they
                       are left out
  --ranker <file>      default 'tiny'
  --mae <file>         of the selectors mae-attention, rollout, tome and teacher; default 'tiny'
  --selectors <list>   default: all
  --keep <list>        shares of the patches (default 25%,50%,75%)
  --seed <n>           of the selectors (default 0)
  --part <name>        test (default; for published figures), validation (for choosing anything)
  --out <folder>       default: evaluate/retention in the user's cache
`;

const size = 224;

await program('evaluate', help, async (args) => {
  const options = readOptions(args);
  const { keeps, seed, part } = options;
  await using ranker = await PatchRanker.load(options.ranker);
  await using mae = await MaskedAutoencoder.load(options.mae);
  const classifier =
    options.classifier === undefined ? null : await VisionTransformer.load(options.classifier);
  const models = { none: mae, mae, ranker, classifier };
  const patch = mae.config.patchSize;
  checkPatchSizes(patch, { '--ranker': ranker, '--classifier': classifier });
  const patches = (size / patch) ** 2;
  const labelled = (await labelledPictures(join(options.photographs, 'coco'))).filter(
    ({ name }) => partOf('coco/images', name) === part,
  );
  if (labelled.length === 0)
    throw new UsageError(`${options.photographs} has no pictures of coco of the ${part} part`);
  const table = new Table('coco');
  const pictures: string[] = [];
  const counts = { categories: 0, instances: 0 };
  for (const [done, entry] of labelled.entries()) {
    const objects = await objectPixels(entry, [size, size], patch);
    if (!isMeasured(objects)) continue;
    const categories = await categoryPixels(entry, [size, size], patch);
    const { images } = await readPicture(entry.path, { size, patch, fit: 'stretch' });
    for (const row of options.selectors) {
      const model = models[askedModels[row]];
      if (model === null) continue;
      let scores: Float32Array | undefined;
      for (const keep of keeps) {
        const count = keptCount(patches, keep);
        if (scores === undefined || needKeep.has(row))
          ({ scores } = await selectors[row].score(images, {
            ...{ model, keep: count, seed: seed + done },
          }));
        const kept = descending(scores).slice(0, count);
        const cell = { row, selector: 'top-k', keep };
        const found = halfKept(categories, kept);
        table.add({ ...cell, measure: 'categories' }, found);
        const all = found.value === found.weight ? 1 : 0;
        table.add({ ...cell, measure: 'pictures' }, { value: all, weight: 1 });
        table.add({ ...cell, measure: 'instances' }, halfKept(objects.each, kept));
      }
    }
    pictures.push(basename(entry.path));
    counts.categories += categories.length;
    counts.instances += objects.each.length;
    if (pictures.length % 16 === 0) say(`${done + 1} of ${labelled.length} pictures`);
  }
  const results: RetentionResults = {
    ...provenance(args),
    ...{ part, pictures, counts, size, patch, keeps },
    classifier: options.classifier === undefined ? null : await modelDigest(options.classifier),
    figures: table.figures(),
    differences: table.differences(['ranker']),
  };
  classifier?.dispose();
  writeResults(options.out, 'retention', results, retentionMarkdown(results));
});

function readOptions(args: readonly string[]) {
  const values = parse(args, {
    retention: { type: 'boolean' },
    photographs: { type: 'string' },
    classifier: { type: 'string' },
    ranker: { type: 'string', default: 'tiny' },
    mae: { type: 'string', default: 'tiny' },
    selectors: { type: 'string' },
    keep: { type: 'string', default: '25%,50%,75%' },
    seed: { type: 'string', default: '0' },
    part: { type: 'string', default: 'test' },
    out: { type: 'string', default: join(evaluateCache(), 'retention') },
  });
  const { photographs, classifier, ranker, mae, out } = values;
  if (photographs === undefined) throw new UsageError('--photographs needs a folder');
  const keeps = listed(values.keep, shareOf);
  if (!keeps.every((keep) => keep > 0 && keep <= 1))
    throw new UsageError(`--keep must be shares such as 25%,50%; not ${values.keep}`);
  const chosen = values.selectors ?? selectorNames.join();
  return {
    ...{ photographs, classifier, ranker, mae, keeps, out },
    seed: integer('seed', values.seed, 0),
    selectors: listed(chosen, (name) => choice('selectors', name, selectorNames)),
    part: choice('part', values.part, ['test', 'validation'] as const),
  };
}
