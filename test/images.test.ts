/** readImages: every kind of source that works, and every kind that must be refused in one sentence. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import sharp from 'sharp';
import {
  imageNetMean,
  imageNetStd,
  LtrpError,
  type LtrpErrorCode,
  readImages,
  type ImageBatch,
  type ReadImagesOptions,
} from '../lib/index.js';
import { withGolden } from './support/golden.js';
import { golden, temporaryFolder } from './support/paths.js';
import { picture, picturePixels } from './support/pictures.js';

type Source = string | Uint8Array;

/** Back to levels of 0 to 255, [3, height, width] of one image. */
function levels({ data, shape }: ImageBatch, index = 0): Float64Array {
  const plane = shape[2] * shape[3];
  return Float64Array.from(
    data.subarray(index * 3 * plane, (index + 1) * 3 * plane),
    (value, at) => {
      const channel = Math.floor(at / plane);
      return (value * imageNetStd[channel]! + imageNetMean[channel]!) * 255;
    },
  );
}

function meanDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let index = 0; index < a.length; index++) sum += Math.abs(a[index]! - b[index]!);
  return sum / a.length;
}

async function refused(
  t: ExecutionContext,
  source: Source,
  code: LtrpErrorCode,
  options: Partial<ReadImagesOptions> = {},
  named?: RegExp,
): Promise<string> {
  const error = await t.throwsAsync<LtrpError>(readImages([source], { size: 224, ...options }), {
    instanceOf: LtrpError,
  });
  t.is(error.code, code);
  const message = error.message;
  t.false(message.includes('\n'), 'one sentence on one line');
  if (named !== undefined) t.regex(message, named);
  else if (typeof source === 'string')
    t.true(message.includes(source), `${message} names ${source}`);
  return message;
}

const works = async (source: Source): Promise<ImageBatch> =>
  readImages([source], { size: 64, fit: 'stretch' });

withGolden('crops agree with Pillow within a mean of 1 level of 255', async (t) => {
  for (const name of ['astronaut', 'chelsea', 'coffee']) {
    const batch = await readImages([join(golden, 'preprocess', `${name}.png`)], { size: 224 });
    const reference = await readImages([join(golden, 'preprocess', `${name}-224.png`)], {
      size: 224,
      fit: 'none',
    });
    const difference = meanDifference(levels(batch), levels(reference));
    t.log(`${name}: ${difference.toFixed(3)}`);
    t.true(difference < 0.3);
  }
});

test('a batch has the order of its sources, paths and bytes alike', async (t) => {
  const folder = await temporaryFolder(t);
  const sources: Source[] = [];
  for (let index = 0; index < 20; index++) {
    const bytes = await picture(80 + index * 7, 90, 3, index + 1)
      .png()
      .toBuffer();
    const path = join(folder, `${String(index)}.png`);
    if (index % 2 === 0) await writeFile(path, bytes);
    sources.push(index % 2 === 0 ? path : new Uint8Array(bytes));
  }
  const all = await readImages(sources, { size: [48, 64], fit: 'stretch' });
  t.deepEqual(all.shape, [20, 3, 48, 64]);
  for (const [index, source] of sources.entries()) {
    const one = await readImages([source], { size: [48, 64], fit: 'stretch' });
    t.deepEqual(one.data, all.data.subarray(index * 3 * 48 * 64, (index + 1) * 3 * 48 * 64));
  }
});

test("fit 'none' gives (x / 255 - mean) / std of exactly the file's pixels", async (t) => {
  const pixels = picturePixels(40, 24);
  const bytes = await picture(40, 24).png().toBuffer();
  const mean = [0.1, 0.2, 0.3];
  const std = [0.5, 0.25, 2];
  const { data, shape } = await readImages([bytes], { size: [24, 40], fit: 'none', mean, std });
  t.deepEqual(shape, [1, 3, 24, 40]);
  const expected = new Float32Array(data.length);
  for (let at = 0; at < 24 * 40; at++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = (pixels[at * 3 + channel]! / 255 - mean[channel]!) / std[channel]!;
      expected[channel * 24 * 40 + at] = value;
    }
  }
  t.true(meanDifference(data, expected) < 1e-6);
  await refused(t, bytes, 'ERR_LTRP_IMAGE_SIZE', { size: [40, 24], fit: 'none' }, /40 x 24/);
});

