/**
 * `npm run evaluate`: score maps on composite test scenes (object-pixel recall) and on held-out photos (Kendall's tau): baselines
 * without a model, a ranker and a teacher. Prints Markdown; --json FILE keeps everything.
 */
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { parse, program, UsageError } from '../../bench/command-line.ts';
import { table } from '../../bench/report/tables.ts';
import { mean, standardError } from '../../bench/statistics.ts';
import { MaskedAutoencoder, PatchRanker, rankAgreement, readImages } from '../../lib/index.ts';
import { preparePhotos } from '../photos/prepare.mjs';
import { seededRandom } from '../photos/random.mjs';
import { makeScenes, readScenes } from '../photos/scenes.mjs';
import { colourContrast, greyPicture, meanOverPatches, nearCentre } from './heuristics.ts';
import { pixelsPerPatch, sum } from '../../lib/evaluation/masks.ts';
import { keeps, keptCount } from './shares.ts';

const help = `npm run evaluate -- [--mae PATH] [--ranker PATH] [--size 224] [--patch 16] [--scenes 600]
    [--split test|val] [--mask-ratio 0.75] [--rounds 6] [--seed 1] [--batch 16] [--photos N] [--json FILE]

Object-pixel recall at keep 25 / 50 / 75% on composite scenes, for baselines and for the given models ('tiny': the
embedded ones); on held-out photos Kendall's tau of ranker and teacher, and of two teacher maps with disjoint masks.
Needs "npm run photos" first. Without --mae and --ranker no model is loaded and any --size and --patch will do.
Real photographs: npm run evaluate -- --photographs FOLDER; see npm run evaluate -- --photographs --help.
`;

await program('evaluate', help, async (args) => {
  const options = readOptions(args);
  const { size, patch, split, batch } = options;
  const folder = await makeScenes({ split, size, count: options.scenes });
  const scenes = readScenes(folder, options.scenes);
  const models = await loadModels(options);
  const recalls = new Map(); // name -> [scene][keep]
  const agreement = { scenes: [], photos: [], splitHalf: [] };
  for (let start = 0; start < scenes.length; start += batch) {
    const part = scenes.slice(start, start + batch);
    const images = part.map(({ image }) => image);
    const ranker = await models.rankerMaps(images, 'none');
    const teacher = await models.teacherMaps(images, 'none', options.seed);
    for (const [k, scene] of part.entries()) {
      const mask = await sharp(scene.mask).extractChannel(0).raw().toBuffer();
      const set = Uint8Array.from(mask, (id) => (id > 0 ? 1 : 0));
      const objects = pixelsPerPatch(set, size, patch);
      const maps = {
        ...(await baselines(scene, size, patch)),
        oracle: objects,
        ...(ranker && { ranker: ranker[k] }),
        ...(teacher && { teacher: teacher[k] }),
      };
      for (const [name, map] of Object.entries(maps)) {
        const own = recallsOf(map, objects, scene.index);
        recalls.set(name, [...(recalls.get(name) ?? []), own]);
      }
    }
    agreement.scenes.push(...(await taus(ranker, teacher)));
    progress(`scenes ${start + part.length} of ${scenes.length}`);
  }
  if (options.mae) {
    const prepared = await preparePhotos('test');
    const files = readdirSync(prepared.folder).sort().slice(0, options.photos);
    for (let start = 0; start < files.length; start += batch) {
      const sources = files.slice(start, start + batch).map((name) => join(prepared.folder, name));
      const teacher = await models.teacherMaps(sources, 'crop', options.seed);
      const other = await models.teacherMaps(sources, 'crop', options.seed + 1);
      agreement.splitHalf.push(...(await taus(teacher, other)));
      agreement.photos.push(...(await taus(await models.rankerMaps(sources, 'crop'), teacher)));
      progress(`photos ${start + sources.length} of ${files.length}`);
    }
  }
  models.dispose();
  progress('');
  report(options, scenes, recalls, agreement, models.seconds);
});

function readOptions(args) {
  const { mae, ranker, split, json, ...counts } = parse(args, {
    mae: { type: 'string' },
    ranker: { type: 'string' },
    size: { type: 'string', default: '224' },
    patch: { type: 'string', default: '16' },
    scenes: { type: 'string', default: '600' },
    split: { type: 'string', default: 'test' },
    photos: { type: 'string', default: 'Infinity' },
    'mask-ratio': { type: 'string', default: '0.75' },
    rounds: { type: 'string', default: '6' },
    seed: { type: 'string', default: '1' },
    batch: { type: 'string', default: '16' },
    json: { type: 'string' },
  });
  for (const [name, text] of Object.entries(counts)) {
    const value = Number(text);
    if (!(value > 0)) throw new UsageError(`--${name} must be a positive number, not ${text}`);
    counts[name] = value;
  }
  return { mae, ranker, split, json, ...counts, maskRatio: counts['mask-ratio'] };
}

