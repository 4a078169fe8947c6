/** `ltrp evaluate`: how well a classifier does with the patches that selectors keep. */
import { cpus } from 'node:os';
import { InvalidArgumentError, type Command } from 'commander';
import { LtrpError } from '../errors.js';
import { askedModels, canAsk, keptOf } from '../evaluation/asked.js';
import { judgeFills, type JudgeFill } from '../evaluation/covered.js';
import { curvePage } from '../evaluation/curve-page.js';
import { PictureJudge } from '../evaluation/picture-judge.js';
import { percentOf, studyTables } from '../evaluation/report.js';
import { SelectorStudy, type StudyResults } from '../evaluation/study.js';
import type { Fit } from '../images.js';
import { MaskedAutoencoder } from '../masked-autoencoder.js';
import { PatchRanker } from '../patch-ranker.js';
import { selectorNames, selectors, type SelectorName } from '../selectors.js';
import type { ShardOptions } from '../shards/shard.js';
import { invalid } from '../validation.js';
import { VisionTransformer } from '../vision-transformer.js';
import { measurePictures, sizeOf, type Size } from './evaluated-pictures.js';
import { labelsOf, unseenNames, type LabelSettings } from './evaluation-labels.js';
import { exitCodes } from './exit-codes.js';
import {
  FineTunedModels,
  locatedClassifier,
  parseFineTuned,
  type FineTuned,
} from './fine-tuned.js';
import { complain } from './image-command.js';
import { interruptSignal } from './interrupt.js';
import { withNotes } from './notes.js';
import {
  addOptions,
  deviceOption,
  libtorchOption,
  option,
  parseInteger,
  parseName,
  parseShares,
  seedOption,
  shardOptions,
  type ImageSettings,
} from './options.js';
import { OutputFolder } from './output-folder.js';
import { loadOptions } from './results.js';
import { loadSelectorModules } from './selector-modules.js';
import { MaskFile } from './shown-objects.js';
import { print } from './standard-output.js';
import { openDataset } from './training-data.js';
import { parseImageSize } from './training-options.js';

interface EvaluateSettings
  extends
    LabelSettings,
    ShardOptions,
    Pick<ImageSettings, 'device' | 'libtorch' | 'seed' | 'json'> {
  data: string[];
  masks?: string;
  selectors?: string[];
  selectorModule: string[];
  keep: number[];
  reference?: string;
  fineTuned?: FineTuned[];
  ranker: string;
  mae: string;
  curves: number;
  agreement: number;
  judge?: string;
  judgeFill: JudgeFill;
  imageSize?: Size;
  fit?: Fit;
  batchSize: number;
  out?: string;
}

/** What --json prints and evaluate.json has. */
interface Evaluation extends StudyResults {
  model: string;
  /** Of the model's file, SHA-256. */
  digest: string;
  /** Names, in the order of the logits. */
  classes: readonly string[];
  pictures: number;
  /** Those that recall is measured on; null without --masks. */
  picturesWithObjects: number | null;
  unreadable: string[];
  /** Records of shards that are lost by damage. */
  lost: number;
  keeps: number[];
  /** Classifiers of --fine-tuned. */
  fineTuned: readonly (FineTuned & { digest: string })[];
  reference: SelectorName;
  /** Null without --judge. */
  judge: { model: string; digest: string; fill: JudgeFill } | null;
}

