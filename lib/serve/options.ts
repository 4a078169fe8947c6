/** The options of each route, once: how they are read from a query, a form or JSON, and how OpenAPI describes them. */
import { readGrid } from '../patch-grid.js';
import { shareOf, type Interval } from '../share.js';
import { drops, metrics } from '../types.js';
import { checkChoice, checkInteger, checkShare, invalid } from '../validation.js';

/** A JSON schema, as far as these options need it. */
interface Schema {
  readonly type: 'integer' | 'number' | 'string';
  readonly description: string;
  readonly minimum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly maximum?: number;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  readonly default?: number | string;
}

/** One option. */
export interface RouteOption {
  readonly schema: Schema;
  /** The value in the types of the library; a default is one already. @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` */
  readonly read: (name: string, value: unknown) => unknown;
}

export type RouteOptions = Readonly<Record<string, RouteOption>>;

const integer = (
  description: string,
  minimum: number,
  maximum: number,
  standard?: number,
): RouteOption => ({
  schema: {
    ...{ type: 'integer', description, minimum, maximum },
    ...(standard === undefined ? {} : { default: standard }),
  },
  read: (name, value) => {
    const number = typeof value === 'string' && /^\d+$/.test(value) ? Number(value) : value;
    checkInteger(name, number, minimum, maximum);
    return number;
  },
});

const share = (description: string, interval: Interval, standard?: number): RouteOption => ({
  schema: {
    ...{ type: 'number', description },
    ...(interval.startsWith('[') ? { minimum: 0 } : { exclusiveMinimum: 0 }),
    ...(interval.endsWith(']') ? { maximum: 1 } : { exclusiveMaximum: 1 }),
    ...(standard === undefined ? {} : { default: standard }),
  },
  read: (name, value) => {
    const number = typeof value === 'string' ? shareOf(value) : value;
    checkShare(name, Number.isNaN(number) ? value : number, interval);
    return number;
  },
});

const choice = (
  description: string,
  choices: readonly string[],
  standard: string,
): RouteOption => ({
  schema: { type: 'string', description, enum: choices, default: standard },
  read: (name, value) => {
    checkChoice(name, value, choices);
    return value;
  },
});

/** Attention takes time with the square of their number. rankFiles allows more; a stranger's request may not take all of it. */
const mostPatches = 4096;

const grid: RouteOption = {
  schema: {
    type: 'string',
    description: `Rows and columns of patches, such as 14x14, ${mostPatches} patches at most. Without it the grid that distorts the patches least.`,
    pattern: '^\\d{1,5}x\\d{1,5}$',
  },
  read: (name, value) => {
    const match = typeof value === 'string' ? /^(\d{1,5})x(\d{1,5})$/.exec(value) : null;
    if (match === null) throw invalid(`${name} must be ROWSxCOLUMNS, such as 14x14.`);
    return readGrid({ rows: Number(match[1]), columns: Number(match[2]) }, mostPatches);
  },
};

const cutting = {
  grid,
  patches: integer(
    'About this many patches. Default: as many as the model was made for.',
    2,
    mostPatches,
  ),
};

const seed = integer('Seed of random draws.', 0, Number.MAX_SAFE_INTEGER, 0);

const keeping = (standard?: number): RouteOptions => ({
  keep: integer('Patches to keep. Only one of keep and keepRatio.', 1, mostPatches),
  keepRatio: share(
    `Share of the patches to keep, such as 0.5 or 50%.${standard === undefined ? ' Without it and keep, none are chosen.' : ` Default ${standard}, without keep.`}`,
    '(0, 1]',
  ),
  scoreShare: share(
    'Share of the kept patches that the logit alone chooses; the rest adds diversity.',
    '[0, 1]',
    1,
  ),
  seed,
});

/** Kept where a request does not say. */
export const standardKeep = { select: 0.5, crop: 0.25 } as const;

export const rankOptions: RouteOptions = { ...keeping(), ...cutting };
export const selectOptions: RouteOptions = { ...keeping(standardKeep.select), ...cutting };

/** Formats that a crop is written in. */
export const cropFormats = ['jpeg', 'png', 'webp'] as const;
export type CropFormat = (typeof cropFormats)[number];

/** Pixels of a side that a format can store, at most. */
export const longestSides: Readonly<Record<CropFormat, number>> = {
  jpeg: 65500,
  png: Infinity,
  webp: 16383,
};

export const cropOptions: RouteOptions = {
  ...keeping(standardKeep.crop),
  ...cutting,
  padding: integer('Pixels added on each side, as far as there are any.', 0, 10_000, 0),
  format: choice('Format of the answer.', cropFormats, 'jpeg'),
  quality: integer('Quality of a JPEG or WebP.', 1, 100, 85),
};

export const scoreOptions: RouteOptions = {
  rounds: integer('Every patch is visible in at least this many masks.', 1, 1024, 4),
  maskRatio: share('Share of the patches to hide.', '(0, 1)', 0.9),
  drop: choice('Where the patch is removed.', drops, 'decoder'),
  metric: choice('How reconstructions are compared.', metrics, 'l1'),
  seed,
  ...cutting,
};

export const classifyOptions: RouteOptions = {
  topK: integer('Maximum number of classes to name.', 1, 1000, 5),
  keepRatio: share(
    'Share of the patches that the classifier sees, chosen by the ranker. Default: all.',
    '(0, 1]',
  ),
};

/**
 * Reads what a request gave, and adds the defaults. A name that the route does not have is refused, because a misspelled option would
 * silently be the default.
 *
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT`
 */
export function readOptions(
  known: RouteOptions,
  given: ReadonlyMap<string, unknown>,
): Record<string, unknown> {
  const options: Record<string, unknown> = {};
  for (const [name, value] of given) {
    const option = Object.hasOwn(known, name) ? known[name] : undefined;
    if (option === undefined) {
      const names = Object.keys(known).join(', ');
      throw invalid(
        `There is no option ${JSON.stringify(name.slice(0, 100))}; what there is: ${names}.`,
      );
    }
    options[name] = option.read(name, value);
  }
  for (const [one, other] of [
    ['keep', 'keepRatio'],
    ['grid', 'patches'],
  ] as const) {
    if (given.has(one) && given.has(other)) throw invalid(`Give one of ${one} and ${other}.`);
  }
  for (const [name, { schema }] of Object.entries(known)) {
    if (schema.default !== undefined) options[name] ??= schema.default;
  }
  return options;
}
