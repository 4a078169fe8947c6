// Measures score maps on composite test scenes (object-pixel recall) and on held-out photos (Kendall's tau):
// baselines without a model, a ranker and a teacher through the public API. Prints Markdown; --json FILE keeps everything.
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { baselineMaps, countObjectPixels } from '../photos/baselines.mjs';
import { kendallTau, mean, objectRecall, standardError } from '../photos/measures.mjs';
import { preparePhotos } from '../photos/prepare.mjs';
import { makeScenes, readScenes } from '../photos/scenes.mjs';

const KEEPS = [0.25, 0.5, 0.75];
const { values } = parseArgs({
  options: {
    mae: { type: 'string' },
    ranker: { type: 'string' },
    size: { type: 'string', default: '224' },
    patch: { type: 'string', default: '16' },
    scenes: { type: 'string', default: '600' },
    split: { type: 'string', default: 'test' },
    photos: { type: 'string' },
    'mask-ratio': { type: 'string', default: '0.75' },
    rounds: { type: 'string', default: '6' },
    seed: { type: 'string', default: '1' },
    batch: { type: 'string', default: '16' },
    json: { type: 'string' },
    help: { type: 'boolean' },
  },
});
if (values.help) {
  console.log(`npm run evaluate -- [--mae PATH] [--ranker PATH] [--size 224] [--patch 16] [--scenes 600]
    [--split test|val] [--mask-ratio 0.75] [--rounds 6] [--seed 1] [--batch 16] [--photos N] [--json FILE]

Object-pixel recall at keep 25 / 50 / 75% on composite scenes, for baselines and for the given models ('tiny': the
embedded ones); on held-out photos Kendall's tau of ranker and teacher, and of two teacher maps with disjoint masks.
Needs "npm run photos" first. Without --mae and --ranker no model is loaded and any --size and --patch will do.
Real photographs: npm run evaluate -- --photographs FOLDER; see npm run evaluate -- --photographs --help.`);
  process.exit(0);
}
const number = (name) => {
  const value = Number(values[name]);
  if (!(value > 0)) {
    console.error(`evaluate: --${name} must be a positive number, not ${values[name]}`);
    process.exit(2);
  }
  return value;
};
const [size, patch, sceneCount, rounds, batch] = ['size', 'patch', 'scenes', 'rounds', 'batch'].map(
  number,
);
const maskRatio = number('mask-ratio');
const seed = number('seed');

const folder = await makeScenes({ split: values.split, size, count: sceneCount });
const scenes = readScenes(folder, sceneCount);
const api = values.mae || values.ranker ? await import('ltrp') : null;
const teacher = values.mae ? await api.MaskedAutoencoder.load(values.mae) : null;
const ranker = values.ranker ? await api.PatchRanker.load(values.ranker) : null;
const seconds = { teacher: 0, ranker: 0 };

const methods = new Map(); // name -> recalls [scene][keep]
const record = (name, recalls) => methods.set(name, [...(methods.get(name) ?? []), recalls]);
const textures = [];
const agreement = { scenes: [], photos: [], splitHalf: [] };

for (let start = 0; start < scenes.length; start += batch) {
  const part = scenes.slice(start, start + batch);
  const maps = await modelMaps(
    part.map((scene) => scene.image),
    'none',
  );
  for (const [k, scene] of part.entries()) {
    const pixels = await sharp(scene.image).raw().toBuffer();
    const mask = await sharp(scene.mask).extractChannel(0).raw().toBuffer();
    const objectPixels = countObjectPixels(mask, size, patch);
    const all = { ...baselineMaps(pixels, size, patch, objectPixels, scene.index) };
    if (maps.ranker) all.ranker = maps.ranker[k];
    if (maps.teacher) all.teacher = maps.teacher[k];
    for (const [name, map] of Object.entries(all))
      record(name, objectRecall(map, objectPixels, KEEPS, scene.index));
    if (maps.ranker && maps.teacher)
      agreement.scenes.push(kendallTau(maps.ranker[k], maps.teacher[k]));
    textures.push(scene.backgroundVariance);
  }
  progress(`scenes ${start + part.length} of ${scenes.length}`);
}

