// One composite scene: photographic cut-outs pasted on a photographic background, with exact masks and labels.
import { existsSync } from 'node:fs';
import sharp from 'sharp';
import { readObjects, readPhotos } from './lists.mjs';
import { seededRandom } from './random.mjs';

const OBJECTS_PER_SCENE = [2, 3, 4];
const AREA_SHARE = [0.025, 0.1];
const MAX_ROTATION = 15; // degrees
const COLOUR_RANGE = 0.15;
const MAX_OVERLAP = 0.15;
const MAX_OUTSIDE = 0.4;
const BACKGROUND_CROP = [0.6, 1]; // side of the crop as a share of the background's short side
const JPEG_QUALITY = [85, 95];
const PLACEMENT_TRIALS = 30;
const OPAQUE = 128;

/** The objects (by category) and backgrounds of one split. `extra` adds the four small categories and the extra packages. */
export function loadMaterial(split, { extra = false } = {}) {
  const objects = readObjects().filter(
    (row) => row.split === split || (extra && row.split === 'extra'),
  );
  const backgrounds = readPhotos().filter(
    (row) => row.use === 'bg' && row.split === split && (extra || row.set === 'core'),
  );
  if (![...objects, ...backgrounds].every((row) => existsSync(row.file))) {
    throw new Error(
      `photographs are missing; fetch them with: npm run photos${extra ? ' -- --extra' : ''}`,
    );
  }
  return { categories: groupByCategory(objects), backgrounds };
}

function groupByCategory(objects) {
  const groups = new Map();
  for (const object of objects)
    groups.set(object.category, [...(groups.get(object.category) ?? []), object]);
  return groups;
}

/** Decoded cut-outs and backgrounds, each kept at no more than the size that scenes of `size` pixels can use. */
export class Sprites {
  #cache = new Map();
  constructor(size) {
    this.size = size;
  }

  #once(file, make) {
    if (!this.#cache.has(file)) this.#cache.set(file, make());
    return this.#cache.get(file);
  }

  /** RGBA of the cut-out, trimmed to its opaque box, and the share of the box that is opaque. */
  object(row) {
    return this.#once(row.file, async () => {
      let image = sharp(row.file).toColourspace('srgb').ensureAlpha();
      if (row.frames === 2) {
        const { width, height } = await sharp(row.file).metadata();
        image = image.extract({ left: 0, top: 0, width: Math.floor(width / 2), height });
      }
      const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
      const box = opaqueBox(data, info.width, info.height);
      if (!box) throw new Error(`${row.file} has no opaque pixel`);
      const side = Math.ceil(this.size * 0.8);
      const cut = await sharp(data, {
        raw: { width: info.width, height: info.height, channels: 4 },
      })
        .extract(box)
        .resize(side, side, { fit: 'inside', withoutEnlargement: true })
        .raw()
        .toBuffer({ resolveWithObject: true });
      let opaque = 0;
      for (let i = 3; i < cut.data.length; i += 4) if (cut.data[i] >= OPAQUE) opaque++;
      return { ...cut, share: opaque / (cut.info.width * cut.info.height) };
    });
  }

  background(row) {
    return this.#once(row.file, async () => {
      const side = Math.ceil(this.size / BACKGROUND_CROP[0]);
      const { data, info } = await sharp(row.file)
        .rotate()
        .flatten({ background: '#fff' })
        .toColourspace('srgb')
        .resize(side, side, { fit: 'outside', withoutEnlargement: true })
        .raw()
        .toBuffer({ resolveWithObject: true });
      return { data, info };
    });
  }
}

function opaqueBox(data, width, height) {
  let [left, top, right, bottom] = [width, height, -1, -1];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (data[(y * width + x) * 4 + 3] < OPAQUE) continue;
      left = Math.min(left, x);
      right = Math.max(right, x);
      top = Math.min(top, y);
      bottom = y;
    }
  }
  return right < 0 ? null : { left, top, width: right - left + 1, height: bottom - top + 1 };
}

/**
 * Makes scene `index` of a split. The same (material, size, seed, split, index) always gives the same bytes with the same sharp.
 * Returns the JPEG, the mask as grey PNG (0 background, k the k-th object of `objects`) and the scene's index entry.
 */