export function register(program: Command): void {
  const command = program
    .command('evaluate')
    .summary('measure a classifier on the patches that selectors keep')
    .description(
      `Measures how often a classifier is right when it receives only the patches that a selector keeps, for every selector and \
share, with 95% intervals. --data is a folder with a folder of pictures for each class; with --labels, which lists any number \
of categories for each picture, the measure is the mean average precision.

All selectors are judged by one classifier, which should have been trained on random shares (ltrp finetune --keep-random). Or \
--fine-tuned gives some a classifier that was fine-tuned on what they keep, as the paper does.`,
    );
  addOptions(command, [
    option('--model <model>', 'a classifier: the --out folder of ltrp finetune, or a file')
      .argParser(parseName)
      .makeOptionMandatory(),
    option(
      '--data <sources...>',
      'folders with a folder of pictures for each class, or pictures of --labels; also shards (.tar, .parquet)',
    ).makeOptionMandatory(),
    option(
      '--labels <file>',
      "categories of the pictures: COCO's .json, a folder of VOC's .xml, or lines with a picture and its categories, separated by tabs",
    ).argParser(parseName),
    option(
      '--categories <file>',
      'names of the categories of --labels that count, one a line, all of them among the classes of the model (default: all)',
    ).argParser(parseName),
    option(
      '--unseen <file>',
      'names of categories of which selectors have seen no labels, one a line: the measures of --labels and --masks are also given of these and of the others',
    ).argParser(parseName),
    option(
      '--masks <file>',
      "outlines of objects, COCO's .json of instances: also object and instance recall, on pictures of which objects cover less than 60%",
    ).argParser(parseName),
    option(
      '--classes <file>',
      "names of the model's classes, one a line in the order of the logits (default: classes.txt beside the model, or the names in --data, sorted)",
    ).argParser(parseName),
    option(
      '--selectors <list>',
      `names separated by commas, of ${selectorNames.join(', ')} and those of --selector-module (default: all that the model can be asked, but teacher, which takes long)`,
    ).argParser((text) => text.split(',').map((name) => name.trim())),
    option(
      '--selector-module <files...>',
      'modules with selectors of your own: a default export with name and score, or calls of registerSelector',
    ).default([], 'none'),
    option('--keep <list>', 'shares of the patches, separated by commas')
      .argParser(parseShares('(0, 1]'))
      .default([0.1, 0.25, 0.5, 0.75, 1], '10%,25%,50%,75%,100%'),
    option(
      '--reference <selector>',
      'what the others are compared with (default: ranker, or the first of --selectors)',
    ).argParser(parseName),
    option(
      '--fine-tuned <models...>',
      'a classifier of its own for what a selector keeps at a share: SELECTOR@SHARE=MODEL; --model classifies all else, and is what selectors ask',
    ).argParser(parseFineTuned),
    option('--ranker <model>', "what the selectors ranker and ranker-diverse ask: a file or 'tiny'")
      .argParser(parseName)
      .default('tiny'),
    option('--mae <model>', "what mae-attention, rollout, teacher and tome ask: a file or 'tiny'")
      .argParser(parseName)
      .default('tiny'),
    option(
      '--curves <steps>',
      'also the areas under insertion and deletion curves of so many equal steps; for heads that read the CLS token; 0: none',
    )
      .argParser(parseInteger(0, 1024))
      .default(0),
    option(
      '--agreement <rounds>',
      "also how rankings agree with the teacher's scores (--mae) of so many rounds, an even number: tau-b, Spearman, NDCG; 0: not",
    )
      .argParser(parseRounds)
      .default(0),
    option(
      '--judge <model>',
      "also how often this classifier's answer stays when dropped patches are covered; it is independent of --model, and sees pictures of the same size",
    ).argParser(parseName),
    option(
      '--judge-fill <how>',
      "what covers dropped patches before the judge: 'mean', the picture's mean colour; 'blur', a blurred copy of it",
    )
      .choices(judgeFills)
      .default('mean'),
    option(
      '--image-size <pixels>',
      'size of the pictures: a number or HEIGHTxWIDTH (default: that of the model)',
    ).argParser(parseImageSize),
    option(
      '--fit <how>',
      "'crop': the centre; 'stretch': the whole picture (default: crop, with --labels or --masks stretch)",
    ).choices(['crop', 'stretch']),
    option('--batch-size <images>', 'pictures computed together')
      .argParser(parseInteger(1, 4096))
      .default(16),
    seedOption(),
    option(
      '--out <folder>',
      'folder for evaluate.json, evaluate.md and evaluate.html, a page with curves',
    ).argParser(parseName),
    option('--json', 'print the figures as JSON on standard output'),
    ...shardOptions(),
    deviceOption(),
    libtorchOption(),
  ]);
  command.addHelpText(
    'after',
    `
Examples:
  ltrp evaluate --model runs/classifier --data photos/val
  ltrp evaluate --model runs/classifier --data photos/val --selectors ranker,random,variance --keep 25%,50% --out compared
  ltrp evaluate --model runs/all --data photos/val --selectors ranker,random --keep 25% \\
    --fine-tuned ranker@25%=runs/ranker random@25%=runs/random
  ltrp evaluate --model runs/coco --data coco/val2017 --labels instances_val2017.json --unseen unseen.txt

Exit codes:
  0    measured on all pictures
  1    some pictures could not be read (standard error names each), or the command could not run
  2    the command line is wrong
  130  interrupted with Ctrl-C; 143 by SIGTERM; 129 because the terminal was closed`,
  );
  command.action(async (settings: EvaluateSettings) => {
    process.exitCode = await evaluate(settings);
  });
}

function parseRounds(text: string): number {
  const rounds = parseInteger(0, 1024)(text);
  if (rounds % 2 === 0) return rounds;
  throw new InvalidArgumentError('It must be even, for two halves tell how sure the scores are.');
}

