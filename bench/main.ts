/** `npm run bench`: measures, then writes Markdown, JSON and a chart. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { version } from '../lib/index.js';
import { program } from './command-line.js';
import { compare, fillShares, type Work } from './compare.js';
import { allContenders, root, type ContenderSpec, type Material } from './contenders.js';
import { measureCurves } from './curves.js';
import { measureFiles } from './files.js';
import { better, Helper } from './helper.js';
import { busy, commit, machine, pythonTorch } from './machine.js';
import {
  findModel,
  patchCount,
  pictureFiles,
  pictures,
  scoringMaterial,
  writeGraph,
  type Model,
  type ModelKind,
} from './material.js';
import { measureMemory } from './memory.js';
import { measureMetrics } from './metrics.js';
import { help, readOptions, type Options } from './options.js';
import { messageOf, type Pace } from './pace.js';
import { fillProfileShares, measureProfile, profileProblem } from './profile.js';
import { writeChart } from './report/chart.js';
import { markdown } from './report/markdown.js';
import type { Peak, Results } from './results.js';
import { measureTolerance } from './tolerance.js';
import { fillTrainingShare, measureTraining } from './training.js';

/** Progress is for people, on standard error; standard output gets the report. */
function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

class Run {
  readonly #options: Options;
  readonly #helper: Helper;
  readonly #temporary: string;
  readonly #specs: ContenderSpec[];
  readonly #pace: Pace;
  readonly #results: Results;
  readonly #python: string | null;
  /** When the section under way should come to an end, on performance.now()'s clock. */
  until = Infinity;