export async function composeScene(material, sprites, { size, split, seed, index }) {
  const random = seededRandom('scene', seed, split, index);
  const background = random.pick(material.backgrounds);
  const pixels = await cropBackground(await sprites.background(background), size, random);
  const texture = patchVariance(pixels, size);

  const mask = new Uint8Array(size * size);
  const placed = [];
  const names = random.sample(
    [...material.categories.keys()].sort(),
    random.pick(OBJECTS_PER_SCENE),
  );
  for (const category of names) {
    const row = random.pick(material.categories.get(category));
    const sprite = await transformSprite(await sprites.object(row), size, random);
    const at = findPlace(sprite, mask, size, random);
    if (!at) continue; // no place within the overlap rule: the scene has one object fewer
    placed.push({ category, object: row.object });
    paste(pixels, mask, size, sprite, at, placed.length);
  }

  const quality = Math.round(random.uniform(...JPEG_QUALITY));
  const raw = { raw: { width: size, height: size, channels: 3 } };
  const image = await sharp(pixels, raw).jpeg({ quality }).toBuffer();
  const maskPng = await sharp(mask, { raw: { width: size, height: size, channels: 1 } })
    .toColourspace('b-w')
    .png({ compressionLevel: 6 })
    .toBuffer();
  const covered = mask.reduce((sum, value) => sum + (value ? 1 : 0), 0) / (size * size);
  return {
    image,
    mask: maskPng,
    entry: {
      index,
      seed,
      split,
      size,
      categories: placed.map((object) => object.category),
      objects: placed.map((object) => object.object),
      background: `${background.package}:${background.archive ? `${background.archive}:` : ''}${background.path}`,
      backgroundVariance: Number(texture.toFixed(3)),
      covered: Number(covered.toFixed(4)),
      quality,
    },
  };
}

async function cropBackground({ data, info }, size, random) {
  const side = Math.max(
    1,
    Math.round(Math.min(info.width, info.height) * random.uniform(...BACKGROUND_CROP)),
  );
  const left = random.below(info.width - side + 1);
  const top = random.below(info.height - side + 1);
  const flop = random.next() < 0.5;
  return sharp(data, { raw: { width: info.width, height: info.height, channels: info.channels } })
    .extract({ left, top, width: side, height: side })
    .resize(size, size, { fit: 'fill' })
    .flop(flop)
    .raw()
    .toBuffer();
}

/** Mean over 1/16-of-a-side patches of the variance of luma, in grey levels squared: how textured the bare background is. */
function patchVariance(pixels, size) {
  const patch = size / 16;
  let total = 0;
  for (let row = 0; row < 16; row++) {
    for (let column = 0; column < 16; column++) {
      let [n, sum, squares] = [0, 0, 0];
      for (let y = Math.floor(row * patch); y < Math.floor((row + 1) * patch); y++) {
        for (let x = Math.floor(column * patch); x < Math.floor((column + 1) * patch); x++) {
          const i = (y * size + x) * 3;
          const luma = 0.299 * pixels[i] + 0.587 * pixels[i + 1] + 0.114 * pixels[i + 2];
          n++;
          sum += luma;
          squares += luma * luma;
        }
      }
      total += squares / n - (sum / n) ** 2;
    }
  }
  return total / 256;
}

/** Scaled to its share of the image's area, turned, mirrored, recoloured; premultiplied float RGBA, cut edges softened. */
async function transformSprite({ data, info, share }, size, random) {
  const area = random.uniform(...AREA_SHARE) * size * size;
  const scale = Math.sqrt(area / (info.width * info.height * share));
  const width = Math.max(2, Math.round(info.width * scale));
  const height = Math.max(2, Math.round(info.height * scale));
  const angle = random.uniform(-MAX_ROTATION, MAX_ROTATION);
  const flop = random.next() < 0.5;
  const brightness = 1 + random.uniform(-COLOUR_RANGE, COLOUR_RANGE);
  const saturation = 1 + random.uniform(-COLOUR_RANGE, COLOUR_RANGE);
  const scaled = await sharp(data, { raw: { width: info.width, height: info.height, channels: 4 } })
    .resize(width, height, { fit: 'fill' })
    .flop(flop)
    .raw()
    .toBuffer();
  const turned = await sharp(scaled, { raw: { width, height, channels: 4 } })
    .rotate(angle, { background: { r: 0, g: 0, b: 0, alpha: 0 } })
    .extend({ top: 2, bottom: 2, left: 2, right: 2, background: { r: 0, g: 0, b: 0, alpha: 0 } })
    .raw()
    .toBuffer({ resolveWithObject: true });
  const rgba = recolour(turned.data, brightness, saturation);
  return soften(rgba, turned.info.width, turned.info.height);
}

