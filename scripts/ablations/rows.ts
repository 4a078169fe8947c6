/** The rows of the tables: two bases, and what differs from one of them in one thing. */
import { rankerPresets } from '../../lib/training/presets.js';
import { drops, lossNames, metrics, type LossName } from '../../lib/types.js';
import type { TeacherSettings } from '../evaluate/teacher-maps.js';

/** How a teacher's map is made. */
export interface MapSettings extends TeacherSettings {
  rounds: number;
}

/** How a ranker learns. */
export interface RankerSettings {
  /** Of the maps that it learns from, whose other settings are those of {@link mapBase}. */
  rounds: number;
  loss: LossName;
  /** Of focusedRank, which has no default. */
  lossK: number | null;
  smoothing: number;
  /** Width of the blocks; depth and heads stay. */
  dim: number;
  /** Trained by convolutional.py and not by `ltrp train`: the base's own network, or a convolutional one of equal cost. */
  pytorch?: 'ViT' | 'ResNet';
}

interface AnyRow<Half, Settings> {
  half: Half;
  name: string;
  settings: Settings;
  /** What differs from the base's settings. */
  change: Partial<Settings>;
  /** Name of the row that it is compared with. Default: the base of its half. */
  against?: string | undefined;
}

export interface MapRow extends AnyRow<'maps', MapSettings> {
  /** Measured on so many pictures at most, for maps that take long. */
  pictures: number;
}

export type RankerRow = AnyRow<'ranker', RankerSettings>;

export type Row = MapRow | RankerRow;

/** Of the maps that the embedded ranker learned from, with a second round: its two are compared. */
export const mapBase: MapSettings = {
  maskRatio: 0.75,
  metric: 'reach',
  surprise: true,
  drop: 'decoder',
  precision: 'bfloat16',
  rounds: 2,
};

/** Of the embedded ranker; scripts/train-embedded has its recipe. */
export const rankerBase: RankerSettings = {
  rounds: 1,
  loss: 'listMle',
  lossK: null,
  smoothing: 0.7,
  dim: rankerPresets.tiny.dim,
};

const { dim } = rankerBase;

export const rows: readonly Row[] = [
  map('base', {}),
  ...[0.5, 0.9].map((maskRatio) => map(`mask-ratio-${maskRatio}`, { maskRatio })),
  ...others(metrics, mapBase.metric).map((metric) => map(`metric-${metric}`, { metric })),
  map('no-surprise', { surprise: false }),
  ...others(drops, mapBase.drop).map((drop) => map(`drop-${drop}`, { drop })),
  map('rounds-1', { rounds: 1 }),
  map('rounds-4', { rounds: 4 }),
  map('rounds-16', { rounds: 16 }),
  map('rounds-64', { rounds: 64 }, 24),
  map('paper', { metric: 'l1', maskRatio: 0.9, surprise: false }),
  ranker('base', {}),
  ...others(lossNames, rankerBase.loss).map((loss) =>
    // The paper's k.
    ranker(`loss-${loss}`, { loss, ...(loss === 'focusedRank' && { lossK: 20 }) }),
  ),
  ranker('width-half', { dim: dim / 2 }),
  ranker('width-double', { dim: dim * 2 }),
  ranker('rounds-4', { rounds: 4 }),
  ranker('no-smoothing', { smoothing: 0 }),
  ranker('vit-pytorch', { pytorch: 'ViT' }),
  // Networks are compared, not trainers.
  ranker('convolutional', { pytorch: 'ResNet' }, 'ranker/vit-pytorch'),
];

function map(name: string, change: Partial<MapSettings>, pictures = Infinity): MapRow {
  const settings = { ...mapBase, ...change };
  return { half: 'maps', name: `maps/${name}`, settings, change, pictures };
}

function ranker(name: string, change: Partial<RankerSettings>, against?: string): RankerRow {
  const settings = { ...rankerBase, ...change };
  return { half: 'ranker', name: `ranker/${name}`, settings, change, against };
}

function others<Word>(all: readonly Word[], base: Word): Word[] {
  return all.filter((word) => word !== base);
}
