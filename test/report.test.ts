/** The HTML page in a real browser. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import type { Page } from 'playwright-core';
import { reportPage, type Report } from '../lib/cli/report/page.js';
import { pageImage, reconstructionPicture } from '../lib/cli/report/pictures.js';
import { inBrowser, newPage, title } from './support/browser.js';
import { temporaryFolder } from './support/paths.js';
import { picturePixels } from './support/pictures.js';

const name = `<b>"Köln" & 'co'</b></script><script>document.title = 'injected'</script>`;

async function sampleReport(images = 2): Promise<Report> {
  const source = await pageImage({ pixels: picturePixels(240, 160), width: 240, height: 160 });
  return {
    title: 'A report <of> patches',
    description: 'What the page is about.',
    keepRatio: 0.5,
    images: Array.from({ length: images }, (_, index) => ({
      name: index === 0 ? name : `image ${String(index)}`,
      width: 240,
      height: 160,
      source,
      maps: [
        // Patch 0 is the worst, patch 23 the best.
        {
          label: 'Ranker',
          rows: 4,
          columns: 6,
          scores: Float32Array.from({ length: 24 }, (_value, patch) => patch),
          selected: [0, 1, 2],
        },
        {
          label: 'Teacher',
          rows: 2,
          columns: 3,
          scores: [6, 5, 4, 3, 2, 1],
          standardErrors: [0.5, NaN, 0.25, 1, 1, 1],
        },
      ],
    })),
    tables: [{ caption: 'A table', header: ['image', 'tau'], rows: [['one', '0.5']] }],
    notes: ['Where the pictures come from.'],
  };
}

async function openReport(
  t: ExecutionContext,
  report: Report,
  options: { width?: number; colorScheme?: 'light' | 'dark' } = {},
): Promise<Page> {
  const folder = await temporaryFolder(t);
  const file = join(folder, 'index.html');
  await writeFile(file, reportPage(report));
  const page = await newPage(t, pathToFileURL(file).href, {
    viewport: { width: options.width ?? 1200, height: 900 },
    colorScheme: options.colorScheme ?? 'light',
  });
  await page.goto(pathToFileURL(file).href);
  return page;
}

const counts = (page: Page): Promise<(string | null)[]> =>
  page
    .locator('[data-count]')
    .evaluateAll((elements) =>
      elements.map((element) => (element as { textContent: string | null }).textContent),
    );

/** Opacity of each patch's cover in the first picture. */
const covers = (page: Page): Promise<number[]> =>
  page.evaluate(`(() => {
    const canvas = document.querySelector('canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    return Array.from({ length: data.length / 4 }, (_, patch) => data[patch * 4 + 3]);
  })()`);

/** Changes are drawn with the next frame. */
const nextFrame = (page: Page): Promise<unknown> =>
  page.evaluate('new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))');