function recolour(bytes, brightness, saturation) {
  const out = new Float32Array(bytes.length);
  for (let i = 0; i < bytes.length; i += 4) {
    const alpha = bytes[i + 3] / 255;
    if (alpha === 0) continue;
    const luma = 0.299 * bytes[i] + 0.587 * bytes[i + 1] + 0.114 * bytes[i + 2];
    for (let c = 0; c < 3; c++) {
      const value = (luma + (bytes[i + c] - luma) * saturation) * brightness;
      out[i + c] = Math.min(255, Math.max(0, value)) * alpha;
    }
    out[i + 3] = alpha;
  }
  return out;
}

/** A 3 x 3 binomial blur where alpha changes, so that the cut itself is less of a clue; the inside stays sharp. */
function soften(rgba, width, height) {
  const out = Float32Array.from(rgba);
  const weights = [1, 2, 1, 2, 4, 2, 1, 2, 1];
  let area = 0;
  for (let y = 1; y < height - 1; y++) {
    for (let x = 1; x < width - 1; x++) {
      const at = (y * width + x) * 4;
      let [low, high] = [1, 0];
      for (let k = 0; k < 9; k++) {
        const alpha = rgba[at + ((Math.floor(k / 3) - 1) * width + (k % 3) - 1) * 4 + 3];
        low = Math.min(low, alpha);
        high = Math.max(high, alpha);
      }
      if (low !== high) {
        for (let c = 0; c < 4; c++) {
          let sum = 0;
          for (let k = 0; k < 9; k++) {
            sum += weights[k] * rgba[at + ((Math.floor(k / 3) - 1) * width + (k % 3) - 1) * 4 + c];
          }
          out[at + c] = sum / 16;
        }
      }
      if (out[at + 3] >= 0.5) area++;
    }
  }
  return { data: out, width, height, area };
}

/** A uniform place with at most MAX_OUTSIDE of the object beyond the frame and MAX_OVERLAP of it on earlier objects. */
function findPlace(sprite, mask, size, random) {
  for (let trial = 0; trial < PLACEMENT_TRIALS; trial++) {
    const left = Math.floor(random.uniform(-sprite.width, size));
    const top = Math.floor(random.uniform(-sprite.height, size));
    let [inside, overlap] = [0, 0];
    forEachInside(sprite, left, top, size, (from, to) => {
      if (sprite.data[from * 4 + 3] < 0.5) return;
      inside++;
      if (mask[to]) overlap++;
    });
    if (inside >= (1 - MAX_OUTSIDE) * sprite.area && overlap <= MAX_OVERLAP * sprite.area)
      return { left, top };
  }
  return null;
}

function paste(pixels, mask, size, sprite, { left, top }, id) {
  forEachInside(sprite, left, top, size, (from, to) => {
    const alpha = sprite.data[from * 4 + 3];
    if (alpha === 0) return;
    for (let c = 0; c < 3; c++) {
      pixels[to * 3 + c] = Math.round(sprite.data[from * 4 + c] + (1 - alpha) * pixels[to * 3 + c]);
    }
    if (alpha >= 0.5) mask[to] = id;
  });
}

function forEachInside(sprite, left, top, size, visit) {
  for (let y = Math.max(0, -top); y < Math.min(sprite.height, size - top); y++) {
    for (let x = Math.max(0, -left); x < Math.min(sprite.width, size - left); x++) {
      visit(y * sprite.width + x, (top + y) * size + left + x);
    }
  }
}
