/**
 * docs/troubleshooting.md quotes error messages: here every one of them is provoked and compared, and every code that the
 * sources know has its section. `LTRP_UPDATE_DOCS=1` writes the messages into the page instead.
 */
import { cp, mkdir, readFile, readdir, rename, symlink, writeFile } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import { homedir } from 'node:os';
import { join } from 'node:path';
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
import { download } from '../lib/download/download.js';
import { loadFailure } from '../lib/native/load-failure.js';
import { installLibtorch } from '../lib/libtorch/install.js';
import { releaseFor, type LibtorchRelease } from '../lib/libtorch/releases.js';
import { decideLibtorch } from '../lib/libtorch/find.js';
import { loadBootstrap, loadCore, loadedCore } from '../lib/native/loader.js';
import { built, run as runProgram } from './support/command.js';
import { listen } from './support/listen.js';
import { readDocument } from './support/documents.js';
import { repository, temporaryFolder } from './support/paths.js';
import { heicOf, smallWebp, tiff } from './support/picture-files.js';
import { picture } from './support/pictures.js';
import { packageWithoutSharpsBinary } from './support/without-sharp.js';
import { writeTensors } from './support/weights.js';

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
  main = built,
): Promise<never> {
  const { stderr: text } = await runProgram(process.execPath, [main, ...args], {
    cwd: folder,
    env: { ...process.env, LTRP_BINARIES: '', ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  // The last message: launch says first who ended.
  const match = /^ltrp: ((?:(?!\nltrp: )[^])*) \[(ERR_LTRP_\w+)\]$/m.exec(text.trim());
  throw new LtrpError((match?.[2] ?? 'none') as LtrpErrorCode, match?.[1] ?? text);
}

const pretrain = async (place: Place, ...more: string[]): Promise<unknown> => {
  const usual = ['--out run', '--steps 1', '--batch-size 1', '--depth 1', '--dim 48', '--heads 1'];
  const options = usual
    .map((each) => each.split(' '))
    .filter(([name = '']) => !more.includes(name));
  return command(place, ['pretrain', '--data', 'photos', ...options.flat(), ...more]).catch(
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

async function downloadFrom(
  { folder, t }: Place,
  answer: (response: ServerResponse) => void,
): Promise<void> {
  const server = createServer((_request, response) => {
    answer(response);
  });
  return download(`${await listen(t, server)}/libtorch.zip`, join(folder, 'libtorch.zip'));
}

/** Decodes the bytes as a picture of a stream that is called photo.jpg. */
async function decoded(picture: Uint8Array): Promise<void> {
  for await (const result of rankFiles([{ picture, name: 'photo.jpg' }])) {
    if (!result.ok) throw result.error;
  }
}

const photo = async (): Promise<Buffer> => picture(200, 150).jpeg().toBuffer();

const greyTiff = { width: 32, height: 32, channels: 1, bits: 8, format: 1 } as const;

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
    async (place) => command(place, ['libtorch', 'install', '--from', 'archive'], bare(place)),
  ],
  ERR_LTRP_LIBTORCH_LOAD: [
    ({ folder }) => loadBootstrap().preload([join(folder, 'libtorch', 'lib', 'libc10.so')]),
  ],
  ERR_LTRP_DOWNLOAD: [
    (place) => downloadFrom(place, (response) => response.writeHead(404).end()),
    (place) =>
      downloadFrom(place, (response) =>
        response
          .writeHead(200, { 'content-type': 'text/html' })
          .end('<!DOCTYPE html><html><title>Welcome to our network</title>'),
      ),
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
    (place) => command(place, ['rank', 'photo.jpg'], { LTRP_BINARIES: join(place.folder, 'b') }),
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
  ERR_LTRP_IMAGE_NOT_FOUND: [
    () => readImages(['photo.jpg'], { size: 224 }),
    async (place) => {
      await photos(place);
      await writeFile(join(place.folder, 'list.txt'), 'photos/a.png\nphotos/b.png\n');
      return command(place, ['rank', 'list.txt', '--grid', '2x2']);
    },
    async (place) => {
      await photos(place);
      await symlink('moved.png', join(place.folder, 'photos', 'b.png'));
      return command(place, ['rank', 'photos', '--grid', '2x2']);
    },
    async (place) => {
      await junk(place, 'photo.jpg');
      const name = Buffer.from(`${place.folder}/caf\xe9.jpg`, 'latin1');
      await rename(join(place.folder, 'photo.jpg'), name);
      return command(place, ['rank', '.', '--json']);
    },
  ],
  ERR_LTRP_IMAGE_DECODE: [
    async (place) => decoded(await readFile(await junk(place, 'photo.jpg'))),
    () => decoded(Buffer.from('<!DOCTYPE html><title>Not found</title>')),
    () => decoded(Buffer.from('version https://git-lfs.github.com/spec/v1')),
    () => decoded(heicOf(320, 208)),
    () => decoded(Buffer.from('8BPS')),
    () => decoded(tiff(greyTiff, new Uint8Array(1024), [[50706, 4, [1]]])),
    async () => decoded((await photo()).subarray(0, 1000)),
    async () => decoded(Buffer.concat([(await photo()).subarray(0, 100), Buffer.alloc(2000)])),
    () => decoded(tiff({ ...greyTiff, bits: 32, format: 3 }, new Uint8Array(4096))),
    () => decoded(new Uint8Array(0)),
    ({ folder }) => readImages([join(folder)], { size: 224 }),
    () => readImages(['/dev/null'], { size: 224 }),
  ],
  ERR_LTRP_IMAGE_SIZE: [
    async (place) => readImages([await png(place, 8, 8)], { size: 224 }),
    async (place) => readImages([await png(place, 300, 200)], { size: 224, fit: 'none' }),
  ],
  ERR_LTRP_FILE_NOT_FOUND: [
    ({ folder }) => PatchRanker.load(join(folder, 'ranker.pth')),
    async (place) => {
      await writeFile(join(place.folder, 'notes.txt'), 'Taken in June.\nAt the lake.\n');
      return command(place, ['rank', 'notes.txt']);
    },
    () => MaskedAutoencoder.load('facebook/vit-mae-base'),
  ],
  ERR_LTRP_FILE_EXISTS: [
    async (place) =>
      convertCheckpoint(join(models, 'tiny-ranker.safetensors'), await junk(place, 'ranker.onnx'), {
        kind: 'ranker',
      }),
    async (place) => {
      await photos(place);
      await mkdir(join(place.folder, 'site'));
      await writeFile(join(place.folder, 'site', 'index.html'), '<html></html>');
      return command(place, ['rank', 'photos', '--out', 'site']);
    },
  ],
  ERR_LTRP_FILE_READ: [() => PatchRanker.load('/dev/null')],
  ERR_LTRP_FILE_WRITE: [
    async (place) => {
      await junk(place, 'notes.txt');
      await photos(place);
      return command(place, ['rank', 'photos/a.png', '--out', 'notes.txt/ranked']);
    },
    async (place) => {
      await photos(place);
      return command(place, ['rank', 'photos', '--out', 'photos/a.png']);
    },
    async (place) => {
      await photos(place);
      await mkdir(join(place.folder, 'ranked', 'rank.jsonl'), { recursive: true });
      return command(place, ['rank', 'photos', '--out', 'ranked']);
    },
  ],
  ERR_LTRP_CHECKPOINT_FORMAT: [
    async (place) => PatchRanker.load(await junk(place, 'ranker.safetensors')),
    async ({ folder }) => {
      const pointer = join(folder, 'mae.pth');
      await writeFile(
        pointer,
        'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n',
      );
      return MaskedAutoencoder.load(pointer);
    },
  ],
  ERR_LTRP_CHECKPOINT_CONTENT: [
    () => MaskedAutoencoder.load(join(models, 'tiny-ranker.safetensors')),
    async ({ folder }) => {
      const path = join(folder, 'language.safetensors');
      await writeTensors(path, { 'lm_head.weight': { data: new Float32Array(2), shape: [2] } });
      return MaskedAutoencoder.load(path);
    },
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
    async (place) =>
      command(place, ['rank', await png(place, 64, 64)], { LTRP_CPU_LEVEL: 'fastest' }),
    async (place) => {
      await photos(place);
      throw await pretrain(place, '--data', 'photos@50');
    },
  ],
  ERR_LTRP_NOT_FINITE: [
    async () => {
      const ranker = await PatchRanker.load('tiny');
      const data = new Float32Array(3 * 224 * 224).fill(3e38);
      return ranker.rank({ data, shape: [1, 3, 224, 224] }).finally(() => {
        ranker.dispose();
      });
    },
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
    () => decoded(smallWebp(16383)),
    () => readImages(Array<string>(100_000).fill('photo.jpg'), { size: 16384 }),
  ],
  ERR_LTRP_CANCELLED: [
    async () => {
      const core = await loadCore();
      const job = new core.Job();
      job.cancel();
      return core.normalizeImages(
        job,
        { data: new Uint8Array(3), shape: [1, 1, 1, 3] },
        { mean: [0, 0, 0], std: [1, 1, 1] },
      );
    },
  ],
  ERR_LTRP_DATA_EMPTY: [
    async (place) => {
      await mkdir(join(place.folder, 'photos'));
      throw await pretrain(place);
    },
    async (place) => {
      await mkdir(join(place.folder, 'photos'));
      for (const name of ['a.bmp', 'b.BMP', 'c.psd', 'notes.md', 'd.bmp'])
        await junk(place, join('photos', name));
      return command(place, ['rank', 'photos']);
    },
    (place) => command(place, ['rank', 'photos/*.png']),
    async (place) => {
      await writeFile(join(place.folder, 'list.txt'), '# nothing yet\n');
      return command(place, ['rank', 'list.txt']);
    },
  ],
  ERR_LTRP_DATA_UNREADABLE: [
    async (place) => {
      await photos(place);
      await junk(place, 'photos/b.png');
      throw await pretrain(place, '--batch-size', '2', '--max-unreadable', '0');
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
  ERR_LTRP_DIVERGED: [
    async (place) => {
      await photos(place);
      const wild = '--steps 20 --warmup 0 --learning-rate 1e6 --image-size 32'.split(' ');
      throw await pretrain(place, ...wild);
    },
  ],
  ERR_LTRP_RENDEZVOUS: [
    (place) =>
      command(place, 'pretrain --data photos --out run --join-timeout 0.1'.split(' '), {
        ...{ RANK: '1', WORLD_SIZE: '2', MASTER_ADDR: '127.0.0.1', MASTER_PORT: '1' },
      }),
  ],
  ERR_LTRP_RANK_LOST: [
    (place) => {
      const script = `[ "$RANK" = 0 ] || exit 3; exec "${process.execPath}" "${built}" pretrain --data photos --out run`;
      return command(place, ['launch', '-n', '2', 'sh', '-c', script]);
    },
  ],
};

/** Their text is whatever went wrong. */
const withoutMessage = ['ERR_LTRP_INTERNAL'];

/** A message as the page shows it: with the places of a reader instead of this machine's. */
function shown(message: string, folder: string): string {
  // Whichever LibTorch the tests run with, the page shows the one that ltrp fetches.
  const root = loadedCore()?.libtorch.root ?? '';
  const fetched = join(homedir(), '.cache', 'ltrp', 'libtorch', '2.13.0-cpu');
  return (root === '' ? message : message.replaceAll(root, fetched))
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
      messages: [...text.matchAll(/^```text\n([\s\S]*?)\n```$/gm)].flatMap(([, block = '']) =>
        block.split('\n\n'),
      ),
    }));
}

/** Codes in string literals of the TypeScript and C++ sources. */
async function knownCodes(): Promise<string[]> {
  // Only what is thrown counts.
  const union = /export type LtrpErrorCode =[^;]*;/;
  const codes = new Set<string>();
  for (const folder of ['lib', 'native/core', 'native/binding', 'native/bootstrap']) {
    for (const name of await readdir(join(repository, folder), { recursive: true })) {
      if (!/\.(ts|cpp|h)$/.test(name)) continue;
      const text = await readFile(join(repository, folder, name), 'utf8');
      for (const [, code] of text.replace(union, '').matchAll(/['"](ERR_LTRP_[A-Z_]*[A-Z])['"]/g))
        codes.add(code!);
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
    t.is(messages?.messages.length, list.length, `${code}: one paragraph for each provocation`);
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
          .replace(/(?<=^```text\n)[\s\S]*?(?=\n```$)/gm, (block) =>
            block
              .split('\n\n')
              .map((old) => (++at === index ? message : old))
              .join('\n\n'),
          );
        const rest = end < 0 ? '' : text.slice(end);
        await writeFile(join(repository, page), text.slice(0, start) + section + rest);
      } else {
        t.is(quoted, message);
      }
    }
  });
}
