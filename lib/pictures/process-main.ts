/**
 * The process that decodes what may last long or need much memory (see `process.ts`). It ends with its
 * channel, file handle 3, whatever it is doing.
 */
import { Socket } from 'node:net';
import process from 'node:process';
import { loadSharp } from '../sharp.js';
import { frameReader, writeFrame } from './frames.js';
import { started, type Task } from './process.js';
import { readHeader, render } from './render.js';

const channel = new Socket({ fd: 3 });
const nothing = new Uint8Array(0);

async function answer(id: number, task: Task, bytes: Buffer): Promise<void> {
  try {
    const sharp = await loadSharp();
    if (task.kind === 'header') {
      writeFrame(channel, { id, header: await readHeader(sharp, bytes) }, nothing);
    } else {
      const { pixels, ...size } = await render(sharp, bytes, task.header, task.scaling);
      writeFrame(channel, { id, size }, pixels);
    }
  } catch (error) {
    const { message } = error as Error;
    writeFrame(channel, { id, failed: message }, nothing);
  }
}

// Exiting in order would wait for what is being decoded.
const end = (): void => {
  process.kill(process.pid, 'SIGKILL');
};

channel
  .on(
    'data',
    frameReader((head, body) => {
      const { id, task } = head as { id: number; task: Task };
      void answer(id, task, body);
    }),
  )
  .on('end', end)
  .on('close', end)
  .on('error', end);
loadSharp().then((sharp) => {
  sharp.cache(false); // no picture is decoded twice, and memory is freed at once
  writeFrame(channel, { id: started }, nothing);
}, end);