  constructor(
    options: Options,
    helper: Helper,
    temporary: string,
    results: Results,
    python: string | null,
  ) {
    this.#options = options;
    this.#helper = helper;
    this.#temporary = temporary;
    this.#results = results;
    this.#python = python;
    this.#specs = allContenders(python).filter(
      ({ key }) => options.only.length === 0 || options.only.some((text) => key.includes(text)),
    );
    this.#pace = { ...options, say, isLate: () => performance.now() > this.until };
  }

  /** Measures the peaks of all precisions again and keeps the best. */
  async peaks(): Promise<void> {
    const found = new Map(this.#results.peaks.map((peak) => [peak.precision, peak]));
    for (const precision of ['float64', 'float32', 'bfloat16', 'float16', 'int8'] as const) {
      const peak = await this.#helper.peak(precision, this.#options.peakSeconds);
      found.set(precision, better(found.get(precision), peak));
    }
    this.#results.peaks = [...found.values()];
    const text = (peak: Peak): string =>
      `${peak.precision} ${peak.gflops === null ? 'none' : peak.gflops.toFixed(0)}`;
    say(`Matmul peaks, GFLOP/s: ${this.#results.peaks.map(text).join(', ')}`);
  }

  async scores(source: string): Promise<void> {
    const { images: count } = this.#options;
    const model = await this.#model('mae', source);
    const found = await scoringMaterial(model, count, this.#temporary);
    const { patches, visible } = found;
    const material = { ...found.material, ...(await this.#graph(model)) };
    say(`Float64 reference: ${model.name}`);
    const reference = await this.#helper.scores(material, count, visible);
    material.tokens = await this.#helper.tokens(this.#file('tokens.f32'));
    const work = {
      title: `Scores: ${model.name}`,
      kind: 'scores',
      model: model.name,
      material,
      teacher: model.config,
      patches,
      visible,
      images: count,
      batch: 1,
      reference,
      baseline: 'loop-libtorch-float32',
    } as const;
    this.#results.comparisons.push(...(await compare([work], this.#specs, this.#pace)));
  }

  async ranker(source: string): Promise<void> {
    const { rankerImages: count } = this.#options;
    const model = await this.#model('ranker', source);
    const { config } = model;
    const size = [config.imageHeight, config.imageWidth] as const;
    const material: Material = {
      ranker: model.path,
      images: await pictures(count, config, size, this.#file('images.f32')),
      ...(await this.#graph(model)),
    };
    const reference = await this.#helper.logits(material, count);
    const specs = this.#specs.filter(({ key }) => !key.startsWith('loop-pytorch'));
    const works = [1, 16].map((batch): Work => ({
      title: `Ranking: ${model.name}, ${batch === 1 ? 'one image' : `${batch} images`} at a time`,
      kind: 'ranker',
      model: model.name,
      material,
      ranker: config,
      patches: patchCount(config),
      visible: 0,
      images: count,
      batch,
      reference,
      baseline: 'onnxruntime-node',
    }));
    this.#results.comparisons.push(...(await compare(works, specs, this.#pace)));
  }

  async files(source: string): Promise<void> {
    const model = await this.#model('ranker', source);
    const names = pictureFiles();
    const paths = Array.from(
      { length: this.#options.fileImages },
      (_, i) => names[i % names.length] as string,
    );
    this.#results.files.push(...(await measureFiles(model, this.#ours, paths, 16, this.#pace)));
  }

  async curves(): Promise<void> {
    const model = await this.#model('mae', this.#options.curveModel);
    const loop = this.#specs.filter(({ key }) => key === 'loop-libtorch-float32');
    const pace = { ...this.#pace, rounds: this.#options.curveRounds, slowRounds: 1 };
    this.#results.curves = await measureCurves(
      model,
      [...loop, ...this.#ours],
      this.#options.curves,
      this.#temporary,
      pace,
    );
  }

  async tolerance(source: string): Promise<void> {
    const { tolerance: plan } = this.#options;
    const model = await this.#model('mae', source);
    const lists = source.startsWith('vit_') ? plan.randomLists : plan.trainedLists;
    const specs = this.#ours.filter(({ precision }) => precision !== 'float32');
    // Whoever is left out by --only: without it there is nothing to compare with.
    const exact = allContenders(null).find(({ key }) => key === 'ltrp-float32') as ContenderSpec;
    const { tolerance: found } = this.#results;
    found.push(
      await measureTolerance(model, exact, specs, lists, plan, this.#temporary, this.#pace),
    );
  }

  async metrics(source: string): Promise<void> {
    const model = await this.#model('mae', source);
    const { images } = this.#options;
    this.#results.metrics.push(
      ...(await measureMetrics(model, this.#ours, images, this.#temporary, this.#pace)),
    );
  }

  async memory(): Promise<void> {
    for (const { source, images, precisions } of this.#options.memory) {
      const model = await this.#model('mae', source);
      const specs = this.#ours.filter(({ precision }) => precisions.includes(precision));
      const rows = await measureMemory(model, specs, images, this.#temporary, this.#pace);
      this.#results.memory.push(...rows);
    }
    if (this.#results.memory.length === 0 && this.#ours.length > 0) {
      this.#results.notes.push("Memory was left out: this system does not tell a process's.");
    }
  }

  async training(): Promise<void> {
    const { training: plan } = this.#options;
    this.#results.training = await measureTraining(plan, this.#python, this.#pace);
  }

  async profile(): Promise<void> {
    const { profile: plan, profileModel } = this.#options;
    const problem = profileProblem();
    if (problem !== null) {
      this.#results.profileProblem = problem;
      say(`Profile: left out: ${problem}`);
      return;
    }
    const model = await this.#model('mae', profileModel);
    for (const spec of this.#ours) {
      const profile = await measureProfile(model, spec, plan, this.#temporary, this.#pace);
      if (profile !== null) this.#results.profiles.push(profile);
    }
  }

  async kernels(): Promise<void> {
    say('Kernels');
    this.#results.bandwidth = await this.#helper.bandwidth(this.#options.peakSeconds);
    this.#results.kernels = await this.#helper.kernels(this.#options.kernelSeconds);
  }

  get #ours(): ContenderSpec[] {
    return this.#specs.filter(({ group }) => group === 'ours');
  }

  #file(name: string): string {
    return join(this.#temporary, name);
  }

  #model(kind: ModelKind, source: string): Promise<Model> {
    return findModel(this.#helper, kind, source, this.#temporary);
  }

  async #graph(model: Model): Promise<Pick<Material, 'onnx'>> {
    try {
      const path = await writeGraph(model, this.#temporary);
      return { onnx: model.kind === 'mae' ? { decoder: path } : { ranker: path } };
    } catch (error) {
      this.#results.notes.push(`No ONNX graph of the ${model.name}: ${messageOf(error)}`);
      return {};
    }
  }
}

async function measure(options: Options): Promise<Results> {
  const start = performance.now();
  const temporary = mkdtempSync(join(tmpdir(), 'ltrp-bench-'));
  const helper = new Helper(options.threads);
  try {
    const { versions, features } = await helper.hello(options.threads);
    const python = pythonTorch();
    const results: Results = {
      ltrp: version,
      commit: commit(),
      date: new Date().toISOString().slice(0, 10),
      mode: options.mode,
      threads: options.threads,
      seconds: 0,
      machine: machine(features, { ...versions, ...(python === null ? {} : { PyTorch: python }) }),
      peaks: [],
      bandwidth: null,
      comparisons: [],
      files: [],
      curves: [],
      kernels: [],
      ...newerSections(),
      failures: [],
      notes: [
        busy(),
        python === null ? "The loop in PyTorch was left out: python3 has no 'torch' here." : null,
      ].filter((note) => note !== null),
    };
    const run = new Run(options, helper, temporary, results, python);
    // What one section trips over must not cost the hours of the others. A quick run gives each section its share of the
    // time: `share` is how much of it may be over when the section stops repeating itself.
    const short = new Set<string>();
    const attempt = async (name: string, work: () => Promise<void>): Promise<void> => {
      try {
        await work();
      } catch (error) {
        results.failures.push(`${name}: ${messageOf(error)}`);
        say(`FAILED: ${results.failures.at(-1) ?? ''}`);
      }
    };
    const section = async (
      name: (typeof options.sections)[number],
      share: number,
      work: () => Promise<void>,
    ) => {
      if (!options.sections.includes(name)) return;
      run.until = start + 1000 * share * options.limitSeconds;
      await attempt(name, work);
      if (performance.now() > run.until) {
        short.add(name);
      }
    };
    await attempt('peaks', () => run.peaks());
    for (const [index, source] of options.models.entries()) {
      const share = 0.56 * ((index + 1) / options.models.length) ** 0.5;
      await section('scores', share, () => run.scores(source));
      await attempt('peaks', () => run.peaks());
    }
    for (const source of options.rankers) await section('ranker', 0.7, () => run.ranker(source));
    for (const source of options.fileRankers) {
      await section('files', 0.76, () => run.files(source));
    }
    await section('kernels', 0.81, () => run.kernels());
    for (const source of options.toleranceModels) {
      await section('tolerance', 0.85, () => run.tolerance(source));
    }
    for (const source of options.toleranceModels) {
      await section('metrics', 0.88, () => run.metrics(source));
    }
    await section('memory', 0.93, () => run.memory());
    await section('training', 0.94, () => run.training());
    await section('profile', 0.95, () => run.profile());
    await section('curves', 1, () => run.curves());
    if (short.size > 0) {
      results.notes.push(`Fewer rounds or points, for lack of time: ${[...short].join(', ')}.`);
    }
    for (const comparison of results.comparisons) fillShares(comparison, results.peaks);
    for (const profile of results.profiles) fillProfileShares(profile, results.peaks);
    for (const row of results.training) fillTrainingShare(row, results.peaks);
    results.seconds = (performance.now() - start) / 1000;
    return results;
  } finally {
    await helper.close();
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** Sections that an earlier run may not have known, empty. */
const newerSections = () =>
  ({
    tolerance: [],
    metrics: [],
    memory: [],
    training: [],
    profiles: [],
    profileProblem: null,
  }) satisfies Partial<Results>;

/** Of an earlier run. */
function rendered(text: string): Results {
  return { ...newerSections(), ...(JSON.parse(text) as Results) };
}

await program('bench', help, async (args) => {
  const options = readOptions(args);
  const results =
    options.render === undefined
      ? await measure(options)
      : rendered(readFileSync(options.render, 'utf8'));
  const out = resolve(root, options.out);
  mkdirSync(out, { recursive: true });
  // First, so that a fault of the report costs no measurement: --render writes it again.
  writeFileSync(join(out, 'benchmarks.json'), `${JSON.stringify(results, null, 1)}\n`);
  const text = markdown(results);
  writeFileSync(join(out, 'benchmarks.md'), text);
  await writeChart(results, join(out, 'benchmarks.svg'));
  process.stdout.write(text);
  say(`Written: ${['md', 'json', 'svg'].map((end) => join(out, `benchmarks.${end}`)).join(', ')}`);
  const failed = results.comparisons.flatMap(({ rows }) =>
    rows.filter((row) => row.status === 'failed'),
  );
  if (failed.length + results.failures.length > 0) process.exitCode = 1;
});