test('CMYK, grey, 16-bit, palette, alpha, animated and Lab pictures become sRGB', async (t) => {
  const plain = levels(await works(await picture(120, 90).png().toBuffer()));
  const close = async (name: string, source: Uint8Array, limit: number): Promise<void> => {
    const difference = meanDifference(levels(await works(source)), plain);
    t.true(difference <= limit, `${name}: ${String(difference)} levels`);
  };
  await close('16-bit', await picture(120, 90).toColourspace('rgb16').png().toBuffer(), 0.6);
  await close('palette', await picture(120, 90).png({ palette: true, colours: 256 }).toBuffer(), 8);
  await close('Lab', await picture(120, 90).toColourspace('lab').tiff().toBuffer(), 4);
  await close(
    'CMYK',
    await picture(120, 90).toColourspace('cmyk').jpeg({ quality: 95 }).toBuffer(),
    25,
  );
  const opaque = await picture(120, 90).ensureAlpha().png().toBuffer();
  await close('opaque alpha', opaque, 0);
  const [first, second] = [picture(120, 90).png(), picture(120, 90, 3, 9).png()];
  const frames = [await first.toBuffer(), await second.toBuffer()];
  const animated = await sharp(frames, { join: { animated: true } })
    .webp({ lossless: true })
    .toBuffer();
  t.is((await sharp(animated).metadata()).pages, 2);
  await close('first frame of an animation', animated, 0);

  const grey = levels(await works(await picture(120, 90, 1).toColourspace('b-w').png().toBuffer()));
  const grey16 = await picture(120, 90, 1).toColourspace('grey16').png().toBuffer();
  t.is((await sharp(grey16).metadata()).depth, 'ushort');
  t.true(meanDifference(levels(await works(grey16)), grey) < 0.6);
  t.true(meanDifference(grey.subarray(0, 4096), grey.subarray(8192)) < 1e-4, 'equal channels');

  const clear = await sharp({
    create: { width: 50, height: 40, channels: 4, background: { r: 9, g: 9, b: 9, alpha: 0 } },
  })
    .png()
    .toBuffer();
  t.true(
    meanDifference(levels(await works(clear)), new Float64Array(3 * 64 * 64).fill(255)) < 1e-3,
  );
});

test('the EXIF rotation is applied', async (t) => {
  const upright = await picture(200, 120).png().toBuffer();
  // Orientation 6: the viewer turns the stored picture a quarter clockwise.
  const turned = await sharp(await sharp(upright).rotate(270).png().toBuffer())
    .withMetadata({ orientation: 6 })
    .png()
    .toBuffer();
  t.is((await sharp(turned).metadata()).orientation, 6);
  const options = { size: [60, 100] as const, fit: 'stretch' as const };
  const [a, b] = [await readImages([upright], options), await readImages([turned], options)];
  // Not the same to the bit: rows and columns are resampled in the other order.
  t.true(meanDifference(levels(a), levels(b)) < 1);
  const whole = { size: [120, 200] as const, fit: 'none' as const };
  t.deepEqual(await readImages([turned], whole), await readImages([upright], whole));
});

