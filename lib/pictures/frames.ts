/** Messages between processes through a pipe: something that can be JSON, and bytes. */
import { Buffer } from 'node:buffer';
import type { Writable } from 'node:stream';

/** Writes one message. The bytes must stay as they are until they are written. */
export function writeFrame(to: Writable, head: object, body: Uint8Array): void {
  const json = Buffer.from(JSON.stringify(head));
  const sizes = Buffer.alloc(16);
  sizes.writeDoubleLE(json.length, 0);
  sizes.writeDoubleLE(body.byteLength, 8);
  to.write(Buffer.concat([sizes, json]));
  if (body.byteLength > 0) to.write(body);
}

/** Puts messages together again. Returns what is to be called with every piece that comes. */
export function frameReader(
  receive: (head: unknown, body: Buffer) => void,
): (piece: Buffer) => void {
  let stage: 'sizes' | 'head' | 'body' = 'sizes';
  let part = Buffer.alloc(16);
  let filled = 0;
  let bodySize = 0;
  let head: unknown;
  const next = (): void => {
    filled = 0;
    if (stage === 'sizes') {
      stage = 'head';
      bodySize = part.readDoubleLE(8);
      part = Buffer.allocUnsafeSlow(part.readDoubleLE(0));
    } else if (stage === 'head') {
      stage = 'body';
      head = JSON.parse(part.toString());
      part = Buffer.allocUnsafeSlow(bodySize);
    } else {
      stage = 'sizes';
      const body = part;
      part = Buffer.alloc(16);
      receive(head, body);
    }
  };
  return (piece) => {
    for (let at = 0; at < piece.length;) {
      const copied = piece.copy(part, filled, at);
      at += copied;
      filled += copied;
      while (filled === part.length) next(); // an empty body is there with the head
    }
  };
}
