/**
 * docs/troubleshooting.md quotes error messages: here every one of them is provoked and compared, and every code that the
 * sources know has its section. `LTRP_UPDATE_DOCS=1` writes the messages into the page instead.
 */
import { cp, mkdir, readFile, readdir, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { spawn } from 'node:child_process';
import test, { type ExecutionContext } from 'ava';
import {
  convertCheckpoint,
  LtrpError,
  type LtrpErrorCode,
  MaskedAutoencoder,
  PatchRanker,
  rankFiles,
  readImages,
  selectPatches,
} from '../lib/index.js';
import { download } from '../lib/native/download.js';
import { loadFailure } from '../lib/native/load-failure.js';
import { installLibtorch } from '../lib/native/libtorch-install.js';
import { releaseFor, type LibtorchRelease } from '../lib/native/libtorch-releases.js';
import { decideLibtorch } from '../lib/native/libtorch.js';
import { loadBootstrap, loadCore } from '../lib/native/loader.js';
import { readDocument } from './support/documents.js';
import { repository, temporaryFolder } from './support/paths.js';
import { picture } from './support/pictures.js';
import { packageWithoutSharpsBinary } from './support/without-sharp.js';

const page = 'docs/troubleshooting.md';
const models = join(repository, 'models');
const binaries = join(repository, 'build', 'Release');

interface Place {
  /** An empty folder, which the page calls /home/you. */
  folder: string;
  t: ExecutionContext;
}

/** Provokes an error; returns its code and its message, or null where this machine cannot (and says so). */
type Provoke = (place: Place) => unknown;

/** What the command says on standard error, without its name in front. */
async function command(
  { folder }: Place,
  args: readonly string[],
  env: Record<string, string> = {},
  main = join(repository, 'dist', 'cli', 'main.js'),
): Promise<never> {
  const child = spawn(process.execPath, [main, ...args], {
    cwd: folder,
    env: { ...process.env, LTRP_BINARIES: '', ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let text = '';
  child.stderr.on('data', (chunk: Buffer) => (text += chunk.toString()));
  await new Promise((resolve) => child.once('close', resolve));
  const match = /^(?:ltrp: )([^]*) \[(ERR_LTRP_\w+)\]$/m.exec(text.trim());
  throw new LtrpError((match?.[2] ?? 'none') as LtrpErrorCode, match?.[1] ?? text);
}

const pretrain = async (place: Place, ...more: string[]): Promise<unknown> => {
  const options = '--out run --steps 1 --batch-size 1 --depth 1 --dim 48 --heads 1'.split(' ');
  return command(place, ['pretrain', '--data', 'photos', ...options, ...more]).catch(
    (error: unknown) => error,
  );
};

const photos = async ({ folder }: Place): Promise<void> => {
  await mkdir(join(folder, 'photos'));
  await picture(64, 64)
    .png()
    .toFile(join(folder, 'photos', 'a.png'));
};

const png = async ({ folder }: Place, width: number, height: number): Promise<string> => {
  const file = join(folder, 'photo.png');
  await picture(width, height).png().toFile(file);
  return file;
};

/** Begun and finished, in `run`. */
const run = async (place: Place): Promise<void> => {
  await photos(place);
  await pretrain(place);
};

const junk = async ({ folder }: Place, name: string): Promise<string> => {
  const file = join(folder, name);
  await writeFile(file, 'not what its name says');
  return file;
};

/** An environment in which nothing is found. */
const bare = ({ folder }: Place): Record<string, string> => ({
  HOME: folder,
  XDG_CACHE_HOME: '',
  XDG_CONFIG_HOME: '',
  LIBTORCH: '',
  LIBTORCH_LIB: '',
  VIRTUAL_ENV: '',
  CONDA_PREFIX: '',
  PATH: folder,
});

const provocations: Record<string, Provoke[]> = {
  ERR_LTRP_LIBTORCH_NOT_FOUND: [(place) => command(place, ['libtorch', 'where'], bare(place))],
  ERR_LTRP_LIBTORCH_INVALID: [
    (place) => command(place, ['libtorch', 'where'], { LIBTORCH: join(place.folder, 'libtorch') }),
  ],
  ERR_LTRP_LIBTORCH_UNSUPPORTED: [
    async () => {
      throw (await decideLibtorch({ musl: true, accept: [] })).error as LtrpError;
    },
  ],
  ERR_LTRP_LIBTORCH_CONFLICT: [
    async ({ folder }) => {
      await loadCore();
      return PatchRanker.load('tiny', { libtorch: join(folder, 'libtorch') });
    },
  ],
  ERR_LTRP_LIBTORCH_ARCHIVE: [
    async (place) =>
      command(
        place,
        ['libtorch', 'install', '--from', await junk(place, 'libtorch.zip')],
        bare(place),
      ),
  ],
  ERR_LTRP_LIBTORCH_CHECKSUM: [
    async (place) => {
      const from = await junk(place, 'libtorch.zip');
      const release = releaseFor(process.platform, process.arch) as LibtorchRelease;
      const pinned = { ...release, wheelSha256: { 'libtorch.zip': '0'.repeat(64) } };
      return installLibtorch({ env: bare(place), release: pinned, from });
    },
  ],
  ERR_LTRP_LIBTORCH_LOAD: [
    ({ folder }) => loadBootstrap().preload([join(folder, 'libtorch', 'lib', 'libc10.so')]),
  ],
  ERR_LTRP_DOWNLOAD: [
    async ({ folder, t }) => {
      const server = createServer((_request, response) => response.writeHead(404).end());
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      t.teardown(() => server.close());
      const { port } = server.address() as AddressInfo;
      return download(`http://127.0.0.1:${port}/libtorch.zip`, join(folder, 'libtorch.zip'));
    },
  ],
  ERR_LTRP_NOT_BUILT: [
    async (place) => {
      const root = join(place.folder, 'node_modules', 'ltrp');
      await mkdir(root, { recursive: true });
      await cp(join(repository, 'dist'), join(root, 'dist'), { recursive: true });
      await cp(join(repository, 'package.json'), join(root, 'package.json'));
      await symlink(join(repository, 'node_modules'), join(root, 'node_modules'));
      await symlink(models, join(root, 'models'));
      return command(place, ['rank', 'photo.jpg'], {}, join(root, 'dist', 'cli', 'main.js'));
    },
  ],
  ERR_LTRP_CORE_LOAD: [
    async (place) => {
      await junk(place, 'ltrp.node');
      return command(place, ['rank', 'photo.jpg'], { LTRP_BINARIES: place.folder });
    },
  ],
  // What the dynamic loader of an older system says; test/system-too-old.test.ts makes one say it.
  ERR_LTRP_SYSTEM_TOO_OLD: [
    ({ folder }) => {
      const core = join(folder, 'libltrp_core-2.13-cpu.so');
      const library = '/lib/x86_64-linux-gnu/libstdc++.so.6';
      throw loadFailure(
        core,
        '',
        new Error(`${library}: version \`GLIBCXX_3.4.22' not found (required by ${core})`),
      );
    },
  ],
  ERR_LTRP_SHARP_LOAD: [
    async (place) => {
      const root = await packageWithoutSharpsBinary(place.folder);
      const env = { LTRP_BINARIES: binaries };
      return command(
        place,
        ['rank', await png(place, 64, 64)],
        env,
        join(root, 'dist/cli/main.js'),
      );
    },
  ],
  ERR_LTRP_UNSUPPORTED: [
    async ({ t }) => {
      const ranker = await PatchRanker.load('tiny', { device: 'cuda' });
      ranker.dispose();
      t.log('skipped: this machine has a GPU, so that of a machine without is not compared');
      return null;
    },
  ],
  ERR_LTRP_IMAGE_NOT_FOUND: [() => readImages(['photo.jpg'], { size: 224 })],
  ERR_LTRP_IMAGE_DECODE: [
    async (place) => {
      const bytes = await readFile(await junk(place, 'photo.jpg'));
      for await (const result of rankFiles([{ picture: bytes, name: 'photo.jpg' }])) {
        if (!result.ok) throw result.error;
      }
    },
    ({ folder }) => readImages([join(folder)], { size: 224 }),
  ],
  ERR_LTRP_IMAGE_SIZE: [
    async (place) => readImages([await png(place, 8, 8)], { size: 224 }),
    async (place) => readImages([await png(place, 300, 200)], { size: 224, fit: 'none' }),
  ],
  ERR_LTRP_FILE_NOT_FOUND: [({ folder }) => PatchRanker.load(join(folder, 'ranker.pth'))],
  ERR_LTRP_FILE_EXISTS: [
    async (place) =>
      convertCheckpoint(join(models, 'tiny-ranker.safetensors'), await junk(place, 'ranker.onnx'), {
        kind: 'ranker',
      }),
  ],
  ERR_LTRP_FILE_READ: [() => PatchRanker.load('/dev/null')],
  ERR_LTRP_FILE_WRITE: [
    async (place) => {
      await junk(place, 'notes.txt');
      await photos(place);
      return command(place, ['rank', 'photos/a.png', '--out', 'notes.txt/ranked']);
    },
  ],
  ERR_LTRP_CHECKPOINT_FORMAT: [
    async (place) => PatchRanker.load(await junk(place, 'ranker.safetensors')),
  ],
  ERR_LTRP_CHECKPOINT_CONTENT: [
    () => MaskedAutoencoder.load(join(models, 'tiny-ranker.safetensors')),
  ],
  ERR_LTRP_INVALID_ARGUMENT: [
    async () => {
      const images = await readImages([await picture(64, 64).png().toBuffer()], {
        size: 64,
        fit: 'none',
      });
      return selectPatches(images, new Float32Array(15), { keepRatio: 0.5 });
    },
    () => rankFiles('photo.jpg' as never),
  ],
  ERR_LTRP_DISPOSED: [
    async () => {
      const ranker = await PatchRanker.load('tiny');
      const images = await readImages([await picture(224, 224).png().toBuffer()], { size: 224 });
      ranker.dispose();
      return ranker.rank(images);
    },
  ],
  ERR_LTRP_OUT_OF_MEMORY: [
    () => readImages(Array<string>(100_000).fill('photo.jpg'), { size: 16384 }),
  ],
  ERR_LTRP_CANCELLED: [
    async () => {
      const core = await loadCore();
      const job = new core.Job();
      job.cancel();
      return core.normalizeImages(job, new Uint8Array(3), [1, 1, 1], [0, 0, 0], [1, 1, 1]);
    },
  ],
  ERR_LTRP_DATA_EMPTY: [
    async (place) => {
      await mkdir(join(place.folder, 'photos'));
      throw await pretrain(place);
    },
  ],
  ERR_LTRP_DATA_UNREADABLE: [
    async (place) => {
      await photos(place);
      await junk(place, 'photos/b.png');
      throw await pretrain(place, '--batch-size', '2');
    },
  ],
  ERR_LTRP_RUN_EXISTS: [
    async (place) => {
      await run(place);
      throw await pretrain(place);
    },
  ],
  ERR_LTRP_RUN_CONFLICT: [
    async (place) => {
      await run(place);
      throw await pretrain(place, '--resume', '--seed', '7');
    },
  ],
  ERR_LTRP_RUN_DAMAGED: [
    async (place) => {
      await run(place);
      await writeFile(join(place.folder, 'run', 'run.json'), '{}');
      throw await pretrain(place, '--resume');
    },
  ],
};

/** Their text is whatever went wrong. */
const withoutMessage = ['ERR_LTRP_INTERNAL'];

/** A message as the page shows it: with the places of a reader instead of this machine's. */
function shown(message: string, folder: string): string {
  return message
    .replaceAll(folder, '/home/you')
    .replaceAll(repository.replace(/\/$/, ''), '/home/you/node_modules/ltrp')
    .replaceAll(homedir(), '/home/you')
    .replaceAll(/http:\/\/127\.0\.0\.1:\d+/g, 'https://example.com')
    .trim();
}

interface Section {
  code: string;
  messages: string[];
}

function sections(markdown: string): Section[] {
  return markdown
    .split(/^### /m)
    .slice(1)
    .map((text) => ({
      code: /^\w+/.exec(text)?.[0] ?? '',
      messages: [...text.matchAll(/^```text\n([\s\S]*?)\n```$/gm)].map(
        ([, message = '']) => message,
      ),
    }));
}

/** Codes in string literals of the TypeScript and C++ sources. */
async function knownCodes(): Promise<string[]> {
  const union = join('lib', 'errors.ts');
  const codes = new Set<string>();
  for (const folder of ['lib', 'native/core', 'native/binding', 'native/bootstrap']) {
    for (const name of await readdir(join(repository, folder), { recursive: true })) {
      if (!/\.(ts|cpp|h)$/.test(name)) continue;
      // Not those of the union itself: only what is thrown counts. Its own ERR_LTRP_INTERNAL is thrown by the core too.
      if (join(folder, name) === union) continue;
      const text = await readFile(join(repository, folder, name), 'utf8');
      for (const [, code] of text.matchAll(/['"](ERR_LTRP_[A-Z_]*[A-Z])['"]/g)) codes.add(code!);
    }
  }
  return [...codes].sort();
}

test('the type of codes, the page and the sources have the same codes', async (t) => {
  const text = await readFile(join(repository, 'lib', 'errors.ts'), 'utf8');
  const union = /export type LtrpErrorCode =([^;]*);/.exec(text)?.[1] ?? '';
  const codes = [...union.matchAll(/'(\w+)'/g)].map(([, code]) => code as string);
  t.deepEqual(codes.toSorted(), await knownCodes());
  const found = sections(await readDocument(page)).map(({ code }) => code);
  t.deepEqual(codes.toSorted(), found.toSorted());
});

test('every code of the sources has a section', async (t) => {
  const codes = await knownCodes();
  t.true(codes.length > 20);
  const found = sections(await readDocument(page)).map(({ code }) => code);
  t.deepEqual(
    codes.filter((code) => !found.includes(code)),
    [],
  );
  t.is(new Set(found).size, found.length);
  for (const code of codes) {
    t.true(code in provocations || withoutMessage.includes(code), `${code} is provoked below`);
  }
});

for (const [code, list] of Object.entries(provocations)) {
  test.serial(`${code}: the page quotes what is said`, async (t) => {
    const messages = sections(await readDocument(page)).find((section) => section.code === code);
    t.is(messages?.messages.length, list.length, `${code}: one block of text for each provocation`);
    for (const [index, provoke] of list.entries()) {
      const folder = await temporaryFolder(t);
      const error = await t.throwsAsync<LtrpError>(async () => {
        if ((await provoke({ folder, t })) === null)
          throw new LtrpError('skipped' as LtrpErrorCode, '');
      });
      if ((error.code as string) === 'skipped') continue;
      t.is(error.code, code as LtrpErrorCode, error.message);
      const message = shown(error.message, folder);
      const quoted = messages?.messages[index] ?? '';
      if (process.env['LTRP_UPDATE_DOCS'] === '1') {
        const text = await readDocument(page);
        const start = text.indexOf('\n', text.indexOf(`### ${code}\n`));
        const end = text.indexOf('\n### ', start);
        let at = -1;
        const section = text
          .slice(start, end < 0 ? undefined : end)
          .replace(/^```text\n[\s\S]*?\n```$/gm, (block) =>
            ++at === index ? `\`\`\`text\n${message}\n\`\`\`` : block,
          );
        const rest = end < 0 ? '' : text.slice(end);
        await writeFile(join(repository, page), text.slice(0, start) + section + rest);
      } else {
        t.is(quoted, message);
      }
    }
  });
}
