/** `ltrp serve`: the models over HTTP. */
import type { Command } from 'commander';
import { MaskedAutoencoder } from '../masked-autoencoder.js';
import { PatchRanker } from '../patch-ranker.js';
import type { Limits } from '../serve/limits.js';
import { installCommand } from '../serve/packages.js';
import type { ServiceOptions } from '../serve/service.js';
import { RankingQueue } from '../stream/ranking-queue.js';
import type { LoadOptions, Precision } from '../types.js';
import { precisions } from '../types.js';
import { invalid } from '../validation.js';
import { VisionTransformer } from '../vision-transformer.js';
import { exitCodes } from './exit-codes.js';
import { complain } from './image-command.js';
import { interruptSignal } from './interrupt.js';
import { withNotes } from './notes.js';
import {
  addOptions,
  option,
  deviceOption,
  libtorchOption,
  parseInteger,
  parseName,
} from './options.js';
import { loadOptions } from './results.js';

interface ServeSettings {
  host: string;
  port: number;
  ranker: string;
  teacher: string;
  classifier?: string;
  device: NonNullable<LoadOptions['device']>;
  precision: Precision;
  libtorch?: string;
  maxMegabytes: number;
  maxMegapixels: number;
  maxSeconds: number;
  maxPictures: number;
  maxWait: number;
  batchSize: number;
  stopSeconds: number;
  allowUrls?: string[];
  logLevel: ServiceOptions['logLevel'];
}

export function register(program: Command): void {
  const command = program
    .command('serve')
    .summary('answer over HTTP: rank, select, crop, score, classify')
    .description(
      `Loads the models once and answers over HTTP. POST a picture to /rank, /select, /crop, /score or /classify: its bytes, a form \
with a file, or JSON. /docs is a page to try it. Pictures that arrive together are computed together. It needs packages that \
ltrp does not install: ${installCommand}`,
    );
  addOptions(command, [
    option('--host <address>', 'address to listen on; 0.0.0.0 for all')
      .argParser(parseName)
      .default('127.0.0.1'),
    option('--port <number>', 'port; 0 for any free one')
      .argParser(parseInteger(0, 65535))
      .default(8080),
    option('--ranker <model>', "'tiny' (embedded), or a file or folder")
      .argParser(parseName)
      .default('tiny'),
    option('--teacher <model>', "for /score: 'tiny', a file or folder, or 'none'")
      .argParser(parseName)
      .default('tiny'),
    option('--classifier <model>', 'for /classify: a file or folder (default: none)').argParser(
      parseName,
    ),
    option('--precision <type>', 'precision of matrix products')
      .choices(precisions)
      .default('float32'),
    deviceOption(),
    libtorchOption(),
    option('--max-megabytes <count>', 'maximum size of a picture file')
      .argParser(parseInteger(1, 1024))
      .default(20),
    option('--max-megapixels <count>', 'maximum pixels of a picture')
      .argParser(parseInteger(1, 268))
      .default(50),
    option('--max-seconds <count>', 'maximum time from a request to its answer')
      .argParser(parseInteger(1, 3600))
      .default(30),
    option('--max-pictures <count>', 'maximum pictures at a time; more are refused with 429')
      .argParser(parseInteger(1, 65536))
      .default(64),
    option('--max-wait <milliseconds>', 'maximum time that a picture waits for others of its batch')
      .argParser(parseInteger(0, 10_000))
      .default(10),
    option('--batch-size <count>', 'maximum pictures computed together')
      .argParser(parseInteger(1, 1024))
      .default(RankingQueue.fullBatch),
    option('--stop-seconds <count>', 'time to answer accepted requests after SIGTERM')
      .argParser(parseInteger(1, 3600))
      .default(25),
    option(
      '--allow-urls <origins...>',
      'origins from which requests may have pictures fetched by URL (default: none)',
    ),
    option('--log-level <level>', 'level of the JSON lines on standard output')
      .choices(['trace', 'debug', 'info', 'warn', 'error', 'silent'])
      .default('info'),
  ]);
  command
    .addHelpText(
      'after',
      `
Examples:
  ltrp serve                                      then open http://127.0.0.1:8080/docs
  curl --data-binary @photo.jpg 'http://127.0.0.1:8080/select?keepRatio=0.25'
  ltrp serve --host 0.0.0.0 --teacher none        in a container

SIGTERM and Ctrl-C end it: new requests are refused, accepted ones are answered. See docs/serve.md.

Exit codes:
  0  stopped, every accepted request was answered
  1  it could not start, or requests took longer than --stop-seconds
  2  the command line is wrong`,
    )
    .action(async (settings: ServeSettings) => {
      process.exitCode = await serve(settings);
    });
}

async function serve(settings: ServeSettings): Promise<number> {
  const { ranker, teacher, classifier, logLevel, allowUrls, host, port } = settings;
  const signal = interruptSignal();
  const [{ fetcherOf }, { Service }] = await Promise.all([
    import('../serve/fetch-picture.js'),
    import('../serve/service.js'),
  ]);
  const limits = limitsOf(settings);
  const fetchPicture = allowUrls === undefined ? undefined : fetcherOf(allowUrls, limits.bytes);
  const options = loadOptions(settings);
  const models = {
    ranker: await withNotes(PatchRanker.load(ranker, options)),
    teacher:
      teacher === 'none' ? undefined : await withNotes(MaskedAutoencoder.load(teacher, options)),
    classifier:
      classifier === undefined
        ? undefined
        : await withNotes(VisionTransformer.load(classifier, options)),
  };
  const service = await Service.create({ models, limits, logLevel, fetchPicture });
  const stopped = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve());
  });
  const url = await service.listen(host, port).catch((error: unknown) => {
    throw listenError(error, settings);
  });
  complain(`serving on ${url}; ${url}/docs is a page to try it`);
  await stopped;
  const lost = await service.stop();
  for (const each of Object.values(models)) each?.dispose();
  if (lost === 0) return exitCodes.ok;
  complain(`${lost} requests were not answered within --stop-seconds ${settings.stopSeconds}.`);
  return exitCodes.failed;
}

/** The port is taken, or not for this user; the address is not this machine's. */
function listenError(error: unknown, { host, port }: ServeSettings): unknown {
  const { code } = error as NodeJS.ErrnoException;
  const why = {
    EADDRINUSE: `--port ${port} is in use`,
    EACCES: `--port ${port} is not for this user`,
    EADDRNOTAVAIL: `--host ${host} is no address of this machine`,
    ENOTFOUND: `--host ${host} is not known`,
  }[code ?? ''];
  return why === undefined ? error : invalid(`${why}.`, error);
}

function limitsOf(settings: ServeSettings): Limits {
  return {
    bytes: settings.maxMegabytes * 2 ** 20,
    pixels: settings.maxMegapixels * 1e6,
    seconds: settings.maxSeconds,
    pictures: settings.maxPictures,
    maxWait: settings.maxWait,
    batchSize: settings.batchSize,
    stopSeconds: settings.stopSeconds,
  };
}
