/** `npm run bench`: measures, then writes Markdown, JSON and a chart. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { version } from '../lib/index.js';
import { compare, fillShares, type Pace, type Work } from './compare.js';
import { allContenders, root, type ContenderSpec, type Material } from './contenders.js';
import { measureCurves } from './curves.js';
import { measureFiles } from './files.js';
import { better, Helper } from './helper.js';
import { busy, commit, machine, pythonTorch } from './machine.js';
import {
  masks,
  pictureFiles,
  pictures,
  ranker,
  teacher,
  teacherFile,
  visibleCount,
} from './material.js';
import { measureMemory } from './memory.js';
import { fillProfileShares, measureProfile, profileProblem } from './profile.js';
import { help, readOptions, UsageError, type Options } from './options.js';
import { writeChart } from './report/chart.js';
import { markdown } from './report/markdown.js';
import type { Peak, Results } from './results.js';
import { measureTolerance } from './tolerance.js';

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
    const model = await teacher(this.#helper, source, this.#temporary);
    this.#noteGraph(model);
    const { config } = model;
    const [gridRows, gridColumns] = config.grid;
    const patches = gridRows * gridColumns;
    const visible = visibleCount(patches);
    const size = [config.imageHeight, config.imageWidth] as const;
    const material: Material = {
      mae: model.path,
      images: await pictures(count, config, size, this.#file('images.f32')),
      visible: masks(count, patches, visible),
    };
    if (model.onnx !== undefined) material.onnx = { decoder: model.onnx };
    say(`Float64 reference: ${model.name}`);
    const reference = await this.#helper.scores(material, count, visible);
    material.tokens = await this.#helper.tokens(this.#file('tokens.f32'));
    const work = {
      title: `Scores: ${model.name}`,
      kind: 'scores',
      model: model.name,
      material,
      teacher: config,
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
    const model = await ranker(this.#helper, source, this.#temporary);
    this.#noteGraph(model);
    const { config } = model;
    const size = [config.imageHeight, config.imageWidth] as const;
    const material: Material = {
      ranker: model.path,
      images: await pictures(count, config, size, this.#file('images.f32')),
    };
    if (model.onnx !== undefined) material.onnx = { ranker: model.onnx };
    const reference = await this.#helper.logits(material, count);
    const specs = this.#specs.filter(({ key }) => !key.startsWith('loop-pytorch'));
    const works = [1, 16].map((batch): Work => ({
      title: `Ranking: ${model.name}, ${batch === 1 ? 'one image' : `${batch} images`} at a time`,
      kind: 'ranker',
      model: model.name,
      material,
      ranker: config,
      patches: config.grid[0] * config.grid[1],
      visible: 0,
      images: count,
      batch,
      reference,
      baseline: 'onnxruntime-node',
    }));
    this.#results.comparisons.push(...(await compare(works, specs, this.#pace)));
  }

  async files(source: string): Promise<void> {
    const model = await ranker(this.#helper, source, this.#temporary);
    const names = pictureFiles();
    const paths = Array.from(
      { length: this.#options.fileImages },
      (_, i) => names[i % names.length] as string,
    );
    this.#results.files.push(...(await measureFiles(model, this.#ours, paths, 16, this.#pace)));
  }

  async curves(): Promise<void> {
    const model = await teacher(this.#helper, this.#options.curveModel, this.#temporary);
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
    const model = await teacherFile(this.#helper, source, this.#temporary);
    const lists = source.startsWith('vit_') ? plan.randomLists : plan.trainedLists;
    const specs = this.#ours.filter(({ precision }) => precision !== 'float32');
    // Whoever is left out by --only: without it there is nothing to compare with.
    const exact = allContenders(null).find(({ key }) => key === 'ltrp-float32') as ContenderSpec;
    const { tolerance: found } = this.#results;
    found.push(
      await measureTolerance(model, exact, specs, lists, plan, this.#temporary, this.#pace),
    );
  }

  async memory(): Promise<void> {
    for (const { source, images, precisions } of this.#options.memory) {
      const model = await teacherFile(this.#helper, source, this.#temporary);
      const specs = this.#ours.filter(({ precision }) => precisions.includes(precision));
      const rows = await measureMemory(model, specs, images, this.#temporary, this.#pace);
      this.#results.memory.push(...rows);
    }
    if (this.#results.memory.length === 0 && this.#ours.length > 0) {
      this.#results.notes.push("Memory was left out: this system does not tell a process's.");
    }
  }

  async profile(): Promise<void> {
    const { profile: plan, profileModel } = this.#options;
    const problem = profileProblem();
    if (problem !== null) {
      this.#results.profileProblem = problem;
      say(`Profile: left out: ${problem}`);
      return;
    }
    const model = await teacherFile(this.#helper, profileModel, this.#temporary);
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

  #noteGraph({ name, onnxProblem }: { name: string; onnxProblem: string | null }): void {
    if (onnxProblem !== null)
      this.#results.notes.push(`No ONNX graph of the ${name}: ${onnxProblem}`);
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
      tolerance: [],
      memory: [],
      profiles: [],
      profileProblem: null,
      failures: [],
      notes: [
        busy(),
        python === null ? "The loop in PyTorch was left out: python3 has no 'torch' here." : null,
      ].filter((note) => note !== null),
    };
    const run = new Run(options, helper, temporary, results, python);
    // What one section trips over must not cost the hours of the others. A quick run gives each section its share of the
    // time: `share` is how much of it may be over when the section stops repeating itself.
    const section = async (
      name: (typeof options.sections)[number],
      share: number,
      work: () => Promise<void>,
    ) => {
      if (!options.sections.includes(name)) return;
      run.until = start + 1000 * share * options.limitSeconds;
      try {
        await work();
      } catch (error) {
        results.failures.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
        say(`FAILED: ${results.failures.at(-1) ?? ''}`);
      }
      if (performance.now() > run.until) {
        results.notes.push(`The time was short for '${name}': fewer rounds or points.`);
      }
    };
    await run.peaks();
    for (const [index, source] of options.models.entries()) {
      const share = 0.56 * ((index + 1) / options.models.length) ** 0.5;
      await section('scores', share, () => run.scores(source));
      await run.peaks();
    }
    for (const source of options.rankers) await section('ranker', 0.7, () => run.ranker(source));
    for (const source of options.fileRankers) {
      await section('files', 0.76, () => run.files(source));
    }
    await section('kernels', 0.81, () => run.kernels());
    for (const source of options.toleranceModels) {
      await section('tolerance', 0.85, () => run.tolerance(source));
    }
    await section('memory', 0.93, () => run.memory());
    await section('profile', 0.95, () => run.profile());
    await section('curves', 1, () => run.curves());
    for (const comparison of results.comparisons) fillShares(comparison, results.peaks);
    for (const profile of results.profiles) fillProfileShares(profile, results.peaks);
    results.seconds = (performance.now() - start) / 1000;
    return results;
  } finally {
    await helper.close();
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** Of an earlier run; sections that it did not know are empty. */
function rendered(text: string): Results {
  const newer = { tolerance: [], memory: [], profiles: [], profileProblem: null };
  return { ...newer, ...(JSON.parse(text) as Results) };
}

async function main(): Promise<void> {
  const options = readOptions(process.argv.slice(2));
  if (options === 'help') {
    process.stdout.write(help);
    return;
  }
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
}

try {
  await main();
} catch (error) {
  if (!(error instanceof UsageError)) throw error;
  say(`bench: ${error.message}`);
  process.exitCode = 2;
}
