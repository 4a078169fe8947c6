/** The routes as OpenAPI describes them. */
import {
  classifyOptions,
  cropFormats,
  cropOptions,
  rankOptions,
  scoreOptions,
  selectOptions,
  type RouteOptions,
} from './options.js';

type Json = Readonly<Record<string, unknown>>;

/** A route that takes a picture. */
export interface PictureRoute {
  readonly options: RouteOptions;
  readonly summary: string;
  readonly description: string;
  /** The answer's schema by its content type. */
  readonly answers: Readonly<Record<string, Json>>;
}

const integer = { type: 'integer' } as const;
const ids = { type: 'array', items: integer, description: 'Ids of patches in raster order.' };
const values = { type: 'array', items: { type: 'number', nullable: true } };
const size = {
  width: { ...integer, description: 'Pixels of the picture, after its EXIF rotation.' },
  height: integer,
};
const sizeAndGrid = {
  ...size,
  grid: { type: 'object', properties: { rows: integer, columns: integer } },
};
const box = {
  type: 'array',
  items: integer,
  minItems: 4,
  maxItems: 4,
  description: 'left, top, width, height in pixels.',
};
const json = (properties: Json): PictureRoute['answers'] => ({
  'application/json': { type: 'object', properties },
});

export const pictureRoutes = {
  rank: {
    options: rankOptions,
    summary: 'Rank the patches of a picture',
    description: 'A logit for every patch in raster order, larger for patches worth more.',
    answers: json({ ...sizeAndGrid, logits: values, kept: ids }),
  },
  select: {
    options: selectOptions,
    summary: 'Choose the patches to keep',
    description: 'The kept patches, and their rectangles in pixels of the picture.',
    answers: json({ ...sizeAndGrid, kept: ids, boxes: { type: 'array', items: box } }),
  },
  crop: {
    options: cropOptions,
    summary: 'Cut a picture to its kept patches',
    description:
      'The smallest rectangle that has all kept patches, in pixels of the picture. The header ltrp-box gives left, top, width and height.',
    answers: Object.fromEntries(
      cropFormats.map((format) => [`image/${format}`, { type: 'string', format: 'binary' }]),
    ),
  },
  score: {
    options: scoreOptions,
    summary: 'Ask the teacher what each patch is worth',
    description:
      'Mean and standard error over random masks, in raster order. Much slower than ranking.',
    answers: json({ ...sizeAndGrid, scores: values, standardErrors: values }),
  },
  classify: {
    options: classifyOptions,
    summary: 'Classify a picture',
    description: "The classifier's likeliest classes for the centre of the picture.",
    answers: json({
      ...size,
      top: {
        type: 'array',
        items: { type: 'object', properties: { class: integer, logit: { type: 'number' } } },
      },
      kept: ids,
    }),
  },
} as const satisfies Record<string, PictureRoute>;

export type PictureRouteName = keyof typeof pictureRoutes;

const failure = {
  type: 'object',
  properties: {
    error: {
      type: 'object',
      properties: { code: { type: 'string' }, message: { type: 'string' } },
    },
  },
};

const failures: Readonly<Record<number, string>> = {
  400: 'An option is wrong, there is no picture, or it is too small.',
  413: 'The picture has too many bytes or pixels.',
  415: 'The bytes are not a supported picture.',
  422: 'The model gave a value that is not finite.',
  429: 'The service is busy; the header retry-after says when to try again.',
  503: 'The service is stopping.',
  504: 'It took too long.',
};

/** What Fastify and its OpenAPI plugin are told of a route. */
export function schemaOf({ options, summary, description, answers }: PictureRoute): Json {
  const properties = Object.fromEntries(
    Object.entries(options).map(([name, { schema }]) => [name, schema]),
  );
  const binary = { type: 'string', format: 'binary' };
  const inJson = {
    picture: { type: 'string', format: 'byte', description: 'The bytes of the file in base64.' },
    url: {
      type: 'string',
      description: 'Its address; refused unless the service was started with --allow-urls.',
    },
  };
  const content = (schema: Json): Json => ({ content: { 'application/json': { schema } } });
  return {
    summary,
    description,
    querystring: { type: 'object', properties },
    body: {
      content: {
        'multipart/form-data': {
          schema: { type: 'object', properties: { picture: binary, ...properties } },
        },
        'image/*': { schema: binary },
        'application/octet-stream': { schema: binary },
        'application/json': {
          schema: { type: 'object', properties: { ...inJson, ...properties } },
        },
      },
    },
    response: {
      200: {
        description: 'Done.',
        content: Object.fromEntries(
          Object.entries(answers).map(([type, schema]) => [type, { schema }]),
        ),
      },
      ...Object.fromEntries(
        Object.entries(failures).map(([status, text]) => [
          status,
          { description: text, ...content(failure) },
        ]),
      ),
    },
  };
}
