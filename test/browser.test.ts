/** The example page, and a pruned model, in onnxruntime-web in a real browser. */
import { readFile, writeFile } from 'node:fs/promises';
import type { Server } from 'node:http';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ExecutionContext } from 'ava';
import type { Page } from 'playwright-core';
import { convertCheckpoint, PatchRanker, pruneOnnx } from '../lib/index.js';
import { inBrowser, newPage, title } from './support/browser.js';
import { isWithin } from './support/compare.js';
import { openOnnx } from './support/onnx.js';
import { repository, temporaryFolder } from './support/paths.js';
import { makeImages } from './support/lifecycle-models.js';
import { encode, grid, smallVit } from './support/small-vit.js';

interface Example {
  start: (
    model: string,
    options?: { isolated?: boolean },
  ) => Promise<{ server: Server; url: string }>;
}
const example = pathToFileURL(join(repository, 'examples', 'browser', 'serve.mjs')).href;

/** The page, which must ask for nothing from elsewhere and complain of nothing. */
async function open(t: ExecutionContext, isolated: boolean): Promise<Page> {
  const model = join(await temporaryFolder(t), 'ranker.onnx');
  await convertCheckpoint('tiny', model, { kind: 'ranker' });
  const { start } = (await import(example)) as Example;
  const { server, url } = await start(model, { isolated });
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const page = await newPage(t, url);
  await page.goto(url);
  return page;
}

const numbers = (values: Iterable<number>): string => JSON.stringify(Array.from(values));

for (const isolated of [true, false]) {
  const how = isolated
    ? 'with threads where the page is isolated'
    : 'on one thread where it is not';
  inBrowser(title(`a dropped picture is ranked, ${how}`), async (t) => {
    const page = await open(t, isolated);
    t.is(await page.evaluate('crossOriginIsolated'), isolated);
    const photo = await readFile(join(repository, 'demo', 'photos', 'tiger.jpg'));
    await page.evaluate(`(async () => {
      const bytes = Uint8Array.from(atob('${photo.toString('base64')}'), (c) => c.charCodeAt(0));
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([bytes], 'tiger.jpg', { type: 'image/jpeg' }));
      document.body.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true }));
    })()`);
    const threads = isolated ? '\\d+ threads?' : '1 thread';
    const status = page.locator('#status');
    await status.filter({ hasText: 'kept' }).waitFor({ timeout: 60_000 });
    t.regex(
      (await status.textContent()) ?? '',
      new RegExp(`^98 of 196 patches kept \\(${threads}\\)$`),
    );
    await page.locator('#share').fill('25');
    t.regex((await status.textContent()) ?? '', /^49 of 196/);
    // 147 patches of 32 x 32 pixels are covered, which the photograph's own black would not be.
    const dark = await page.evaluate(`(() => {
      const { data } = document.querySelector('canvas').getContext('2d').getImageData(0, 0, 448, 448);
      let sum = 0;
      for (let at = 0; at < data.length; at += 4) sum += Math.max(data[at], data[at + 1], data[at + 2]) < 64;
      return sum / (448 * 448);
    })()`);
    t.true((dark as number) >= 0.75, String(dark));

    // What the page computes is what the core computes.
    const images = makeImages(1, 224);
    await using ranker = await PatchRanker.load('tiny');
    const { logits } = await ranker.rank(images);
    const found = await page.evaluate(
      `import('/page.js').then(async ({ rank }) => Array.from(await rank(Float32Array.from(${numbers(images.data)}))))`,
    );
    const scale = Math.max(...logits.map(Math.abs));
    isWithin(t, Float32Array.from(found as number[]), logits, { absolute: 1e-4 * scale }, 'logits');
  });
}

inBrowser(title('a pruned model gives in a browser what it gives in Node'), async (t) => {
  const folder = await temporaryFolder(t);
  const [model, cut] = [join(folder, 'model.onnx'), join(folder, 'cut.onnx')];
  await writeFile(model, encode(smallVit()));
  await pruneOnnx(model, cut);
  const shape = [1, 3, grid.rows * grid.patch, grid.columns * grid.patch];
  const pixels = Float32Array.from({ length: 3 * 32 * 40 }, (_, i) => Math.sin(i * 0.37));
  const ids = [7, 3, 19, 0, 11];
  const node = await openOnnx([cut]);
  const keep = { data: Int32Array.from(ids), shape: [1, ids.length] };
  const expected = await node.runAll({ pixels: { data: pixels, shape }, keep });
  await node.release();

  const page = await open(t, true);
  const bytes = (await readFile(cut)).toString('base64');
  const run = (row: number[]): Promise<unknown> =>
    page.evaluate(`import('/ort/ort.wasm.min.mjs').then(async (ort) => {
      ort.env.wasm.wasmPaths = new URL('/ort/', location.href).href;
      const bytes = Uint8Array.from(atob('${bytes}'), (c) => c.charCodeAt(0));
      const session = await ort.InferenceSession.create(bytes);
      const outputs = await session.run({
        pixels: new ort.Tensor('float32', Float32Array.from(${numbers(pixels)}), ${numbers(shape)}),
        keep: new ort.Tensor('int64', BigInt64Array.from(${numbers(row)}, BigInt), [1, ${String(row.length)}]),
      }).catch(({ message }) => ({ message }));
      if (outputs.message !== undefined) return outputs.message;
      return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, Array.from(data)]));
    })`);
  const found = (await run(ids)) as Record<string, number[]>;
  t.deepEqual(Object.keys(found).sort(), Object.keys(expected).sort());
  for (const [name, { data }] of Object.entries(expected))
    isWithin(t, Float32Array.from(found[name] ?? []), data, { absolute: 1e-5 }, name);
  // The runtime says it on the console, too.
  page.removeAllListeners('console');
  t.regex((await run([20])) as string, /an_id_outside_the_grid_fails_here/);
});
