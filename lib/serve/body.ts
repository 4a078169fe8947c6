/** The picture and the options of a request: raw bytes, a form, or JSON. */
import type { FastifyRequest } from 'fastify';
import { isLtrpError } from '../errors.js';
import { invalid } from '../validation.js';
import { multipartOverhead, type Limits } from './limits.js';
import { Problem, tooLarge } from './problems.js';

/** What a request gave. */
export interface Given {
  /** Of the picture's file. */
  readonly bytes: Buffer;
  readonly options: ReadonlyMap<string, unknown>;
}

/** Fetches a picture whose address is allowed. */
export type FetchPicture = (url: string, signal: AbortSignal) => Promise<Buffer>;

/** Fields of a form besides the picture, and what they may take. */
const formLimits = (bytes: number) => ({
  fileSize: bytes,
  files: 1,
  fields: 32,
  fieldSize: 1000,
  fieldNameSize: 100,
  parts: 33,
  headerPairs: 100,
});

/** Bytes of a request's body, at most. */
export function mostBytes(contentType: string | undefined, limits: Limits, json: number): number {
  if (isJson(contentType)) return json;
  return isForm(contentType) ? limits.bytes + multipartOverhead : limits.bytes;
}

const isJson = (type: string | undefined): boolean =>
  /^application\/json\s*(;|$)/i.test(type ?? '');
const isForm = (type: string | undefined): boolean =>
  /^multipart\/form-data\s*(;|$)/i.test(type ?? '');

/**
 * Reads a request. The bytes tell what a picture is, whatever its content type says; only JSON and forms are told by it.
 *
 * @throws {Problem} 400, 413, 415.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT`
 */
export async function readGiven(
  request: FastifyRequest,
  limits: Limits,
  fetchPicture: FetchPicture | undefined,
  signal: AbortSignal,
): Promise<Given> {
  if (request.body instanceof Problem) throw request.body;
  const options = new Map<string, unknown>();
  add(options, request.query as Record<string, unknown>);
  const type = request.headers['content-type'];
  let bytes: Buffer | undefined;
  if (isForm(type)) bytes = await readForm(request, limits, options);
  else if (isJson(type)) bytes = await readJson(request, options, fetchPicture, signal);
  else bytes = request.body as Buffer | undefined;
  if (bytes === undefined || bytes.length === 0) {
    throw new Problem(
      400,
      'ERR_SERVE_REQUEST',
      'There is no picture: send its bytes as the body, as the file of a form, or as base64 in the field picture of JSON.',
    );
  }
  if (bytes.length > limits.bytes) {
    throw tooLarge(`The picture has ${bytes.length} bytes; at most ${limits.bytes} are taken.`);
  }
  return { bytes, options };
}

/** Adds options, each of which may come once. */
function add(options: Map<string, unknown>, given: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(given)) {
    if (options.has(name) || Array.isArray(value)) {
      throw invalid(`The option ${JSON.stringify(name.slice(0, 100))} is given more than once.`);
    }
    options.set(name, value);
  }
}

async function readForm(
  request: FastifyRequest,
  limits: Limits,
  options: Map<string, unknown>,
): Promise<Buffer | undefined> {
  try {
    return await readParts(request, limits, options);
  } catch (error) {
    if (error instanceof Problem || isLtrpError(error)) throw error;
    const { statusCode, message } = error as { statusCode?: number; message: string };
    if (statusCode !== undefined) throw error;
    throw new Problem(400, 'ERR_SERVE_REQUEST', `The form cannot be read: ${message}.`);
  }
}

async function readParts(
  request: FastifyRequest,
  limits: Limits,
  options: Map<string, unknown>,
): Promise<Buffer | undefined> {
  let bytes: Buffer | undefined;
  // Every part is consumed to its end: only then is its limit known to hold.
  for await (const part of request.parts({ limits: formLimits(limits.bytes) })) {
    if (part.type === 'file') bytes = await part.toBuffer();
    else {
      if (part.valueTruncated || part.fieldnameTruncated) {
        throw invalid(`The field ${JSON.stringify(part.fieldname)} of the form is too long.`);
      }
      add(options, { [part.fieldname]: part.value });
    }
  }
  return bytes;
}

async function readJson(
  request: FastifyRequest,
  options: Map<string, unknown>,
  fetchPicture: FetchPicture | undefined,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  const { picture, url, ...others } = parsed(request.body as Buffer);
  add(options, others);
  if (url !== undefined) {
    if (fetchPicture === undefined) {
      throw new Problem(
        400,
        'ERR_SERVE_URL',
        'This service does not fetch URLs; send the bytes of the picture.',
      );
    }
    if (typeof url !== 'string' || picture !== undefined) {
      throw invalid('Give one of picture, in base64, and url, a string.');
    }
    return fetchPicture(url, signal);
  }
  if (picture === undefined) return undefined;
  if (typeof picture !== 'string' || !/^[\w+/-]*={0,2}$/.test(picture)) {
    throw invalid('picture must be the bytes of the file in base64, without anything before them.');
  }
  return Buffer.from(picture, 'base64');
}

function parsed(body: Buffer | undefined): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse((body ?? Buffer.alloc(0)).toString('utf8'));
  } catch (error) {
    throw new Problem(
      400,
      'ERR_SERVE_REQUEST',
      `The body is not JSON: ${(error as Error).message}.`,
    );
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalid('The body must be a JSON object with the field picture.');
  }
  return value as Record<string, unknown>;
}
