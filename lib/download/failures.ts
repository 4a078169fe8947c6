/** Failures in words: the wrong content of a download, a failed request, a disk that cannot be written to. */

const magic: readonly [kind: string, hex: string][] = [
  ['a zip file', '504b0304'],
  ['a gzip file', '1f8b'],
  ['a program or library', '7f454c46'],
];

const kinds: readonly [kind: string, begins: RegExp][] = [
  ['an HTML page', /^(\ufeff|\s|<!--[^]*?-->)*<(!doctype\s+html|html|head|body)\b/i],
  ['XML', /^(\ufeff|\s)*<[?!a-z]/i],
  ['JSON', /^\s*[[{]/],
];

/** `text` on one line, in quotes, 200 characters of it at most. */
export function quote(text: string): string {
  const line = text
    .slice(0, 4000)
    .replace(/[^\P{C}\s]/gu, '\ufffd')
    .replace(/\s+/g, ' ')
    .trim();
  return `"${line.length > 200 ? `${line.slice(0, 199)}…` : line}"`;
}

/** Of a whole content, or its first bytes: `an HTML page that begins "<!DOCTYPE html> …"`. */
export function describe(start: Uint8Array): string {
  if (start.length === 0) return 'nothing (0 bytes)';
  const bytes = Buffer.from(start.buffer, start.byteOffset, Math.min(start.length, 4000));
  const hex = bytes.toString('hex', 0, 8);
  const file = magic.find(([, beginning]) => hex.startsWith(beginning))?.[0];
  if (file !== undefined) return file;
  if (bytes.includes(0)) return `bytes that begin with ${hex}`;
  const kind = kinds.find(([, begins]) => begins.test(bytes.toString('latin1')))?.[0];
  return `${kind ?? 'text'} that begins ${quote(bytes.toString('utf8'))}`;
}

/** The first bytes of an answer, whose rest is given up. */
export async function startOf(body: AsyncIterable<Uint8Array> | null): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of body ?? []) {
    chunks.push(chunk);
    length += chunk.length;
    if (length >= 1000) break;
  }
  return Buffer.concat(chunks);
}

/** Why a request failed: `fetch` hides it in causes, and Node one attempt for each address in those. */
export function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  if (!(cause instanceof Error)) return quote(String(cause));
  if (cause.message !== '') return cause.message;
  if (cause instanceof AggregateError) return cause.errors.map(reasonOf).join('; ');
  return (cause as NodeJS.ErrnoException).code ?? cause.name;
}

/** True for errors of file operations which trying again does not mend. Network errors come wrapped by `fetch`, without a code. */
export function isWriteError(error: unknown): error is NodeJS.ErrnoException {
  const { code } = (error instanceof Error ? error : {}) as NodeJS.ErrnoException;
  return /^E(NOSPC|DQUOT|FBIG|ACCES|PERM|ROFS|NOTDIR|EXIST|NAMETOOLONG|LOOP|IO)$/.test(code ?? '');
}
