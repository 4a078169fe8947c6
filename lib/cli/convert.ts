/** `ltrp convert`: any checkpoint into this project's safetensors layout. */
import { stat } from 'node:fs/promises';
import { Option, type Command } from 'commander';
import { convertCheckpoint } from '../convert.js';
import { shortPath } from './image-arguments.js';
import { interruptSignal } from './interrupt.js';
import { libtorchOption } from './options.js';

interface ConvertSettings {
  kind: 'mae' | 'ranker';
  type: 'float32' | 'float16' | 'bfloat16';
  json?: true;
  libtorch?: string;
}

export function register(program: Command): void {
  program
    .command('convert')
    .summary('convert a checkpoint to safetensors with a header that says what it is')
    .description(
      `Converts a checkpoint to safetensors with a header that says architecture, eps and normalisation.

Read are .safetensors and .pth files and Hugging Face folders, with the names of the official MAE files, of LTRP's
training, and of Hugging Face's ViTMAE (hub files and transformers 5). Missing, unexpected and misshapen tensors are
errors that name them. Nothing in a .pth file is executed.`,
    )
    .argument('<input>', 'checkpoint file or Hugging Face folder')
    .argument('<output>', 'the .safetensors file to write')
    .addOption(
      new Option('--kind <kind>', 'the model in it: masked autoencoder or ranker')
        .choices(['mae', 'ranker'])
        .makeOptionMandatory(),
    )
    .addOption(
      new Option('--type <type>', 'how weights are stored')
        .choices(['float32', 'float16', 'bfloat16'])
        .default('float32'),
    )
    .option('--json', 'print the outcome as JSON on standard output')
    .addOption(libtorchOption())
    .addHelpText(
      'after',
      `
Examples:
  ltrp convert mae_visualize_vit_base.pth vit-base.safetensors --kind mae
  ltrp convert facebook-vit-mae-base/ vit-base.safetensors --kind mae --type float16
  ltrp convert checkpoint-399.pth ranker.safetensors --kind ranker

Exit codes:
  0  written
  1  the input was refused or the output could not be written; nothing is changed
  2  the command line is wrong`,
    )
    .action(async (input: string, output: string, settings: ConvertSettings) => {
      const { kind, type, libtorch } = settings;
      const conversion = await convertCheckpoint(input, output, {
        kind,
        type,
        libtorch,
        signal: interruptSignal(),
      });
      const { size } = await stat(output);
      if (settings.json === true) {
        process.stdout.write(
          `${JSON.stringify({ input, output, kind, type, bytes: size, ...conversion })}\n`,
        );
        return;
      }
      process.stdout.write(
        `${String(conversion.tensors)} tensors with ${conversion.naming} names written to ${shortPath(output)} ` +
          `as ${type} (${(size / 2 ** 20).toFixed(1)} MiB)\n`,
      );
    });
}
