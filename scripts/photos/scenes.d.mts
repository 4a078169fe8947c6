/** Of scenes.mjs, for TypeScript. */
export interface Scene {
  index: number;
  /** Paths. The mask is grey: 0 is background, k is object k − 1 of `categories`. */
  image: string;
  mask: string;
  categories: string[];
}

export function makeScenes(options: {
  split: 'train' | 'val' | 'test';
  size: number;
  count: number;
  seed?: number;
  extra?: boolean;
  onProgress?: (made: number, total: number) => void;
}): Promise<string>;

export function readScenes(folder: string, count: number): Scene[];
