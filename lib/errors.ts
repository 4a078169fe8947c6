/** The one error class of the package. `code` is stable and for programs; `message` says what is wrong and what to do. */
export class LtrpError extends Error {
  /** `ERR_LTRP_…`, of those that docs/troubleshooting.md explains. */
  readonly code: string;

  /** For the package itself: code, sentence, and what it was caused by. */
  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'LtrpError';
    this.code = code;
  }
}

/** Wraps whatever was thrown: an LtrpError as it is, a native `Error` with `code: 'ERR_LTRP_…'` under its code, anything else as ERR_LTRP_INTERNAL. */
export function toLtrpError(error: unknown): LtrpError {
  if (error instanceof LtrpError) return error;
  if (error instanceof Error) {
    const code = (error as { code?: unknown }).code;
    if (typeof code === 'string' && code.startsWith('ERR_LTRP_')) {
      return new LtrpError(code, error.message, { cause: error });
    }
    return new LtrpError('ERR_LTRP_INTERNAL', error.message, { cause: error });
  }
  return new LtrpError('ERR_LTRP_INTERNAL', String(error), { cause: error });
}
