/** Telling a disk that cannot be written to from everything else that goes wrong with a download. */

const codes: ReadonlySet<string> = new Set([
  'ENOSPC',
  'EDQUOT',
  'EFBIG',
  'EACCES',
  'EPERM',
  'EROFS',
  'ENOTDIR',
  'EIO',
]);

/** True for errors of file operations which trying again does not mend. Network errors come wrapped by `fetch`, without a code. */
export function isWriteError(error: unknown): error is NodeJS.ErrnoException {
  if (!(error instanceof Error)) return false;
  const { code } = error as NodeJS.ErrnoException;
  return code !== undefined && codes.has(code);
}
