/** The system's Chromium, for tests of pages. Without it they are skipped, and say so. */
import { existsSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { chromium, type Browser, type BrowserContextOptions, type Page } from 'playwright-core';

const executable = [
  process.env['CHROMIUM_PATH'],
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
].find((path) => path !== undefined && existsSync(path));

export const inBrowser = executable === undefined ? test.serial.skip : test.serial;

export const title = (what: string): string =>
  executable === undefined ? `${what} (no Chromium: set CHROMIUM_PATH)` : what;

const flags = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

let browser: Browser | undefined;

test.after.always(() => browser?.close());

/** A page that fails the test when its script fails, the browser complains, or it asks for what does not begin with `url`. */
export async function newPage(
  t: ExecutionContext,
  url: string,
  options: BrowserContextOptions = {},
): Promise<Page> {
  // One browser for all tests of a file.
  browser ??= await chromium.launch({ executablePath: executable as string, args: flags });
  const page = await browser.newPage(options);
  t.teardown(() => page.close());
  page.on('pageerror', (error) => {
    t.fail(`the page's script failed: ${error.message}`);
  });
  page.on('console', (message) => {
    if (message.type() === 'error') t.fail(`the browser complains: ${message.text()}`);
  });
  page.on('request', (request) => {
    const asked = request.url();
    if (!asked.startsWith(url) && !asked.startsWith('data:')) t.fail(`it asks for ${asked}`);
  });
  return page;
}
