/** Decoding: bytes only, the right reason, the right values, read at the call. */
import { execFile } from 'node:child_process';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import sharp from 'sharp';
import { readForDisplay } from '../lib/cli/report/pictures.js';
import { PictureDecoder } from '../lib/data/decoder.js';
import { LtrpError, rankFiles, readImages } from '../lib/index.js';
import { decode } from '../lib/pictures/decode.js';
import { temporaryFolder } from './support/paths.js';
import { heicOf, tiff, type TiffShape } from './support/picture-files.js';
import { picture, picturePixels } from './support/pictures.js';

const run = promisify(execFile);

/** What every way of decoding says of a file: the same, or it is listed. */
async function everyWay(path: string): Promise<{ width: number; height: number; mean: number[] }> {
  const decoder = new PictureDecoder({ shortSide: 64, cacheBytes: 0, concurrency: 1 });
  const all = [await decode(path), await decoder.decode(path), await readForDisplay(path)];
  const [first] = all.map(({ pixels, width, height }) => {
    const mean = [0, 0, 0];
    for (let at = 0; at < pixels.length; at++) mean[at % 3]! += pixels[at]! / (width * height);
    return { width, height, mean: mean.map(Math.round) };
  });
  for (const { pixels, width, height } of all.slice(1)) {
    if (
      Buffer.compare(pixels, all[0]!.pixels) !== 0 ||
      width !== first!.width ||
      height !== first!.height
    ) {
      throw new Error(`${path} is decoded in different ways`);
    }
  }
  return first!;
}

async function refusal(t: ExecutionContext, source: string | Uint8Array): Promise<LtrpError> {
  const error = await t.throwsAsync<LtrpError>(decode(source, { name: 'x' }), {
    instanceOf: LtrpError,
  });
  t.false(error.message.includes('\n'), error.message);
  t.true(error.message.length < 400, error.message);
  return error;
}

const namespaces =
  'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:xi="http://www.w3.org/2001/XInclude"';

test('an SVG shows nothing of the files around it, whoever decodes it', async (t) => {
  const folder = await temporaryFolder(t);
  const at = (name: string) => join(folder, name);
  await writeFile(at('secret.txt'), '█████████');
  await writeFile(at('c.css'), 'rect { fill: #f00 !important }');
  await mkdir(at('below'));
  const red = sharp({ create: { width: 64, height: 64, channels: 3, background: '#f00' } }).png();
  for (const name of ['red.png', 'below/red.png']) await red.clone().toFile(at(name));
  await writeFile(
    at('other.svg'),
    `<svg ${namespaces}><rect id="r" width="64" height="64" fill="red"/></svg>`,
  );
  const svg = (inside: string, before = '') =>
    `${before}<svg ${namespaces} width="64" height="64"><rect width="64" height="64" fill="#00f"/>${inside}</svg>`;
  const cases: Record<string, string> = {
    beside: svg('<image width="64" height="64" href="red.png"/>'),
    below: svg('<image width="64" height="64" xlink:href="below/red.png"/>'),
    address: svg(`<image width="64" height="64" href="file://${at('red.png')}"/>`),
    include: svg(
      '<text y="50" font-size="60"><xi:include href="secret.txt" parse="text"><xi:fallback/></xi:include></text>',
    ),
    import: svg('').replace('<rect', '<style>@import url("c.css");</style><rect'),
    instruction: svg('', '<?xml-stylesheet href="c.css" type="text/css"?>'),
    use: svg('<use href="other.svg#r"/>'),
    entity: svg('&e;', `<!DOCTYPE svg [<!ENTITY e SYSTEM "other.svg">]>`),
    pattern: svg(
      '<filter id="f" x="0" y="0" width="1" height="1"><feImage href="red.png"/></filter><rect width="64" height="64" filter="url(#f)"/>',
    ),
  };
  for (const [name, text] of Object.entries(cases)) {
    await writeFile(at(`${name}.svg`), text);
    const outcome = await everyWay(at(`${name}.svg`)).catch((error: unknown) => error);
    // A reference that is refused altogether is as good.
    if (outcome instanceof LtrpError) t.is(outcome.code, 'ERR_LTRP_IMAGE_DECODE', name);
    else {
      const [redness = 255] = (outcome as { mean: number[] }).mean;
      t.is(redness, 0, name);
    }
  }
  // What is embedded belongs to it, and a compressed one is the same.
  const embedded = `<image width="64" height="64" href="data:image/png;base64,${(await red.toBuffer()).toString('base64')}"/>`;
  await writeFile(at('embedded.svg'), svg(embedded));
  await writeFile(at('embedded.svgz'), gzipSync(svg(embedded)));
  t.deepEqual((await everyWay(at('embedded.svg'))).mean, [255, 0, 0]);
  t.deepEqual((await everyWay(at('embedded.svgz'))).mean, [255, 0, 0]);
});

