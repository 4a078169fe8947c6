/** `ltrp squeeze`: a picture with its lower-ranked patches smoothed away before it is encoded. */
import { rm, writeFile } from 'node:fs/promises';
import { extname } from 'node:path';
import { InvalidArgumentError, type Command } from 'commander';
import { unsupported } from '../errors.js';
import { giveName, outputTarget, refuseExisting, writeError } from '../output-files.js';
import { squeezePicture, type SqueezeOptions } from '../squeeze.js';
import { shortPath } from './image-arguments.js';
import { interruptSignal } from './interrupt.js';
import { squeezeFills, type SqueezeFormat } from '../types.js';
import { option, parseInteger, parseName, parseShare } from './options.js';

interface SqueezeSettings {
  out: string;
  keep?: number;
  fill?: NonNullable<SqueezeOptions['fill']>;
  quality?: number;
  ranker?: string;
  patches?: number;
  force?: true;
  json?: true;
}

const formats: Readonly<Record<string, SqueezeFormat>> = {
  '.jpg': 'jpeg',
  '.jpeg': 'jpeg',
  '.webp': 'webp',
  '.avif': 'avif',
};

const formatOf = (path: string): SqueezeFormat | undefined => formats[extname(path).toLowerCase()];

export function register(program: Command): void {
  program
    .command('squeeze')
    .summary('store a picture in fewer bytes, its lower-ranked patches smoothed')
    .description(
      `Encodes a picture as JPEG, WebP or AVIF with its lower-ranked patches smoothed, so that they take fewer bytes. Any program can \
show the file. It is never larger than the source. docs/squeeze.md compares it with a lower quality.`,
    )
    .argument('<picture>', 'the picture')
    .requiredOption('--out <file>', 'the file to write: .jpg, .webp or .avif', (value: string) => {
      if (formatOf(value) === undefined)
        throw new InvalidArgumentError('It must end in .jpg, .jpeg, .webp or .avif.');
      return value;
    })
    .option(
      '--keep <share>',
      'share of the patches left unchanged (default: 0.5)',
      parseShare('(0, 1]'),
    )
    .addOption(
      option('--fill <kind>', 'what replaces the others (default: flat)').choices(squeezeFills),
    )
    .option('--quality <1 to 100>', 'quality of the encoder (default: 75)', parseInteger(1, 100))
    .option('--ranker <model>', 'an embedded ranker or a path (default: tiny)', parseName)
    .option(
      '--patches <count>',
      'rank about this many patches (default: as many as the ranker was made for)',
      parseInteger(2, 65536),
    )
    .option('--force', 'replace an existing file')
    .option('--json', 'print the outcome as JSON on standard output')
    .addHelpText(
      'after',
      `
If the result would not be smaller, the source is copied as it is; in another
format, nothing is written and that is an error.

Examples:
  ltrp squeeze photo.jpg --out small.jpg
  ltrp squeeze photo.jpg --out small.avif --keep 30% --quality 50

Exit codes:
  0  written
  1  the picture cannot be read or is not made smaller, or the file not written
  2  the command line is wrong
  130, 143  interrupted with Ctrl-C, ended by SIGTERM; nothing is written`,
    )
    .action(async (picture: string, settings: SqueezeSettings) => {
      await squeeze(picture, settings);
    });
}

async function squeeze(picture: string, settings: SqueezeSettings): Promise<void> {
  const { out, keep: keepRatio, fill, quality, ranker, patches, force, json } = settings;
  const format = formatOf(out);
  const path = outputTarget(out);
  if (force !== true) refuseExisting(path);
  const signal = interruptSignal();
  const options = { keepRatio, fill, quality, ranker, patches, format, signal };
  const { bytes, ...result } = await squeezePicture(picture, options);
  if (result.format !== format) {
    throw unsupported(
      `${picture} would not be smaller as ${out}: it has ${result.sourceBytes} bytes. Lower quality or keepRatio; nothing was written.`,
    );
  }
  await write(path, bytes, force === true);
  const { squeezed, sourceBytes } = result;
  process.stdout.write(
    json === true
      ? `${JSON.stringify({ image: picture, file: path, bytes: bytes.length, ...result })}\n`
      : `${shortPath(path)}: ${bytes.length} bytes of ${sourceBytes}${squeezed ? '' : '; the source as it is, because it would not be smaller'}\n`,
  );
}

async function write(path: string, bytes: Uint8Array, overwrite: boolean): Promise<void> {
  const partial = `${path}.${process.pid}.partial`;
  try {
    await writeFile(partial, bytes, { flag: 'wx' });
    await giveName(partial, path, overwrite);
  } catch (cause) {
    await rm(partial, { force: true });
    throw writeError(path, cause);
  }
}
