/** `squeezePicture`: what stays and what goes, looked at with sharp; and the comparison of `npm run evaluate -- --squeeze`. */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import sharp, { type Sharp } from 'sharp';
import { bytesAt, curveOf } from '../scripts/evaluate/squeeze-curve.js';
import { LtrpError, squeezePicture } from '../lib/index.js';
import { soften } from '../lib/pictures/soften.js';
import { ltrp } from './support/command.js';
import { repository, temporaryFolder } from './support/paths.js';

const photo = join(repository, 'demo', 'photos', 'cat.jpg');

/** Noise: nothing in it is smooth. */
function noise(width: number, height: number): Uint8Array {
  let state = 7;
  return Uint8Array.from({ length: width * height * 3 }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}

for (const fill of ['flat', 'blur'] as const) {
  test(`kept patches have their pixels, the others are smooth (${fill})`, async (t) => {
    const [width, height] = [199, 130];
    const picture = { pixels: Buffer.from(noise(width, height)), width, height };
    // Two columns of patches of 99.5 px: the right one is kept.
    const grid = { rows: 1, columns: 2 };
    const { pixels, ...size } = await soften(sharp, picture, { grid, kept: [1], fill });
    t.deepEqual(size, { width, height });
    t.is(pixels.length, width * height * 3);
    // The edge lies at a multiple of 16: 96 or 112.
    let [kept, same, steps, neighbours] = [0, 0, 0, 0];
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width - 1; x++) {
        const at = 3 * (y * width + x);
        const [value = 0, next = 0] = [pixels[at], pixels[at + 3]];
        if (x > 124) {
          kept++;
          if (value === picture.pixels[at]) same++;
        } else if (x < 84) {
          neighbours++;
          steps += Math.abs(value - next);
        }
      }
    }
    t.is(same, kept);
    // Of noise, neighbours differ by 85 on average.
    t.true(steps / neighbours < 3, String(steps / neighbours));
  });
}

test('a file of each format, that says what it is; fewer patches make it smaller', async (t) => {
  const source = (await stat(photo)).size;
  for (const format of ['jpeg', 'webp', 'avif'] as const) {
    const sizes: number[] = [];
    for (const keepRatio of [1, 0.25]) {
      const result = await squeezePicture(photo, { format, keepRatio, quality: 50 });
      const { bytes, ...rest } = result;
      t.deepEqual(rest, {
        squeezed: true,
        sourceBytes: source,
        format,
        width: 720,
        height: 466,
        keepRatio,
      });
      const found = await sharp(bytes).metadata();
      t.is(found.format, format === 'avif' ? 'heif' : format);
      t.deepEqual([found.width, found.height], [720, 466]);
      if (format === 'jpeg') t.is(found.chromaSubsampling, '4:2:0');
      t.is(found.exif, undefined);
      sizes.push(bytes.length);
    }
    t.true((sizes[1] ?? Infinity) < 0.9 * (sizes[0] ?? 0), `${format}: ${sizes.join(', ')}`);
  }
});

test('never more bytes than the source', async (t) => {
  const small = await sharp(photo).jpeg({ quality: 5 }).toBuffer();
  const { bytes, squeezed, format } = await squeezePicture(small, { quality: 100, keepRatio: 1 });
  t.deepEqual([squeezed, format], [false, 'jpeg']);
  t.true(small.equals(bytes));
  const png = await sharp({ create: { width: 64, height: 64, channels: 3, background: 'red' } })
    .png()
    .toBuffer();
  const other = await squeezePicture(png, { quality: 100 });
  t.deepEqual([other.squeezed, other.format], [false, null]);
  t.true(png.equals(other.bytes));
});

test('pictures come out upright, whatever their orientation', async (t) => {
  const upright = await sharp(photo).resize(96, 64, { fit: 'fill' }).raw().toBuffer();
  const turned: Record<number, (image: Sharp) => Sharp> = {
    1: (image) => image,
    2: (image) => image.flop(),
    3: (image) => image.rotate(180),
    4: (image) => image.flip(),
    5: (image) => image.flop().rotate(270),
    6: (image) => image.rotate(270),
    7: (image) => image.flop().rotate(90),
    8: (image) => image.rotate(90),
  };
  for (const [orientation, turn] of Object.entries(turned)) {
    const image = sharp(upright, { raw: { width: 96, height: 64, channels: 3 } });
    const source = await turn(image)
      .png({ compressionLevel: 0 })
      .withMetadata({ orientation: Number(orientation) })
      .toBuffer();
    const { bytes, squeezed, width, height } = await squeezePicture(source, {
      keepRatio: 1,
      quality: 95,
    });
    t.true(squeezed, orientation);
    t.deepEqual([width, height], [96, 64], orientation);
    const pixels = await sharp(bytes).raw().toBuffer();
    const error = pixels.reduce((sum, value, i) => sum + Math.abs(value - (upright[i] ?? 0)), 0);
    t.true(error / pixels.length < 6, `${orientation}: ${error / pixels.length}`);
  }
});

