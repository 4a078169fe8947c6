/** Refusals and failures as HTTP: a status, and a body of `{ error: { code, message } }`. */
import { isLtrpError, LtrpError, type LtrpErrorCode } from '../errors.js';

/** What only a service refuses. Pictures and options are refused with the codes of an `LtrpError`. */
export type ServiceCode =
  | 'ERR_SERVE_BUSY'
  | 'ERR_SERVE_STOPPING'
  | 'ERR_SERVE_TOO_LARGE'
  | 'ERR_SERVE_TIMEOUT'
  | 'ERR_SERVE_CLIENT_GONE'
  | 'ERR_SERVE_REQUEST'
  | 'ERR_SERVE_URL'
  | 'ERR_SERVE_NOT_FOUND';

/** An answer that is no result. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly code: ServiceCode | LtrpErrorCode,
    message: string,
    readonly retryAfter?: number,
  ) {
    super(message);
  }
}

/** What nobody reads: the client has gone. The status is nginx's, for logs and metrics. */
export const clientGone = (): Problem =>
  new Problem(499, 'ERR_SERVE_CLIENT_GONE', 'The client closed the connection.');

export const tooLarge = (message: string): Problem =>
  new Problem(413, 'ERR_SERVE_TOO_LARGE', message);

/** A picture refused by its header. Decoding passes on only errors of the library as they are. */
export class TooManyPixels extends LtrpError {
  constructor(message: string) {
    super('ERR_LTRP_IMAGE_SIZE', message);
  }
}

/** Statuses of the codes of the library that are not the service's fault, or pass. */
const statuses: Partial<Record<LtrpErrorCode, number>> = {
  ERR_LTRP_IMAGE_DECODE: 415,
  ERR_LTRP_IMAGE_SIZE: 400,
  ERR_LTRP_INVALID_ARGUMENT: 400,
  ERR_LTRP_OUT_OF_MEMORY: 503,
  ERR_LTRP_NOT_FINITE: 422,
};

/** What Fastify and its plugins throw. */
interface WebError {
  statusCode?: unknown;
  code?: unknown;
  message?: unknown;
}

/**
 * The answer to an error. A message of an error that is neither the request's fault nor of this package stays in the log: it may
 * tell of files and addresses of the service.
 */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof TooManyPixels) return tooLarge(error.message);
  if (isLtrpError(error)) {
    const { code, message } = error;
    return new Problem(statuses[code] ?? 500, code, message);
  }
  const { statusCode, message } = (error ?? {}) as WebError;
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    const code = statusCode === 413 ? 'ERR_SERVE_TOO_LARGE' : 'ERR_SERVE_REQUEST';
    // The multipart plugin's 406 is about the form, not about the answer.
    return new Problem(statusCode === 406 ? 400 : statusCode, code, String(message));
  }
  return new Problem(500, 'ERR_LTRP_INTERNAL', 'The service failed; its log says why.');
}
