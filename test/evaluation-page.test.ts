/** The page of `ltrp evaluate` in a real browser: a chart for each measure, which the pointer can be asked about. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { curvePage } from '../lib/evaluation/curve-page.js';
import type { Measure, StudyFigure } from '../lib/evaluation/figures.js';
import type { SelectorName } from '../lib/index.js';
import { inBrowser, newPage, title } from './support/browser.js';
import { temporaryFolder } from './support/paths.js';

const figure = (
  measure: Measure,
  selector: SelectorName,
  keep: number | null,
  value: number,
): StudyFigure => ({
  ...{
    measure,
    selector,
    keep,
    value,
    low: value - 0.05,
    high: value + 0.05,
    more: null,
    change: null,
  },
});

const page = curvePage({
  results: {
    figures: [
      ...[figure('mAP', 'ranker', 0.25, 0.4), figure('mAP', 'ranker', 1, 0.8)],
      ...[figure('mAP', 'evit', 0.25, 0.6), figure('mAP', 'evit', 1, 0.8)],
      ...[figure('mAP, unseen', 'ranker', 0.25, 0.5), figure('mAP, unseen', 'evit', 0.25, 0.3)],
      ...[
        figure('insertion area', 'ranker', null, 0.5),
        figure('deletion area', 'ranker', null, 0.2),
      ],
    ],
    curves: [
      {
        selector: 'ranker',
        steps: [0, 8, 16],
        insertion: [0.1, 0.6, 0.9],
        deletion: [0.9, 0.3, 0.1],
      },
    ],
    teacher: null,
    precision: null,
    gigaflops: { classifier: {}, selectors: {} },
    milliseconds: { classifier: {}, selectors: {} },
  },
  keeps: [0.25, 1],
  reference: 'ranker',
  about: 'made up <pictures>',
  source: 'nobody',
});

inBrowser(
  title('a chart for each measure and curve; the pointer brings a line forward'),
  async (t) => {
    const path = join(await temporaryFolder(t), 'evaluate.html');
    await writeFile(path, page);
    const url = pathToFileURL(path).href;
    const view = await newPage(t, url, { viewport: { width: 1000, height: 2600 } });
    await view.goto(url);
    const charts = view.locator('svg');
    t.deepEqual(
      await Promise.all([0, 1, 2, 3].map((i) => charts.nth(i).getAttribute('aria-label'))),
      [
        'mAP on kept patches',
        'mAP on kept patches, unseen categories',
        'Insertion: probability of the true class with the best patches alone',
        'Deletion: probability of the true class without the best patches',
      ],
    );
    t.deepEqual(await charts.nth(2).locator('title').allTextContents(), [
      'ranker, 0% there: 10%',
      'ranker, 50% there: 60%',
      'ranker, 100% there: 90%',
    ]);
    t.true(
      (await charts.nth(1).locator('title').allTextContents()).includes(
        'evit, 25% kept: 30% [25%, 35%]',
      ),
    );
    t.is(await charts.count(), 4);
    // In a chart the other lines fade, in the next one none does.
    const opacity = (chart: number, name: string) =>
      view.evaluate(`(() => {
      const rows = [...document.querySelectorAll('svg')[${chart}].querySelectorAll('.row')];
      const row = rows.find((each) => each.querySelector('text').textContent === '${name}');
      return Number(getComputedStyle(row).opacity);
    })()`);
    t.is(await opacity(0, 'ranker'), 1);
    await charts.nth(0).locator('.row', { hasText: 'evit' }).locator('text').hover();
    t.is(await opacity(0, 'evit'), 1);
    t.is(await opacity(0, 'ranker'), 0.3);
    t.is(await opacity(1, 'ranker'), 1);
    // Higher is higher up, and all lies inside its chart.
    const y = async (chart: number, name: string, point: number) =>
      Number(
        await charts
          .nth(chart)
          .locator('.row', { hasText: name })
          .locator('circle')
          .nth(point)
          .getAttribute('cy'),
      );
    t.true((await y(0, 'evit', 0)) < (await y(0, 'ranker', 0)));
    t.true((await y(3, 'ranker', 0)) < (await y(3, 'ranker', 2)));
    t.deepEqual(
      await view.evaluate(`[...document.querySelectorAll('svg')].map((chart) => {
      const { top, bottom } = chart.getBoundingClientRect();
      return [...chart.querySelectorAll('circle')].every((mark) => {
        const own = mark.getBoundingClientRect();
        return own.top >= top && own.bottom <= bottom;
      });
    })`),
      [true, true, true, true],
    );
  },
);
