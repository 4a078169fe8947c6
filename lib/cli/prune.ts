/** `ltrp prune`: a vision transformer in ONNX that computes with some of its patches. */
import { InvalidArgumentError, type Command } from 'commander';
import { dataSuffixes, pruneOnnx } from '../prune-onnx.js';
import { shortPath } from './image-arguments.js';
import { interruptSignal } from './interrupt.js';
import { sayNotes } from './notes.js';
import { option } from './options.js';

interface PruneSettings {
  out: string;
  idsName?: string;
  dataSuffix?: (typeof dataSuffixes)[number];
  force?: true;
  json?: true;
}

export function register(program: Command): void {
  program
    .command('prune')
    .summary('let a vision transformer in ONNX compute with some patches only')
    .description(
      `Rewrites a vision transformer in ONNX. The new model takes a second input, the ids of the patches to keep, and computes with \
those only. ViT, DeiT, CLIP, SigLIP, DINOv2, DINOv3, BEiT, ViTMAE and timm's models pass in float32, float16 and int8. A model \
that needs all of its patches is refused with the name of the node.`,
    )
    .argument('<model>', 'the .onnx file; weights beside it are found automatically')
    .requiredOption(
      '--out <file>',
      'the .onnx file to write; weights go beside it',
      (value: string) => {
        if (!value.endsWith('.onnx')) throw new InvalidArgumentError('It must end in .onnx.');
        return value;
      },
    )
    .option('--ids-name <name>', "the new input's name (default: keep)")
    .addOption(
      option('--data-suffix <suffix>', 'ending of files with weights (default: as before)').choices(
        dataSuffixes,
      ),
    )
    .option('--force', 'replace existing files')
    .option('--json', 'print the outcome as JSON on standard output')
    .addHelpText(
      'after',
      `
The new input is int64 [images, K]: for each picture K ids from 0 to L - 1, in
raster order of the patch grid. K may differ in each run. The tokens come out in
the order of the ids, behind class, register and distillation tokens. An id
outside the grid makes the run fail.

Examples:
  ltrp prune model.onnx --out model-keep.onnx
  ltrp prune model_quantized.onnx --out keep_quantized.onnx --ids-name kept_ids
  ltrp prune model.onnx --out keep.onnx --data-suffix _data  # for transformers.js

Exit codes:
  0  written
  1  the model was refused, or could not be read or written; nothing is changed
  2  the command line is wrong
  130, 143  interrupted with Ctrl-C, ended by SIGTERM; nothing is changed`,
    )
    .action(async (input: string, { out, idsName: name, force, json, ...rest }: PruneSettings) => {
      const pruned = await pruneOnnx(input, out, {
        idsName: name,
        dataSuffix: rest.dataSuffix,
        overwrite: force === true,
        signal: interruptSignal(),
      });
      if (json === true) {
        process.stdout.write(`${JSON.stringify({ input, ...pruned })}\n`);
        return;
      }
      sayNotes(pruned.notes);
      const { patches, otherTokens, files, idsName } = pruned;
      const [before, after] = otherTokens;
      const stay = before + after;
      process.stdout.write(
        `${shortPath(input)}: ${patches === null ? 'patches of any grid' : `${patches} patches`}` +
          `${stay === 0 ? '' : `, ${stay} other ${stay === 1 ? 'token stays' : 'tokens stay'}`}; ` +
          `'${idsName}' [images, K] takes the ids to keep; written to ${files.map(shortPath).join(' and ')}\n`,
      );
    });
}