/** An evaluation tells selectors apart by name; that of a selector of the caller's own is none of the union's. */
function checkSelector(name: string): SelectorName {
  if (Object.hasOwn(selectors, name)) return name as SelectorName;
  throw invalid(`There is no selector '${name}'; there are ${Object.keys(selectors).join(', ')}.`);
}

async function evaluate(settings: EvaluateSettings): Promise<number> {
  if (settings.masks !== undefined && settings.fit === 'crop')
    throw invalid('--masks needs --fit stretch, because outlines are of whole pictures.');
  if (settings.categories !== undefined && settings.labels === undefined)
    throw invalid('--categories is for --labels.');
  const signal = interruptSignal();
  if (settings.out === undefined) return evaluateInto(undefined, settings, signal);
  const folder = new OutputFolder(settings.out);
  const onWait = (holder: string): void => {
    complain(`waiting for ${holder}, which writes to ${folder.path}`);
  };
  return folder.hold(() => evaluateInto(folder, settings, signal), { onWait, signal });
}

async function evaluateInto(
  folder: OutputFolder | undefined,
  settings: EvaluateSettings,
  signal: AbortSignal,
): Promise<number> {
  const { data, seed } = settings;
  // A page's lines go from left to right; twice the same would count pictures twice.
  const keeps = [...new Set(settings.keep)].sort((a, b) => a - b);
  await loadSelectorModules(settings.selectorModule);
  const asked = settings.selectors && [...new Set(settings.selectors.map(checkSelector))];
  const dataset = await openDataset(data, false, settings);
  const shared = dataset.sources.find(({ share }) => share !== null);
  if (shared !== undefined)
    throw invalid(`${shared.name} must be named without a share: every picture is measured once.`);
  const model = await locatedClassifier(settings.model, signal);
  await using classifier = await withNotes(
    VisionTransformer.load(model.path, loadOptions(settings)),
  );
  const size = sizeOf(settings.imageSize, classifier);
  const { patchSize } = classifier.config;
  const patches = (size.height / patchSize) * (size.width / patchSize);
  for (const keep of keeps) keptOf(patches, keep); // before the other models are loaded
  const outputs = classifier.config.classes;
  const labels = await labelsOf({ ...settings, model: model.path }, dataset, outputs);
  for (const sentence of labels.notes) complain(sentence);
  const masks = settings.masks === undefined ? undefined : await MaskFile.read(settings.masks);
  if (masks !== undefined && !dataset.files.some((file) => masks.has(file)))
    throw new LtrpError(
      'ERR_LTRP_DATA_EMPTY',
      `None of the pictures of --data is in ${String(settings.masks)}.`,
    );
  const unseen = await unseenNames(settings, labels.classes, masks);
  const every = Object.keys(selectors) as SelectorName[];
  const possible =
    asked ?? every.filter((name) => name !== 'teacher' && canAsk(name, classifier.config));
  const ask = (some: readonly SelectorName[], kind: 'ranker' | 'mae'): boolean =>
    some.some((name) => askedModels[name] === kind) || (kind === 'mae' && settings.agreement > 0);
  await using ranker = ask(possible, 'ranker')
    ? await withNotes(PatchRanker.load(settings.ranker, loadOptions(settings)))
    : undefined;
  await using mae = ask(possible, 'mae')
    ? await withNotes(MaskedAutoencoder.load(settings.mae, loadOptions(settings)))
    : undefined;
  const opened = { ranker, mae };
  const names = possible.filter((name) => {
    const kind = askedModels[name];
    if (asked !== undefined || (kind !== 'ranker' && kind !== 'mae')) return true;
    // Nobody named the embedded models, which have patches of one size.
    return settings[kind] !== 'tiny' || opened[kind]?.config.patchSize === patchSize;
  });
  for (const kind of ['ranker', 'mae'] as const)
    if (ask(names, kind)) checkPatches(kind, opened[kind], classifier);
  const compared = settings.reference ?? (names.includes('ranker') ? 'ranker' : names[0]);
  const reference = names.find((name) => name === compared);
  if (reference === undefined)
    throw invalid(`--reference must be one of --selectors; ${String(compared)} is not.`);

  const evaluated = { classifier, classes: labels.classes, selectors: names, keeps };
  const judgeModel =
    settings.judge === undefined ? undefined : await locatedClassifier(settings.judge, signal);
  await using judge =
    judgeModel && (await withNotes(VisionTransformer.load(judgeModel.path, loadOptions(settings))));
  await using own = await FineTunedModels.load(
    settings.fineTuned ?? [],
    evaluated,
    settings,
    signal,
  );
  const many = settings.labels !== undefined;
  const study = new SelectorStudy({
    ...{ classifier, ranker, mae, selectors: names, keeps, reference, seed, many, signal },
    unseen: (unseen ?? []).map((name) => labels.classes.indexOf(name)).filter((id) => id >= 0),
    curveSteps: settings.curves,
    agreementRounds: settings.agreement,
    classifierOf: (name, keep) => own.of(name, keep) ?? classifier,
    judge: judge && new PictureJudge(judge, settings.judgeFill, patchSize, signal),
  });
  const whole = settings.labels ?? settings.masks;
  const unreadable = await measurePictures(study, dataset.files, labels, {
    ...{ size, signal, batchSize: settings.batchSize },
    fit: settings.fit ?? (whole === undefined ? 'crop' : 'stretch'),
    objectsOf: async (file) =>
      (await masks?.objectsOf(file, { ...size, patchSize }, unseen)) ?? null,
  });
  if (study.pictures === 0)
    throw new LtrpError('ERR_LTRP_DATA_EMPTY', 'None of the pictures of --data can be read.');
  if (masks !== undefined && study.picturesWithObjects === 0) {
    throw new LtrpError(
      'ERR_LTRP_DATA_EMPTY',
      `None of the pictures of --data has objects in ${String(settings.masks)} that cover less than 60% of it.`,
    );
  }
  const evaluation: Evaluation = {
    ...{
      model: settings.model,
      digest: model.digest,
      classes: labels.classes,
      pictures: study.pictures,
      picturesWithObjects: masks === undefined ? null : study.picturesWithObjects,
      unreadable,
      lost: dataset.lost,
    },
    ...{ keeps, reference },
    fineTuned: own.list,
    judge:
      judgeModel === undefined
        ? null
        : { model: judgeModel.source, digest: judgeModel.digest, fill: settings.judgeFill },
    ...(await study.results()),
  };
  signal.throwIfAborted();
  const markdown = `${[heading(evaluation, settings), ...studyTables(evaluation, keeps, reference)].join('\n\n')}\n`;
  if (folder !== undefined) await write(folder, evaluation, markdown);
  await print(settings.json === true ? `${JSON.stringify(evaluation)}\n` : markdown);
  return unreadable.length > 0 ? exitCodes.failed : exitCodes.ok;
}