test('names that look like options of a decoder are names', async (t) => {
  const folder = await temporaryFolder(t);
  const bytes = await picture(60, 40).png().toBuffer();
  await writeFile(join(folder, 'plain.png'), bytes);
  const plain = await everyWay(join(folder, 'plain.png'));
  for (const name of ['cat [1]', 'cat.png[shrink=8]', 'a.png[page=2,n=-1]', ']', 'x.png[]']) {
    await writeFile(join(folder, name), bytes);
    t.deepEqual(await everyWay(join(folder, name)), plain, name);
  }
});

test('what is no picture, or none that is read, is called by its name', async (t) => {
  const bytes = (hex: string, more = ''): Buffer =>
    Buffer.concat([Buffer.from(hex, 'hex'), Buffer.from(more), Buffer.alloc(300, 7)]);
  const brand = (name: string) => bytes('00000018', `ftyp${name}`);
  const grey: TiffShape = { width: 16, height: 16, channels: 1, bits: 8, format: 1 };
  const raw = (...more: (readonly [number, 3 | 4, readonly number[]])[]) =>
    tiff(grey, new Uint8Array(256), more);
  const maker = (name: string) => [...Buffer.from(name)];
  const cases: [RegExp, Uint8Array][] = [
    [/JPEG XL is not read by this build of sharp; convert it to JPEG or PNG\.$/, bytes('ff0a')],
    [/JPEG XL is not read/, bytes('0000000c4a584c200d0a870a')],
    [/JPEG 2000 is not read/, bytes('0000000c6a5020200d0a870a')],
    [/JPEG 2000 is not read/, bytes('ff4fff51')],
    [/PSD \(Photoshop\) is not read/, bytes('', '8BPS')],
    [/BMP is not read/, Buffer.concat([Buffer.from('BM'), Buffer.alloc(12), bytes('28000000')])],
    [/ICO is not read/, bytes('00000100')],
    [/PDF is not read/, bytes('', '%PDF-1.7')],
    [/PostScript \(EPS\) is not read/, bytes('', '%!PS-Adobe')],
    [/OpenEXR is not read/, bytes('762f3101')],
    [/PNM .* is not read/, bytes('', 'P6\n16 16\n255\n')],
    [/Camera RAW \(CR3\) is not read by this build of sharp; develop it to/, brand('crx ')],
    [/Camera RAW \(RAF\)/, bytes('', 'FUJIFILMCCD-RAW ')],
    [/Camera RAW \(RW2\)/, bytes('49495500')],
    [/Camera RAW \(DNG\)/, raw([50706, 4, [1]])],
    [/Camera RAW \(NEF\)/, raw([254, 4, [1]], [330, 4, [8, 8]], [271, 3, maker('NIKON')])],
    [/it is a video \(MP4\)/, brand('isom')],
    [/it is a video \(QuickTime\)/, brand('qt  ')],
    [/it is a video \(AVI\)/, bytes('', 'RIFF1234AVI ')],
    [/it is a video \(Matroska or WebM\)/, bytes('1a45dfa3')],
    [/it is a zip archive; unpack it first/, bytes('504b0304')],
    [/data compressed with gzip/, gzipSync('nothing to see')],
    [
      /a Git LFS pointer; `git lfs pull`/,
      Buffer.from('version https://git-lfs.github.com/spec/v1\noid'),
    ],
    [/a web page \(HTML\); fetch it again/, Buffer.from('\n<!DOCTYPE html>\n<html>404</html>')],
    [/a web page \(HTML\)/, Buffer.from('<!-- x -->\n<html lang="en"><head></head></html>')],
    [/a web page \(HTML\)/, Buffer.from('<html><body><svg></svg></body></html>')],
    [/JPEG XR is not read/, bytes('4949bc01')],
    [/it is text \("\{"error":"quota"\}"\)/, Buffer.from('{"error":"quota"}')],
    [/it is text \("naïve/, Buffer.from(`naïve ${'word '.repeat(2000)}`)],
    [/it is nothing but zeros/, Buffer.alloc(5000)],
    [/unknown kind \(its first bytes are de ad be ef 07/, bytes('deadbeef')],
    [/is empty \(0 bytes\)/, Buffer.alloc(0)],
  ];
  for (const [expected, file] of cases) {
    const error = await refusal(t, file);
    t.is(error.code, 'ERR_LTRP_IMAGE_DECODE');
    t.regex(error.message, expected);
  }
});

test('a HEIC says that it is one, and what to do, wherever it is met', async (t) => {
  const folder = await temporaryFolder(t);
  for (const brand of ['heic', 'mif1']) {
    const bytes = heicOf(300, 200);
    bytes.write(brand, 8);
    const says =
      /: HEIC \(HEVC\) is not read by this build of sharp; convert it to JPEG or AVIF\.$/;
    t.regex((await refusal(t, bytes)).message, says);
    const path = join(folder, `${brand}.jpg`);
    await writeFile(path, bytes);
    const decoder = new PictureDecoder({ shortSide: 64, cacheBytes: 0, concurrency: 1 });
    await t.throwsAsync(decoder.decode(path), { message: says });
    await t.throwsAsync(readImages([path], { size: 224 }), { message: says });
  }
});

test('cut off is told from damaged', async (t) => {
  const whole = picture(200, 150);
  const svg = '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><rect/>';
  const files: Record<string, Buffer> = {
    JPEG: await whole
      .clone()
      .withExif({ IFD0: { Artist: 'x' } })
      .jpeg()
      .toBuffer(),
    PNG: await whole.clone().png().toBuffer(),
    WebP: await whole.clone().webp().toBuffer(),
    GIF: await whole.clone().gif().toBuffer(),
    TIFF: await whole.clone().tiff({ compression: 'none' }).toBuffer(),
    AVIF: await whole.clone().avif({ effort: 0 }).toBuffer(),
    SVG: Buffer.from(`${svg}</svg>    `),
  };
  for (const [name, file] of Object.entries(files)) {
    for (const share of [0.5, 0.93]) {
      const { message } = await refusal(t, file.subarray(0, file.length * share));
      t.regex(message, new RegExp(`this ${name} file is cut off after \\d+ bytes`));
    }
    t.truthy(await decode(file), name);
  }
  const damaged = Buffer.from(files['PNG']!);
  damaged.fill(0x55, 60, 2000);
  t.regex((await refusal(t, damaged)).message, /this PNG file is damaged, or of a variant/);
  const noise = Buffer.concat([files['JPEG']!.subarray(0, 30), Buffer.alloc(3000, 0x41)]);
  t.regex((await refusal(t, noise)).message, /this JPEG file is damaged, or of a variant/);
});

test('what cannot be read says why, with the name of the error', async (t) => {
  const folder = await temporaryFolder(t);
  await symlink('loop.png', join(folder, 'loop.png'));
  await run('mkfifo', [join(folder, 'pipe.png')]);
  const cases: [string, RegExp][] = [
    [join(folder, 'loop.png'), /cannot be read: ELOOP: [^']+\.$/],
    [join(folder, `${'n'.repeat(300)}.png`), /cannot be read: ENAMETOOLONG: [^']+\.$/],
    [join(folder, 'pipe.png'), /cannot be read: it is a pipe or a device; write it to a file/],
    ['/dev/zero', /cannot be read: it is a pipe or a device/],
    [folder, /cannot be read: it is a folder\.$/],
  ];
  for (const [path, expected] of cases) {
    const error = await refusal(t, path);
    t.is(error.code, 'ERR_LTRP_IMAGE_DECODE');
    t.regex(error.message, expected);
  }
  const absent = [join(folder, 'no.png'), join(folder, 'loop.png', 'x'), ''];
  t.is((await refusal(t, absent[0]!)).code, 'ERR_LTRP_IMAGE_NOT_FOUND');
  await t.throwsAsync(readImages(['a\0b'], { size: 224 }), {
    code: 'ERR_LTRP_INVALID_ARGUMENT',
    message: /^sources\[0\] must not contain a NUL character/,
  });
});

/** RGB bytes of a picture as it is, by `decode`. */
const rgb = async (source: Uint8Array): Promise<Buffer> => (await decode(source)).pixels;

test('values are scaled by their type; what has no known range is refused', async (t) => {
  const shape = { width: 32, height: 16 };
  const count = 32 * 16;
  const ramp = (top: number) => (_: unknown, at: number) => Math.floor((at / (count - 1)) * top);
  const expected = Uint8Array.from({ length: count }, ramp(255));
  const grey = (bytes: Uint8Array): Buffer =>
    Buffer.from(Array.from(bytes).flatMap((value) => [value, value, value]));
  const words = Uint16Array.from(expected, (value) => value * 257);
  const unsigned16 = { ...shape, channels: 1, bits: 16, format: 1 } as const;
  t.deepEqual(await rgb(tiff(unsigned16, new Uint8Array(words.buffer))), grey(expected));
  const inverted = tiff({ ...shape, channels: 1, bits: 8, format: 1, photometric: 0 }, expected);
  t.deepEqual(await rgb(inverted), grey(expected.map((value) => 255 - value)));

  const refused: [
    RegExp,
    Float32Array | Float64Array | Int16Array | Uint32Array | Int32Array | Int8Array,
  ][] = [
    [/32-bit floating-point numbers/, Float32Array.from({ length: count }, ramp(1))],
    [/32-bit floating-point numbers/, Float32Array.from({ length: count * 3 }, ramp(255))],
    [/signed 16-bit integers/, Int16Array.from({ length: count }, ramp(32767))],
    [/32-bit integers/, Uint32Array.from({ length: count }, ramp(2 ** 32 - 1))],
    [/signed 32-bit integers/, Int32Array.from({ length: count * 3 }, ramp(1000))],
    [/signed 8-bit integers/, Int8Array.from({ length: count }, ramp(127))],
  ];
  for (const [why, values] of refused) {
    const channels = values.length / count;
    const format = values instanceof Float32Array ? 3 : values instanceof Uint32Array ? 1 : 2;
    const bits = values.BYTES_PER_ELEMENT * 8;
    const file = tiff({ ...shape, channels, bits, format }, new Uint8Array(values.buffer));
    const { message } = await refusal(t, file);
    t.regex(message, why);
    t.regex(message, /save it with 8 or 16 bits a sample\.$/);
  }
});

test('transparency is laid on white in every depth, and CMYK is not taken for RGB', async (t) => {
  const side = 16;
  const over = (value: number, alpha: number): number =>
    (value * alpha + 255 * (255 - alpha)) / 255;
  for (const channels of [2, 4] as const) {
    const pixels = picturePixels(side, side, channels, 5);
    const shape = { width: side, height: side, channels, format: 1 } as const;
    const unassociated = [338, 3, [2]] as const;
    const words = new Uint8Array(Uint16Array.from(pixels, (value) => value * 257).buffer);
    const files = [
      await sharp(pixels, { raw: { width: side, height: side, channels } })
        .png()
        .toBuffer(),
      tiff({ ...shape, bits: 16 }, words, [unassociated]),
    ];
    for (const file of files) {
      const decoded = await rgb(file);
      let worst = 0;
      for (let at = 0; at < side * side; at++) {
        for (let channel = 0; channel < 3; channel++) {
          const value = pixels[at * channels + (channels === 2 ? 0 : channel)]!;
          const expected = over(value, pixels[at * channels + channels - 1]!);
          worst = Math.max(worst, Math.abs(decoded[at * 3 + channel]! - expected));
        }
      }
      t.true(worst <= 1.01, `${channels} channels: ${worst}`);
    }
  }
  // White, black and red ink as CMYK: no ink, all black, magenta and yellow.
  const inks = [
    [0, 0, 0, 0],
    [0, 0, 0, 255],
    [0, 255, 255, 0],
  ];
  const wide = Buffer.concat(
    inks.map((ink) => Buffer.from(new Array<number[]>(256).fill(ink).flat())),
  );
  const cmyk = tiff(
    { width: 16, height: 48, channels: 4, bits: 8, format: 1, photometric: 5 },
    wide,
  );
  const decoded = await rgb(cmyk);
  const colour = (row: number) => [...decoded.subarray(row * 48, row * 48 + 3)];
  t.true(
    colour(8).every((value) => value > 250),
    `white: ${String(colour(8))}`,
  );
  t.true(
    colour(24).every((value) => value < 70),
    `black: ${String(colour(24))}`,
  );
  const [red = 0, green = 0, blue = 0] = colour(40);
  t.true(red > 180 && green < 90 && blue < 90, `red: ${String(colour(40))}`);
});

test('bytes are read at the call, or when the source yields them', async (t) => {
  const files = await Promise.all(
    [1, 2, 3, 4].map((seed) => picture(64, 64, 3, seed).png({ compressionLevel: 0 }).toBuffer()),
  );
  const options = { size: 64, fit: 'none' } as const;
  const expected = await readImages(files, options);
  const shared = new Uint8Array(new SharedArrayBuffer(files[0]!.length));
  shared.set(files[0]!);
  const own = files.slice(1).map((file) => new Uint8Array(file));
  const promise = readImages([shared, ...own], options);
  shared.fill(0);
  own[0]!.fill(0);
  own[1]!.set(files[0]!);
  structuredClone(own[2], { transfer: [own[2]!.buffer] });
  t.deepEqual(await promise, expected);

  const logits = async (source: Iterable<Uint8Array>): Promise<Float32Array[]> => {
    const all: Float32Array[] = [];
    for await (const result of rankFiles(source, { patches: 16 })) {
      if (!result.ok) throw result.error;
      all.push(result.logits);
    }
    return all;
  };
  function* throughOneBuffer(): Generator<Uint8Array> {
    const buffer = new Uint8Array(files[0]!.length);
    for (const file of files) {
      buffer.set(file);
      yield buffer;
    }
    buffer.fill(0);
  }
  t.deepEqual(await logits(throughOneBuffer()), await logits(files));
});
