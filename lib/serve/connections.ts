/** The connections of a server, and which of them have nothing to lose. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';

interface State {
  /** Requests without a complete answer. */
  active: number;
  /** Bytes that had come when the last of them was over. */
  seen: number;
  /** What is told that the connection is closed. */
  readonly closed: Set<() => void>;
}

/**
 * Node's own list counts a connection that has not sent anything yet as busy, and nothing looks again at one that turns idle after
 * close() was called.
 */
export class Connections {
  readonly #open = new Map<Socket, State>();

  constructor(server: Server) {
    server.on('connection', (socket: Socket) => {
      const closed = new Set<() => void>();
      this.#open.set(socket, { active: 0, seen: 0, closed });
      socket.once('close', () => {
        this.#open.delete(socket);
        for (const tell of [...closed]) tell();
      });
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

  /**
   * Calls `done` once: when the answer is complete, or its connection is closed. Node tells of that only the answer which is being
   * sent, not those to requests that were pipelined behind it.
   */
  whenOver({ socket }: IncomingMessage, answer: ServerResponse, done: () => void): void {
    const closed = this.#open.get(socket)?.closed;
    const over = (): void => {
      closed?.delete(over);
      answer.off('close', over);
      done();
    };
    closed?.add(over);
    answer.once('close', over);
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