function checkPatches(
  name: string,
  asked: { config: { patchSize: number } } | undefined,
  { config }: VisionTransformer,
): void {
  if (asked === undefined || asked.config.patchSize === config.patchSize) return;
  throw invalid(
    `The model of --${name} has patches of ${asked.config.patchSize} pixels, and the classifier of ${config.patchSize}; they must be the same.`,
  );
}

const covers: Readonly<Record<JudgeFill, string>> = {
  mean: "the picture's mean colour",
  blur: 'a blurred copy',
};

function heading(
  { model, digest, pictures, picturesWithObjects, unreadable, lost, fineTuned, judge }: Evaluation,
  settings: EvaluateSettings,
): string {
  const missing =
    (unreadable.length > 0 ? `; ${unreadable.length} cannot be read` : '') +
    (lost > 0 ? `; ${lost} records are lost` : '');
  const pairs = fineTuned.map(({ selector, keep }) => `\`${selector}\` at ${percentOf(keep)}`);
  const own = pairs.length > 0 ? ` Of their own have classifiers: ${pairs.join(', ')}.` : '';
  const judged =
    judge === null
      ? ''
      : ` The judge is \`${judge.model}\` (SHA-256 ${judge.digest.slice(0, 12)}...); dropped patches are covered with ${covers[judge.fill]}.`;
  const objects =
    picturesWithObjects === null ? '' : `; recall on ${picturesWithObjects} with objects`;
  return `\`${model}\` (SHA-256 ${digest.slice(0, 12)}...) on ${pictures} pictures of ${settings.data.join(', ')}${missing}${objects}.${own}${judged}`;
}

async function write(
  folder: OutputFolder,
  evaluation: Evaluation,
  markdown: string,
): Promise<void> {
  const { keeps, reference, pictures, model } = evaluation;
  const page = curvePage({
    ...{ results: evaluation, keeps, reference },
    about: `${pictures} pictures`,
    source: `ltrp evaluate of ${model}, ${cpus()[0]?.model ?? 'unknown processor'}, ${new Date().toISOString().slice(0, 10)}`,
  });
  await folder.write('evaluate.json', `${JSON.stringify(evaluation, null, 2)}\n`);
  await folder.write('evaluate.md', markdown);
  await folder.write('evaluate.html', page);
}