test('damaged and absent files are refused by name, and reading goes on afterwards', async (t) => {
  const folder = await temporaryFolder(t);
  const file = async (name: string, bytes: Uint8Array | string): Promise<string> => {
    await writeFile(join(folder, name), bytes);
    return join(folder, name);
  };
  const jpeg = await picture(300, 200).jpeg().toBuffer();
  const png = await picture(300, 200).png().toBuffer();
  await refused(t, join(folder, 'missing.jpg'), 'ERR_LTRP_IMAGE_NOT_FOUND');
  await refused(t, await file('text.jpg', 'This is not a picture.'), 'ERR_LTRP_IMAGE_DECODE');
  await refused(
    t,
    await file('half.jpg', jpeg.subarray(0, jpeg.length / 2)),
    'ERR_LTRP_IMAGE_DECODE',
  );
  await refused(t, await file('end.jpg', jpeg.subarray(0, -20)), 'ERR_LTRP_IMAGE_DECODE');
  await refused(
    t,
    await file('half.png', png.subarray(0, png.length / 2)),
    'ERR_LTRP_IMAGE_DECODE',
  );
  await refused(t, await file('empty.jpg', ''), 'ERR_LTRP_IMAGE_DECODE');
  await mkdir(join(folder, 'folder.jpg'));
  await refused(t, join(folder, 'folder.jpg'), 'ERR_LTRP_IMAGE_DECODE');
  await refused(t, new Uint8Array(0), 'ERR_LTRP_IMAGE_DECODE', {}, /buffer 0/);
  t.deepEqual((await works(await file('good.jpg', jpeg))).shape, [1, 3, 64, 64]);
});

test('sizes that make no sense are refused before anything is decoded', async (t) => {
  const make = (width: number, height: number): Promise<Buffer> =>
    sharp({ create: { width, height, channels: 3, background: 'red' } })
      .png()
      .toBuffer();
  await works(await make(16, 16)); // sharp and LibTorch are loaded
  const started = performance.now();
  for (const fit of ['crop', 'stretch'] as const) {
    await refused(t, await make(1, 1), 'ERR_LTRP_IMAGE_SIZE', { fit }, /1 x 1/);
    await refused(t, await make(30000, 2), 'ERR_LTRP_IMAGE_SIZE', { fit }, /30000 x 2/);
    await refused(t, await make(30000, 20), 'ERR_LTRP_IMAGE_SIZE', { fit }, /30000 x 20/);
  }
  t.true(performance.now() - started < 5000);
  const huge = '<svg xmlns="http://www.w3.org/2000/svg" width="20000" height="20000"/>';
  await refused(t, Buffer.from(huge), 'ERR_LTRP_IMAGE_SIZE', {}, /20000 x 20000/);
  t.deepEqual((await works(await make(16, 1600))).shape, [1, 3, 64, 64]);
});

test('wrong arguments are refused in one sentence', async (t) => {
  const bytes = await picture(32, 32).png().toBuffer();
  const wrong: [unknown, unknown][] = [
    [[], { size: 32 }],
    ['cat.jpg', { size: 32 }],
    [[1], { size: 32 }],
    [[bytes], undefined],
    [[bytes], {}],
    [[bytes], { size: 0 }],
    [[bytes], { size: 2.5 }],
    [[bytes], { size: [32] }],
    [[''], { size: 32 }],
    [[bytes], { size: 32, fit: 'none', unknown: 1 }],
    [[bytes], { size: 32, fit: 'fill' }],
    [[bytes], { size: 32, mean: [1, 2] }],
    [[bytes], { size: 32, std: [1, 1, 0] }],
    [[bytes], { size: 32, std: [1, 1, NaN] }],
  ];
  for (const [sources, options] of wrong) {
    const error = await t.throwsAsync<LtrpError>(readImages(sources as never, options as never));
    t.is(error.code, 'ERR_LTRP_INVALID_ARGUMENT', JSON.stringify(options));
  }
});

test('an aborted signal stops reading with its reason', async (t) => {
  const bytes = await picture(900, 700).png().toBuffer();
  const reason = new Error('enough');
  const early = readImages([bytes], { size: 224, signal: AbortSignal.abort(reason) });
  t.is(await t.throwsAsync(early), reason);
  const controller = new AbortController();
  const late = readImages(new Array<Uint8Array>(200).fill(bytes), {
    size: 224,
    signal: controller.signal,
  });
  setTimeout(() => {
    controller.abort(reason);
  }, 30);
  const started = performance.now();
  t.is(await t.throwsAsync(late), reason);
  t.true(performance.now() - started < 2000);
});
