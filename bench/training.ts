/** Training steps: ours, the same run with LibTorch's autograd in the blocks, and PyTorch with bfloat16 autocast. */
import { join } from 'node:path';
import type { NativeTransformerConfig } from '../lib/native/binding.js';
import { maePresets, rankerPresets } from '../lib/training/presets.js';
import { Contender, type Program } from './child.js';
import { helperProgram, pythonProgram, root } from './contenders.js';
import { pretrainingFlops, rankerTrainingFlops } from './flops.js';
import { inTurns, type Pace } from './pace.js';
import type { Peak, Precision, TrainingRow } from './results.js';
import { spread } from './statistics.js';

export interface TrainingPlan {
  presets: readonly ('tiny' | 'small')[];
  batch: number;
  microBatch: number;
  /** Of a round. */
  steps: number;
}

interface Run {
  title: string;
  encoder: NativeTransformerConfig;
  decoder?: NativeTransformerConfig;
  teacher?: string;
  gflopPerImage: number;
}

interface Trainer {
  label: string;
  precision: Precision;
  program: Program;
  ownBlocks: boolean;
}

function trainers(python: string | null, threads: number): Trainer[] {
  const native = helperProgram(threads);
  const loop = pythonProgram('training.py', threads);
  const precisions = ['float32', 'bfloat16'] as const;
  return [
    ...precisions.map((precision) => ({
      label: `ltrp ${precision}`,
      precision,
      program: native,
      ownBlocks: true,
    })),
    ...precisions.map((precision) => ({
      label: `LibTorch autograd ${precision}`,
      precision,
      program: native,
      ownBlocks: false,
    })),
    ...(python === null
      ? []
      : [
          {
            label: 'PyTorch bfloat16 autocast',
            precision: 'bfloat16' as const,
            program: loop,
            ownBlocks: false,
          },
        ]),
  ];
}

function runs({ presets }: TrainingPlan): Run[] {
  const [patches, visible] = [196, 49];
  return [
    ...presets.map((preset): Run => {
      const { encoder, decoder } = maePresets[preset];
      const flops = pretrainingFlops({ encoder, decoder, patchSize: 16 }, { patches, visible });
      return { title: `pre-training ${preset}`, encoder, decoder, gflopPerImage: flops / 1e9 };
    }),
    ...presets.map((preset): Run => {
      const encoder = rankerPresets[preset];
      const flops = rankerTrainingFlops({ encoder, patchSize: 16 }, patches);
      return {
        title: `ranker ${preset}, without its teacher`,
        encoder,
        teacher: join(root, 'models', 'tiny-mae.safetensors'),
        gflopPerImage: flops / 1e9,
      };
    }),
  ];
}

export async function measureTraining(
  plan: TrainingPlan,
  python: string | null,
  pace: Pace,
): Promise<TrainingRow[]> {
  const rows: TrainingRow[] = [];
  for (const { title, ...run } of runs(plan)) {
    pace.say(`Training: ${title}`);
    // The loop in PyTorch pre-trains only.
    const entries = trainers(run.teacher === undefined ? python : null, pace.threads).map(
      (trainer) => ({ trainer, process: new Contender(trainer.label, trainer.program) }),
    );
    const times = new Map<string, number[]>();
    try {
      for (const { trainer, process } of entries) {
        const { batch, microBatch } = plan;
        await process.ask('hello', { threads: pace.threads });
        const { precision, ownBlocks } = trainer;
        await process.ask('training', { ...run, batch, microBatch, precision, ownBlocks });
        process.resetPeak();
        await process.ask('steps', { steps: 1 }, 1_800_000);
        times.set(trainer.label, []);
      }
      await inTurns(entries, pace, async ({ trainer, process }) => {
        const reply = await process.ask('steps', { steps: plan.steps }, 1_800_000);
        const teacher = reply['teacherMs'] as number[] | undefined;
        const own = (reply['ms'] as number[]).map((ms, i) => ms - (teacher?.[i] ?? 0));
        times.get(trainer.label)?.push(...own);
      });
      for (const { trainer, process } of entries) {
        const { label, precision } = trainer;
        const rate = spread((times.get(label) ?? []).map((ms) => (1000 * plan.batch) / ms));
        const memory = process.memory()?.peak ?? null;
        const { gflopPerImage } = run;
        rows.push({
          title,
          label,
          precision,
          imagesPerSecond: rate,
          gflopPerImage,
          memory,
          peakShare: null,
        });
        pace.say(`  ${label}: ${rate?.median.toFixed(1) ?? '–'} images/s`);
      }
    } finally {
      for (const { process } of entries) await process.close();
    }
  }
  return rows;
}

/** Of the faster of float32 and the row's own precision: a processor without bfloat16 trains in float32. */
export function fillTrainingShare(row: TrainingRow, peaks: readonly Peak[]): void {
  const found = peaks.filter(
    ({ precision }) => precision === 'float32' || precision === row.precision,
  );
  const peak = Math.max(...found.map(({ gflops }) => gflops ?? 0));
  if (row.imagesPerSecond === null || peak === 0) return;
  row.peakShare = (row.imagesPerSecond.median * row.gflopPerImage) / peak;
}
