/** `ltrp models fetch | list | remove`: models of the Hugging Face hub in a cache in the layout of Python's. */
import { hubCache } from '../hub/settings.js';
import { isHubSource, readHubSource, type HubSource } from '../hub/source.js';
import type { Command } from 'commander';
import { printable } from './image-arguments.js';
import { interruptSignal } from './interrupt.js';
import { progressLine } from './libtorch.js';
import { alignedRows } from './numbers.js';
import { parseName } from './options.js';
import { invalid } from '../validation.js';

export function register(program: Command): void {
  const command = program
    .command('models')
    .description('fetch, list or remove models of the Hugging Face hub')
    .addHelpText(
      'after',
      () => `
Models are named hf:organisation/name or hf:organisation/name@revision: a branch, a tag or a commit.
load() and --model take such a name too. The cache is Python's: ${hubCache()}
HF_HOME and HF_HUB_CACHE move it, HF_TOKEN (or \`hf auth login\`) opens private models, HF_ENDPOINT names
a mirror, HF_HUB_OFFLINE=1 turns the network off.`,
    );
  command
    .command('fetch')
    .description('fetch the weights and configuration of models, and print the path of each')
    .argument('<models...>', 'such as hf:facebook/vit-mae-base', collect)
    .addHelpText(
      'after',
      `
safetensors are preferred to pytorch_model.bin. After an interruption, run it again: it continues where it was.
Every file is checked: against its hash where the server gives one, else by its size.

Examples:
  ltrp models fetch hf:facebook/vit-mae-base
  ltrp score photo.jpg --model hf:facebook/vit-mae-base`,
    )
    .action(async (models: readonly string[]) => {
      const { fetchModel } = await import('../hub/fetch.js');
      for (const source of models.map(sourceOf)) {
        const progress = progressLine();
        const { weights } = await fetchModel(source, {
          signal: interruptSignal(),
          log: (line) => progress.log(printable(line)),
          onProgress: (file, done, total) => progress.update(file, done, total),
        });
        progress.end();
        process.stdout.write(`${weights}\n`);
      }
    });
  command
    .command('list')
    .description('list the models in the cache, also those that Python fetched')
    .option('--json', 'print them as JSON')
    .action(async ({ json }: { json?: true }) => {
      const { cachedModels } = await import('../hub/cache.js');
      const cache = hubCache();
      const models = cachedModels(cache);
      if (json === true) {
        process.stdout.write(`${JSON.stringify({ cache, models }, null, 2)}\n`);
        return;
      }
      const rows = models.flatMap(({ model, snapshots, bytes }) =>
        snapshots.map(({ commit, revisions }, index) => [
          `hf:${model}@${commit}`,
          revisions.join(', ') || '-',
          // Snapshots share files.
          index === 0 ? `${(bytes / 1e6).toFixed(1)} MB` : '',
        ]),
      );
      process.stdout.write(
        rows.length === 0
          ? `There are no models in ${cache}.\n`
          : `${alignedRows([['snapshot', 'revisions', 'size of all'], ...rows])}\n`,
      );
    });
  command
    .command('remove')
    .description('remove models from the cache, also those that Python fetched')
    .argument(
      '<models...>',
      'hf:organisation/name for all of a model, with @revision for one snapshot',
      collect,
    )
    .action(async (models: readonly string[]) => {
      const { removeCached } = await import('../hub/cache.js');
      const removed: string[] = [];
      for (const text of models) {
        const { model, revision } = sourceOf(text);
        const one = text.includes('@') ? { model, revision } : { model };
        removed.push(...(await removeCached(hubCache(), one)));
      }
      const lines = removed.map((folder) => `Removed ${folder}`);
      process.stdout.write(`${lines.join('\n') || 'There is nothing to remove.'}\n`);
    });
}

const collect = (text: string, before: string[] | undefined): string[] => [
  ...(before ?? []),
  parseName(text),
];

function sourceOf(text: string): HubSource {
  if (isHubSource(text)) return readHubSource(text);
  throw invalid(`${text} must begin with hf:, such as hf:facebook/vit-mae-base.`);
}
