/** Reads golden tensors. The tests have a reader of their own, so that they do not trust the core's. */
import { readFileSync } from 'node:fs';

type Values = Float32Array | Float64Array | Int32Array;

export interface Tensor<T extends Values = Values> {
  shape: number[];
  data: T;
}

const readers = {
  F32: (bytes: ArrayBuffer) => new Float32Array(bytes),
  F64: (bytes: ArrayBuffer) => new Float64Array(bytes),
  I32: (bytes: ArrayBuffer) => new Int32Array(bytes),
  I64: (bytes: ArrayBuffer) => Int32Array.from(new BigInt64Array(bytes), Number),
};

export class Tensors {
  readonly #bytes: Buffer;
  readonly #header: Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  readonly #start: number;

  constructor(path: string) {
    this.#bytes = readFileSync(path);
    this.#start = 8 + Number(this.#bytes.readBigUInt64LE(0));
    this.#header = JSON.parse(this.#bytes.toString('utf8', 8, this.#start)) as never;
  }

  has(name: string): boolean {
    return name in this.#header;
  }

  get metadata(): Record<string, string> {
    return (this.#header['__metadata__'] ?? {}) as unknown as Record<string, string>;
  }

  #bytesOf(name: string, dtype: string): ArrayBuffer {
    const entry = this.#header[name];
    if (entry?.dtype !== dtype)
      throw new Error(`${name} is ${entry?.dtype ?? 'missing'}, not ${dtype}`);
    const [begin, end] = entry.data_offsets;
    return new Uint8Array(this.#bytes.subarray(this.#start + begin, this.#start + end)).buffer;
  }

  #get<T extends Values>(name: string, dtype: keyof typeof readers): Tensor<T> {
    const data = readers[dtype](this.#bytesOf(name, dtype)) as T;
    return { shape: this.#header[name]?.shape ?? [], data };
  }

  f32 = (name: string): Tensor<Float32Array> => this.#get(name, 'F32');
  f64 = (name: string): Tensor<Float64Array> => this.#get(name, 'F64');
  i32 = (name: string): Tensor<Int32Array> => this.#get(name, 'I32');
  /** I64 values that Int32Array cannot hold. */
  wide = (name: string): number[] =>
    Array.from(new BigInt64Array(this.#bytesOf(name, 'I64')), Number);
  ids = (name: string): Tensor<Int32Array> => this.#get(name, 'I64');
}
