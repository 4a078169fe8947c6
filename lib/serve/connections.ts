/** The connections of a server, and which of them have nothing to lose. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

interface State {
  /** Requests without a complete answer. */
  active: number;
  /** Bytes that had come when the last of them was over. */
  seen: number;
}

/**
 * Node's own list counts a connection that has not sent anything yet as busy, and nothing looks again at one that turns idle after
 * close() was called.
 */
export class Connections {
  readonly #open = new Map<Socket, State>();

  constructor(server: Server) {
    server.on('connection', (socket: Socket) => {
      this.#open.set(socket, { active: 0, seen: 0 });
      socket.once('close', () => this.#open.delete(socket));
    });
    server.on('request', (request: IncomingMessage, response: ServerResponse) => {
      const { socket } = request;
      const state = this.#open.get(socket);
      if (state === undefined) return;
      const over = (): void => {
        state.seen = socket.bytesRead;
      };
      state.active++;
      response.once('close', () => {
        state.active--;
        over();
      });
      // An answer may precede the end of the body.
      request.once('close', over);
    });
  }

  get size(): number {
    return this.#open.size;
  }

  /** Connections with a request that has no complete answer. */
  get busy(): number {
    return [...this.#open.values()].filter(({ active }) => active > 0).length;
  }

  /** Closes connections on which nothing is asked: no request is open, and no byte has come since the last one. */
  closeIdle(): void {
    for (const [socket, { active, seen }] of this.#open) {
      if (active === 0 && socket.bytesRead === seen) socket.destroy();
    }
  }
}
