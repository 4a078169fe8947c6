/** The system's Chromium, for tests of pages. Without it they are skipped, and say so. */
import { existsSync } from 'node:fs';
import test from 'ava';
import { chromium, type Browser } from 'playwright-core';

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

/** One for all tests of a file. */
export async function theBrowser(): Promise<Browser> {
  browser ??= await chromium.launch({ executablePath: executable as string, args: flags });
  return browser;
}