test('names cannot break out of the page', async (t) => {
  const html = reportPage(await sampleReport(1));
  t.is(html.split('</script>').length - 1, 2, 'the data and the script');
  t.false(html.includes('<b>"Köln'));
  t.regex(html, /default-src 'none'/);
  t.notRegex(html, /(?:src|href)="https?:/);
});

inBrowser(
  title('the slider keeps the best patches of all pictures, by mouse and by keyboard'),
  async (t) => {
    const page = await openReport(t, await sampleReport());
    t.is(await page.title(), 'A report <of> patches');
    const half = '12 of 24 patches kept (50%)';
    t.deepEqual(await counts(page), [half, half]);
    const before = await covers(page);
    t.deepEqual(
      before.map((alpha) => alpha === 0),
      Array.from({ length: 24 }, (_, patch) => patch >= 12),
      'the twelve best are uncovered',
    );
    await page.locator('#keep').fill('25');
    await nextFrame(page);
    t.is((await counts(page))[1], '6 of 24 patches kept (25%)');
    t.is((await covers(page)).filter((alpha) => alpha === 0).length, 6);
    await page.locator('#keep').focus();
    await page.keyboard.press('ArrowRight');
    await nextFrame(page);
    t.is(await page.locator('output').textContent(), '26%');
    await page.locator('h1').click();
    await page.locator('#theme').focus();
    for (const [key, value] of [
      ['PageUp', '36%'],
      ['ArrowLeft', '35%'],
      ['PageDown', '25%'],
    ] as const) {
      await page.keyboard.press(key);
      await nextFrame(page);
      t.is(await page.locator('output').textContent(), value);
    }
  },
);

inBrowser(
  title("heat map, fading, maps and the command's own choice can be switched"),
  async (t) => {
    const page = await openReport(t, await sampleReport(1));
    await page.getByLabel('Heat map').check();
    await nextFrame(page);
    t.true((await covers(page)).every((alpha) => alpha > 0));
    await page.getByLabel('Fade dropped patches').uncheck();
    await nextFrame(page);
    t.is(new Set(await covers(page)).size, 1, 'one opacity everywhere');
    await page.locator('h1').click();
    await page.keyboard.press('h');
    await nextFrame(page);
    t.true(
      (await covers(page)).every((alpha) => alpha === 0),
      'the bare picture',
    );
    await page.keyboard.press('d');
    await page.getByLabel('As chosen by the command').check();
    await nextFrame(page);
    t.deepEqual(await counts(page), ['3 of 24 patches kept (13%)']);
    t.deepEqual((await covers(page)).map((alpha) => alpha === 0).indexOf(false), 3);
    await page.locator('#keep').fill('50');
    await nextFrame(page);
    t.false(await page.getByLabel('As chosen by the command').isChecked());
    await page.getByText('Teacher', { exact: true }).click();
    await nextFrame(page);
    t.deepEqual(await counts(page), ['3 of 6 patches kept (50%)']);
    const box = (await page.locator('canvas').boundingBox())!;
    await page.mouse.move(box.x + 5, box.y + 5);
    const hint = page.locator('[data-patch]').first();
    t.is(await hint.textContent(), 'Row 1, column 1: place 1 of 6, score 6 ± 0.5');
    await page.mouse.move(box.x + box.width / 2, box.y + 5);
    t.is(await hint.textContent(), 'Row 1, column 2: place 2 of 6, score 5');
    const label = await page.locator('canvas').getAttribute('aria-label');
    t.true(label?.includes('3 of 6 patches kept'));
  },
);

inBrowser(title('light and dark, wide and narrow'), async (t) => {
  const background = (page: Page): Promise<string> =>
    page.evaluate('getComputedStyle(document.body).backgroundColor');
  const dark = await openReport(t, await sampleReport(), { colorScheme: 'dark' });
  const light = await openReport(t, await sampleReport(), { colorScheme: 'light' });
  const [night, day] = [await background(dark), await background(light)];
  t.not(night, day);
  await dark.locator('#theme').click();
  t.is(await background(dark), day);
  for (const width of [320, 400, 800, 1600]) {
    const page = await openReport(t, await sampleReport(5), { width });
    const overflow: number = await page.evaluate(
      'document.documentElement.scrollWidth - innerWidth',
    );
    t.true(overflow <= 0, `nothing sticks out at ${String(width)} pixels`);
  }
});

inBrowser(title('a hundred pictures are redrawn within a frame or two'), async (t) => {
  const page = await openReport(t, await sampleReport(100));
  const milliseconds: number = await page.evaluate(`(() => {
    const started = performance.now();
    for (let value = 1; value <= 20; value++) { document.forms.controls.elements.keep.value = value; draw(); }
    return (performance.now() - started) / 20;
  })()`);
  t.log(`${milliseconds.toFixed(1)} ms a redraw`);
  t.true(milliseconds < 50);
});

test('the error of a reconstruction is that of its definition, in raw and in normalised targets', async (t) => {
  const [rows, columns, p] = [3, 4, 8];
  const [width, height] = [columns * p, rows * p];
  // Far from 0, where a variance from the sum of squares would cancel in float32.
  const wave = (i: number, seed: number): number => Math.sin(i * 12.9898 + seed) * 0.5;
  const pixels = Float32Array.from({ length: 3 * width * height }, (_, i) => 100 + wave(i, 1));
  const patches = Float32Array.from({ length: 3 * width * height }, (_, i) => wave(i, 2));
  const visible = [0, 5, 7];
  for (const normalizedTarget of [false, true]) {
    const errors: number[] = [];
    for (let patch = 0; patch < rows * columns; patch++) {
      if (visible.includes(patch)) continue;
      const [top, left] = [Math.floor(patch / columns) * p, (patch % columns) * p];
      const truth: number[] = [];
      for (let y = top; y < top + p; y++) {
        for (let x = left; x < left + p; x++) {
          for (let c = 0; c < 3; c++) truth.push(pixels[(c * height + y) * width + x]!);
        }
      }
      const mean = truth.reduce((sum, value) => sum + value) / truth.length;
      const squares = truth.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      const deviation = Math.sqrt(squares / (truth.length - 1) + 1e-6);
      truth.forEach((value, i) => {
        const predicted = patches[patch * truth.length + i]!;
        const shown = normalizedTarget ? predicted * deviation + mean : predicted;
        errors.push((shown - value) ** 2);
      });
    }
    const expected = errors.reduce((sum, value) => sum + value) / errors.length;
    const grid = { rows, columns };
    const shape = { mean: [0.5, 0.5, 0.5], std: [0.2, 0.2, 0.2], patchSize: p };
    const picture = { pixels, patches, visible, grid, ...shape, normalizedTarget };
    const { error } = await reconstructionPicture(picture, { width, height });
    t.true(Math.abs(error / expected - 1) < 1e-9, `${String(error)} and ${String(expected)}`);
  }
});

test('pages name the first, the one before and the next, as far as there are any', async (t) => {
  const report = await sampleReport(1);
  const names = (page: NonNullable<Report['page']>): string[] =>
    [...reportPage({ ...report, page }).matchAll(/<a href="([^"]*)"[^>]*>([^<]*)</g)].map(
      ([, file, text]) => `${text!}: ${file!}`,
    );
  t.deepEqual(names({ number: 1 }), []);
  t.deepEqual(names({ number: 1, next: 'b' }), ['Next page: b']);
  t.deepEqual(names({ number: 2, first: 'a', previous: 'a' }), ['Previous page: a']);
  t.deepEqual(names({ number: 4, first: 'a', previous: 'c', next: 'e' }), [
    'First page: a',
    'Previous page: c',
    'Next page: e',
  ]);
});