if (teacher) {
  const prepared = await preparePhotos('test');
  const files = readdirSync(prepared.folder)
    .sort()
    .slice(0, values.photos ? number('photos') : undefined);
  for (let start = 0; start < files.length; start += batch) {
    const sources = files.slice(start, start + batch).map((name) => join(prepared.folder, name));
    const first = await modelMaps(sources, 'crop');
    const second = await teacherMaps(sources, 'crop', seed + 1);
    for (let k = 0; k < sources.length; k++) {
      agreement.splitHalf.push(kendallTau(first.teacher[k], second[k]));
      if (first.ranker) agreement.photos.push(kendallTau(first.ranker[k], first.teacher[k]));
    }
    progress(`photos ${start + sources.length} of ${files.length}`);
  }
}
teacher?.dispose();
ranker?.dispose();
report();

async function modelMaps(sources, fit) {
  const maps = { teacher: teacher ? await teacherMaps(sources, fit, seed) : null, ranker: null };
  if (ranker) {
    const images = await api.readImages(sources, { size, fit });
    const start = performance.now();
    const { logits, shape } = await ranker.rank(images);
    seconds.ranker += (performance.now() - start) / 1000;
    maps.ranker = rows(logits, shape[0]);
  }
  return maps;
}

async function teacherMaps(sources, fit, mapSeed) {
  const images = await api.readImages(sources, { size, fit });
  const start = performance.now();
  const map = await teacher.scoreMap(images, { rounds, maskRatio, seed: mapSeed });
  seconds.teacher += (performance.now() - start) / 1000;
  return rows(map.mean, map.shape[0]);
}

function rows(flat, count) {
  const length = flat.length / count;
  return Array.from({ length: count }, (_, i) => flat.subarray(i * length, (i + 1) * length));
}

function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r${text}   `);
}

function report() {
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');
  const sorted = [...textures].sort((a, b) => a - b);
  const threshold = sorted[Math.floor((sorted.length * 2) / 3)];
  const textured = textures.flatMap((value, i) => (value >= threshold ? [i] : []));
  const result = {
    size,
    patch,
    split: values.split,
    scenes: scenes.length,
    texturedScenes: textured.length,
    models: { mae: values.mae ?? null, ranker: values.ranker ?? null, maskRatio, rounds, seed },
    recall: {},
    kendallTau: {},
    seconds,
  };
  const figures = (recalls) => KEEPS.map((_, k) => mean(recalls.map((r) => r[k])));
  for (const [name, recalls] of methods) {
    result.recall[name] = {
      overall: figures(recalls),
      standardError: KEEPS.map((_, k) => standardError(recalls.map((r) => r[k]))),
      textured: figures(textured.map((i) => recalls[i])),
    };
  }
  const taus = {
    'ranker and teacher, held-out photos': agreement.photos,
    'teacher split-half, held-out photos': agreement.splitHalf,
    'ranker and teacher, scenes': agreement.scenes,
  };
  for (const [name, list] of Object.entries(taus)) {
    if (list.length > 1)
      result.kendallTau[name] = {
        mean: mean(list),
        standardError: standardError(list),
        n: list.length,
      };
  }

  const text = (list) => list.map((value) => value.toFixed(3).replace(/^0/, '')).join(' / ');
  console.log(
    `Object-pixel recall at keep 25 / 50 / 75% on ${scenes.length} composite ${values.split} scenes (a proxy: objects pasted on photographs), ${size} px, ${patch} px patches\n`,
  );
  console.log(`| map | overall | textured third (${textured.length} scenes) |\n|---|---|---|`);
  for (const [name, r] of Object.entries(result.recall)) {
    console.log(`| ${name} | ${text(r.overall)} | ${text(r.textured)} |`);
  }
  if (Object.keys(result.kendallTau).length > 0) {
    console.log(
      `\nTeacher's map: mask ratio ${maskRatio}, ${rounds} rounds.\n\n| Kendall's tau | mean | standard error | images |\n|---|---|---|---|`,
    );
    for (const [name, t] of Object.entries(result.kendallTau)) {
      console.log(`| ${name} | ${t.mean.toFixed(3)} | ${t.standardError.toFixed(3)} | ${t.n} |`);
    }
  }
  if (values.json) writeFileSync(values.json, `${JSON.stringify(result, null, 2)}\n`);
}
