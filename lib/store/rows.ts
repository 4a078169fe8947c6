/** The rows of results, and their Parquet schema (docs/data-at-size.md). */
import { createHash, type Hash } from 'node:crypto';
import type { SchemaElement } from 'hyparquet';
import type { ResultKind } from './manifest.js';

/** One picture's result. What a picture that cannot be read has not is null. */
export interface ResultRow {
  image: string;
  width: number | null;
  height: number | null;
  rows: number | null;
  columns: number | null;
  /** Of `rank`: [L]. */
  logits?: readonly number[] | null;
  kept?: readonly number[] | null;
  /** Of `score`: [L] each. */
  means?: readonly number[] | null;
  errors?: readonly number[] | null;
  /** Why there is no result. */
  problem: string | null;
}

const text = (name: string, required: boolean): SchemaElement[] => [
  {
    name,
    type: 'BYTE_ARRAY',
    converted_type: 'UTF8',
    repetition_type: required ? 'REQUIRED' : 'OPTIONAL',
  },
];
const integer = (name: string): SchemaElement[] => [
  { name, type: 'INT32', repetition_type: 'OPTIONAL' },
];
const list = (name: string, type: 'FLOAT' | 'INT32'): SchemaElement[] => [
  { name, repetition_type: 'OPTIONAL', num_children: 1, converted_type: 'LIST' },
  { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
  { name: 'element', type, repetition_type: 'REQUIRED' },
];

const lists = {
  rank: { logits: 'FLOAT', kept: 'INT32' },
  score: { means: 'FLOAT', errors: 'FLOAT' },
} as const;

const grid = ['width', 'height', 'rows', 'columns'] as const;

/** Names of the columns, in order. */
export const columnsOf = (kind: ResultKind): string[] => [
  'image',
  ...grid,
  ...Object.keys(lists[kind]),
  'model',
  'version',
  'problem',
];

export function schemaOf(kind: ResultKind): SchemaElement[] {
  return [
    { name: 'results', num_children: columnsOf(kind).length },
    ...text('image', true),
    ...grid.flatMap(integer),
    ...Object.entries(lists[kind]).flatMap(([name, type]) => list(name, type)),
    ...text('model', true),
    ...text('version', true),
    ...text('problem', false),
  ];
}

/** A digest of all that rows say, to tell whether a file still says it: Parquet's readers do not all check its sums. */
export class RowsDigest {
  readonly #hash: Hash = createHash('sha256');

  constructor(private readonly kind: ResultKind) {}

  add(row: Readonly<Record<string, unknown>>): void {
    const { image, problem } = row;
    const fields = [image, ...grid.map((name) => row[name]), problem];
    this.#hash.update(`${JSON.stringify(fields.map((field) => field ?? null))}\n`);
    for (const [name, type] of Object.entries(lists[this.kind])) {
      const values = row[name] as ArrayLike<number> | null | undefined;
      if (values == null) continue;
      const array = type === 'FLOAT' ? Float32Array.from(values) : Int32Array.from(values);
      // One pattern of bits for all that is not a number.
      if (array instanceof Float32Array) {
        for (let i = 0; i < array.length; i++) if (Number.isNaN(array[i])) array[i] = NaN;
      }
      this.#hash.update(array);
    }
  }

  get hex(): string {
    return this.#hash.copy().digest('hex');
  }
}
