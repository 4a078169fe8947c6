/** The part of tar-stream that reads single headers; its own types leave it out. */
declare module 'tar-stream/headers.js' {
  namespace headers {
    interface Header {
      name: string;
      size: number;
      type: string | null;
    }
    /** Null for a block of zeros. Throws for a wrong checksum and, unless `allowUnknownFormat`, without a magic number. */
    function decode(
      block: Uint8Array,
      filenameEncoding: string,
      allowUnknownFormat: boolean,
    ): Header | null;
    function decodePax(bytes: Uint8Array): Record<string, string>;
    function decodeLongPath(bytes: Uint8Array, encoding: string): string;
  }
  export = headers;
}