/** The given models' maps of some pictures, [L] each; null without the model. */
async function loadModels({ mae, ranker: path, size, rounds, maskRatio }) {
  const teacher = mae ? await MaskedAutoencoder.load(mae) : null;
  const ranker = path ? await PatchRanker.load(path) : null;
  const seconds = { teacher: 0, ranker: 0 };
  const mapsOf = async (name, sources, fit, ask) => {
    const images = await readImages(sources, { size, fit });
    const start = performance.now();
    const flat = await ask(images);
    seconds[name] += (performance.now() - start) / 1000;
    const length = flat.length / sources.length;
    return sources.map((_, i) => flat.subarray(i * length, (i + 1) * length));
  };
  return {
    seconds,
    rankerMaps: async (sources, fit) =>
      ranker &&
      mapsOf('ranker', sources, fit, async (images) => (await ranker.rank(images)).logits),
    teacherMaps: async (sources, fit, seed) =>
      teacher &&
      mapsOf('teacher', sources, fit, async (images) => {
        const map = await teacher.scoreMap(images, { rounds, maskRatio, seed });
        return map.mean;
      }),
    dispose() {
      teacher?.dispose();
      ranker?.dispose();
    },
  };
}

/** Maps that need no model: what a learned ranking has to beat. */
async function baselines({ image, index }, size, patch) {
  const pixels = await sharp(image).raw().toBuffer();
  const grey = greyPicture(pixels);
  const cut = { height: size, width: size, patch };
  const random = seededRandom('baseline', index);
  const channels = [0, 1, 2].map((c) => {
    const means = meanOverPatches(cut, (i) => pixels[3 * i + c]);
    const squares = meanOverPatches(cut, (i) => pixels[3 * i + c] ** 2);
    return squares.map((square, i) => square - means[i] ** 2);
  });
  return {
    random: Float64Array.from({ length: (size / patch) ** 2 }, () => random.next()),
    centre: nearCentre(cut),
    'patch variance': channels[0].map((_, i) => sum(channels.map((variance) => variance[i]))),
    // Mean length of the central differences.
    gradient: meanOverPatches(cut, (i, x, y) => {
      const dx = grey[i + (x + 1 < size ? 1 : 0)] - grey[i - (x > 0 ? 1 : 0)];
      const dy = grey[i + (y + 1 < size ? size : 0)] - grey[i - (y > 0 ? size : 0)];
      return Math.hypot(dx, dy);
    }),
    'local colour contrast': colourContrast(pixels, cut),
  };
}

/** Share of a scene's object pixels that is kept, for each share of the patches. Equal scores favour no place. */
function recallsOf(map, objects, index) {
  const random = seededRandom('ties', index);
  const ties = Array.from(map, () => random.next());
  const order = Array.from(map, (_, i) => i).sort((a, b) => map[b] - map[a] || ties[a] - ties[b]);
  return keeps.map((keep) => {
    const kept = order.slice(0, keptCount(order.length, keep));
    return sum(kept.map((i) => objects[i])) / sum(objects);
  });
}

/** Kendall's tau-b of maps and other maps of the same pictures, 0 where one is constant; none where one of them is missing. */
async function taus(maps, others) {
  if (maps === null || others === null) return [];
  const [a, b] = [maps, others].map((all) => Float32Array.from(all.flatMap((map) => [...map])));
  const { kendallTau } = await rankAgreement(a, b, [maps.length, a.length / maps.length]);
  return Array.from(kendallTau, (tau) => tau || 0);
}

function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r${text}\x1b[K`);
}

function report(options, scenes, recalls, agreement, seconds) {
  const { size, patch, split, mae = null, ranker = null, maskRatio, rounds, seed } = options;
  const textures = scenes.map(({ backgroundVariance }) => backgroundVariance);
  const sorted = [...textures].sort((a, b) => a - b);
  const threshold = sorted[Math.floor((sorted.length * 2) / 3)];
  const textured = textures.flatMap((value, i) => (value >= threshold ? [i] : []));
  const figures = (all) => keeps.map((_, k) => mean(all.map((each) => each[k])));
  const result = {
    ...{ size, patch, split },
    scenes: scenes.length,
    texturedScenes: textured.length,
    models: { mae, ranker, maskRatio, rounds, seed },
    recall: {},
    kendallTau: {},
    seconds,
  };
  for (const [name, all] of recalls) {
    result.recall[name] = {
      overall: figures(all),
      standardError: keeps.map((_, k) => standardError(all.map((each) => each[k]))),
      textured: figures(textured.map((i) => all[i])),
    };
  }
  for (const [name, list] of Object.entries({
    'ranker and teacher, held-out photos': agreement.photos,
    'teacher split-half, held-out photos': agreement.splitHalf,
    'ranker and teacher, scenes': agreement.scenes,
  })) {
    if (list.length < 2) continue;
    const error = standardError(list);
    result.kendallTau[name] = { mean: mean(list), standardError: error, n: list.length };
  }

  const text = (list) => list.map((value) => value.toFixed(3).replace(/^0/, '')).join(' / ');
  const parts = [
    `Object-pixel recall at keep 25 / 50 / 75% on ${scenes.length} composite ${split} scenes (a proxy: objects pasted on photographs), ${size} px, ${patch} px patches`,
    table(
      ['map', 'overall', `textured third (${textured.length} scenes)`],
      Object.entries(result.recall).map(([name, r]) => [name, text(r.overall), text(r.textured)]),
    ),
  ];
  const taus = Object.entries(result.kendallTau);
  if (taus.length > 0) {
    parts.push(
      `Teacher's map: mask ratio ${maskRatio}, ${rounds} rounds.`,
      table(
        ["Kendall's tau", 'mean', 'standard error', 'images'],
        taus.map(([name, tau]) => [
          name,
          tau.mean.toFixed(3),
          tau.standardError.toFixed(3),
          String(tau.n),
        ]),
      ),
    );
  }
  process.stdout.write(`${parts.join('\n\n')}\n`);
  if (options.json) writeFileSync(options.json, `${JSON.stringify(result, null, 2)}\n`);
}