test('transparency is laid on white, and RGB values are those of the profile', async (t) => {
  const clear = { r: 0, g: 0, b: 0, alpha: 0 };
  const create = { width: 64, height: 48, channels: 4, background: clear } as const;
  const all = { keepRatio: 1, quality: 95 };
  const white = await squeezePicture(
    await sharp({ create }).png({ compressionLevel: 0 }).toBuffer(),
    all,
  );
  t.true(white.squeezed);
  t.true((await sharp(white.bytes).raw().toBuffer()).every((value) => value >= 253));

  const size = { width: 64, height: 48, channels: 3 } as const;
  const source = await sharp({ create: { ...size, background: { r: 200, g: 60, b: 60 } } })
    .withIccProfile('p3')
    .png({ compressionLevel: 0 })
    .toBuffer();
  const wanted = await sharp(source).toColourspace('srgb').raw().toBuffer();
  const stored = await sharp(source, { ignoreIcc: true }).raw().toBuffer();
  const made = await sharp((await squeezePicture(source, all)).bytes)
    .raw()
    .toBuffer();
  const [of = 0, by = 0, not = 0] = [made[0], wanted[0], stored[0]];
  t.true(Math.abs(by - not) > 8, `${by} ${not}`);
  t.true(Math.abs(of - by) < 4, `${of} ${by} ${not}`);
});

test.serial('a picture is squeezed within LTRP_DECODE_MEMORY', async (t) => {
  const background = 'red';
  const create = { width: 1000, height: 1000, channels: 3, background } as const;
  const source = await sharp({ create }).jpeg().toBuffer();
  process.env['LTRP_DECODE_MEMORY'] = '8MB';
  t.teardown(() => {
    delete process.env['LTRP_DECODE_MEMORY'];
  });
  await t.throwsAsync(squeezePicture(source), {
    code: 'ERR_LTRP_OUT_OF_MEMORY',
    message: /1000 x 1000 pixels\) needs 14 MB of memory to be squeezed, but only 8 MB is allowed/,
  });
});

test('the command writes the file, and refuses what it must', async (t) => {
  const folder = await temporaryFolder(t);
  const out = join(folder, 'small.webp');
  const asked = ['--keep', '30%', '--quality', '40', '--json'];
  const first = await ltrp(['squeeze', photo, '--out', out, ...asked]);
  t.is(first.code, 0, first.stderr);
  const line = JSON.parse(first.stdout) as Record<string, unknown>;
  t.like(line, { image: photo, file: out, format: 'webp', squeezed: true, keepRatio: 0.3 });
  t.is(line['bytes'], (await stat(out)).size);
  const again = await ltrp(['squeeze', photo, '--out', out]);
  t.is(again.code, 1);
  t.regex(again.stderr, /exists already/);
  t.is((await ltrp(['squeeze', photo, '--out', out, '--force'])).code, 0);
  t.is((await ltrp(['squeeze', photo, '--out', join(folder, 'x.png')])).code, 2);
  const small = join(folder, 'source.jpg');
  await writeFile(small, await sharp(photo).jpeg({ quality: 5 }).toBuffer());
  const copied = join(folder, 'copied.jpg');
  t.is((await ltrp(['squeeze', small, '--out', copied, '--quality', '100'])).code, 0);
  t.deepEqual(await readFile(copied), await readFile(small));
  const best = ['--out', join(folder, 'none.webp'), '--quality', '100'];
  const none = await ltrp(['squeeze', small, ...best]);
  t.is(none.code, 1);
  t.regex(none.stderr, /would not be smaller/);
});

test('refused options', async (t) => {
  for (const [options, message] of [
    [{ keepRatio: 0 }, /keepRatio must be in \(0, 1\]; got 0/],
    [{ quality: 0 }, /quality must be an integer in \[1, 100\]; got 0/],
    [{ fill: 'black' }, /fill must be one of 'flat', 'blur'/],
    [{ format: 'png' }, /format must be one of 'jpeg', 'webp', 'avif'/],
  ] as const) {
    await t.throwsAsync(squeezePicture(photo, options as never), {
      instanceOf: LtrpError,
      code: 'ERR_LTRP_INVALID_ARGUMENT',
      message,
    });
  }
});

test('bytes at an agreement lie between points that nothing beats', (t) => {
  const curve = curveOf([
    { bytes: 400, agreement: 0.9 },
    { bytes: 100, agreement: 0.5 },
    { bytes: 300, agreement: 0.4 },
    { bytes: 200, agreement: 0.7 },
  ]);
  t.deepEqual(
    curve.map(({ bytes }) => bytes),
    [100, 200, 400],
  );
  t.is(bytesAt(curve, 0.6), 150);
  t.is(bytesAt(curve, 0.3), 100);
  t.is(bytesAt(curve, 0.9), 400);
  t.is(bytesAt(curve, 0.95), null);
});
