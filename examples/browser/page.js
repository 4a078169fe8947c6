/** Ranks the patches of a picture in this page: the exported ranker in onnxruntime-web. Nothing is sent anywhere. */
import * as ort from './ort/ort.wasm.min.mjs';

ort.env.wasm.wasmPaths = new URL('./ort/', import.meta.url).href;
// Threads need a page that is isolated from other origins.
ort.env.wasm.numThreads = crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;

// Of the embedded ranker; the metadata `ltrp.config` of the exported file has them.
const [side, patch] = [224, 16];
const mean = [0.485, 0.456, 0.406];
const std = [0.229, 0.224, 0.225];
const columns = side / patch;

let session;
let shown;

/** Float32Array [3 * side * side] of RGBA bytes [side * side * 4]. */
export function normalised(rgba) {
  const pixels = new Float32Array(3 * side * side);
  for (let at = 0; at < side * side; at++) {
    for (let channel = 0; channel < 3; channel++) {
      const value = rgba[4 * at + channel] / 255;
      pixels[channel * side * side + at] = (value - mean[channel]) / std[channel];
    }
  }
  return pixels;
}

/** Logits of the patches in raster order; larger ranks higher. */
export async function rank(pixels) {
  session ??= ort.InferenceSession.create('./ranker.onnx');
  const images = new ort.Tensor('float32', pixels, [1, 3, side, side]);
  const { logits } = await (await session).run({ images });
  return logits.data;
}

const element = (id) => document.getElementById(id);

/** The picture's central square, ranked. */
async function take(file) {
  element('status').textContent = 'Ranking …';
  const bitmap = await createImageBitmap(file);
  const square = Math.min(bitmap.width, bitmap.height);
  const [left, top] = [(bitmap.width - square) / 2, (bitmap.height - square) / 2];
  const small = new OffscreenCanvas(side, side).getContext('2d');
  small.imageSmoothingQuality = 'high';
  small.drawImage(bitmap, left, top, square, square, 0, 0, side, side);
  const logits = await rank(normalised(small.getImageData(0, 0, side, side).data));
  const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a]);
  shown = { draw: [bitmap, left, top, square, square], order };
  show();
}

function show() {
  if (shown === undefined) return;
  const { draw, order } = shown;
  const canvas = element('picture');
  const context = canvas.getContext('2d');
  const unit = canvas.width / columns;
  context.drawImage(...draw, 0, 0, canvas.width, canvas.height);
  context.fillStyle = 'rgb(0 0 0 / 75%)';
  const kept = Math.max(1, Math.round((order.length * element('share').value) / 100));
  for (const id of order.slice(kept))
    context.fillRect((id % columns) * unit, Math.floor(id / columns) * unit, unit, unit);
  const threads = ort.env.wasm.numThreads === 1 ? '1 thread' : `${ort.env.wasm.numThreads} threads`;
  element('status').textContent = `${kept} of ${order.length} patches kept (${threads})`;
}

const report = (error) => {
  element('status').textContent = `This picture cannot be ranked: ${error.message}`;
};

addEventListener('dragover', (event) => {
  event.preventDefault();
});
addEventListener('drop', (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (file !== undefined) take(file).catch(report);
});
element('file').addEventListener('change', ({ target }) => {
  if (target.files.length > 0) take(target.files[0]).catch(report);
});
element('share').addEventListener('input', show);
