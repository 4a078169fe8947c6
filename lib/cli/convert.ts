/** `ltrp convert`: any checkpoint into this project's safetensors layout or into an ONNX model. */
import { stat } from 'node:fs/promises';
import type { Command } from 'commander';
import { convertCheckpoint, type ConversionFormat, type MaePart } from '../convert.js';
import { LtrpError } from '../errors.js';
import { modelKinds, type ModelKind } from '../native/binding.js';
import { shortPath } from './image-arguments.js';
import { interruptSignal } from './interrupt.js';
import { inConvertOptions, sayNotes } from './notes.js';
import { storedTypes, type StoredType } from '../types.js';
import { addOptions, option, libtorchOption } from './options.js';

interface ConvertSettings {
  kind: ModelKind;
  to?: ConversionFormat;
  type: StoredType;
  part?: MaePart;
  externalData?: true;
  weights?: string;
  normalizedTarget?: boolean;
  force?: true;
  json?: true;
  libtorch?: string;
}

/** Whose names a checkpoint's tensors have, in words. */
const namings: Record<string, string> = {
  ltrp: 'this project',
  official: 'the official MAE files',
  'ltrp-reference': "LTRP's training",
  'hf-hub': "Hugging Face's hub files",
  'hf-v5': 'transformers 5',
  'hf-v5-saved': 'files that transformers 5 saved',
};

export function register(program: Command): void {
  const command = program
    .command('convert')
    .summary('convert a checkpoint to safetensors or to an ONNX model')
    .description(
      `Converts a checkpoint to safetensors, with architecture, eps and normalisation in its header, or to an ONNX model.

It reads safetensors and torch.save files, whole or in shards, and folders with them (Hugging Face, training runs of ltrp). \
It knows the names of the official MAE files, of LTRP's training, of Hugging Face's ViTMAE (hub files and transformers 5) and \
of timm, also wrapped by DDP, torch.compile, Lightning, DeepSpeed or FSDP. A missing, unexpected or misshapen tensor is an \
error that names it. Nothing in a file is executed.`,
    )
    .argument('<input>', "checkpoint, a shard or index of one, a folder or 'tiny' (embedded)")
    .argument('<output>', 'the .safetensors or .onnx file to write');
  addOptions(command, [
    option('--kind <kind>', 'kind of model: masked autoencoder, ranker or classifier')
      .choices(modelKinds)
      .makeOptionMandatory(),
    option('--to <format>', "what to write (default: by the output's extension)").choices([
      'safetensors',
      'onnx',
    ]),
    option('--type <type>', 'how weights are stored in safetensors')
      .choices(storedTypes)
      .default('float32'),
    option(
      '--part <part>',
      'part of an autoencoder to write as ONNX (default: reconstruct)',
    ).choices(['reconstruct', 'encoder', 'decoder']),
    option(
      '--external-data',
      'ONNX: weights in OUTPUT.data beside the model (default: only above 1 GiB)',
    ),
    option(
      '--weights <name>',
      "of several models in a file, take the one below this key or prefix, such as 'model_ema'",
    ),
    option(
      '--normalized-target',
      'the autoencoder predicts pixels normalised per patch (norm_pix_loss), even if the file differs',
    ),
    option('--no-normalized-target', 'it predicts plain pixels, even if the file differs'),
    option('--force', 'replace existing files'),
    option('--json', 'print the result as JSON on standard output'),
    libtorchOption(),
  ]);
  command
    .addHelpText(
      'after',
      `
ONNX models are float32, operator set 17, for the model's own image size and any batch size:
  ranker       images float32 [n, 3, H, W] -> logits [n, L]
  reconstruct  images, visible int64 [n, V] (ids, ascending) -> predictions [n, L, p * p * 3]
  encoder      images, visible -> latent [n, V + 1, D], CLS first
  decoder      tokens float32 [m, T, E] (positions added, CLS first) -> predictions [m, T - 1, p * p * 3]

Examples:
  ltrp convert mae_visualize_vit_base.pth vit-base.safetensors --kind mae
  ltrp convert facebook-vit-mae-base/ vit-base.safetensors --kind mae --type float16
  ltrp convert checkpoint-399.pth ranker.safetensors --kind ranker
  ltrp convert mae_pretrain_vit_base_full.pth vit-base.safetensors --kind mae --normalized-target
  ltrp convert runs/teacher teacher.safetensors --kind mae   # a run that was stopped: its newest checkpoint
  ltrp convert tiny ranker.onnx --kind ranker
  ltrp convert vit-base.safetensors decoder.onnx --kind mae --part decoder

Exit codes:
  0  written
  1  the input was refused or the output could not be written; nothing is changed
  2  the command line is wrong
  130, 143  interrupted with Ctrl-C, ended by SIGTERM; nothing is changed`,
    )
    .action(async (input: string, output: string, settings: ConvertSettings) => {
      const { kind, to, type, part, externalData, force, libtorch } = settings;
      const { weights, normalizedTarget } = settings;
      const conversion = await convertCheckpoint(input, output, {
        kind,
        to,
        type,
        part,
        externalDataAbove: externalData === true ? 0 : undefined,
        weights,
        normalizedTarget,
        overwrite: force === true,
        libtorch,
        signal: interruptSignal(),
      }).catch((error: unknown) => {
        if (!(error instanceof LtrpError)) throw error;
        throw new LtrpError(error.code, inConvertOptions(error.message), { cause: error });
      });
      const notes = conversion.notes.map((note) => inConvertOptions(note));
      const sizes = await Promise.all(
        conversion.files.map(async (file) => (await stat(file)).size),
      );
      const bytes = sizes.reduce((sum, size) => sum + size, 0);
      if (settings.json === true) {
        process.stdout.write(
          `${JSON.stringify({ input, output, kind, type, bytes, ...conversion, notes })}\n`,
        );
        return;
      }
      sayNotes(notes, '');
      const alone =
        'decoder' in conversion.config && conversion.config.decoder === null
          ? 'an encoder alone, '
          : '';
      process.stdout.write(
        `${conversion.tensors} tensors of ${shortPath(input)} (${alone}names of ${namings[conversion.naming] ?? conversion.naming}) ` +
          `written to ${conversion.files.map(shortPath).join(' and ')} as ${type} (${(bytes / 2 ** 20).toFixed(1)} MiB)\n`,
      );
    });
}
