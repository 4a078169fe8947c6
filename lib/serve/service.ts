/** The HTTP service: its routes, its order of refusals, and how it stops. */
import { lookup } from 'node:dns/promises';
import type { IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { packageVersion } from '../native/paths.js';
import { mostBytes, readGiven, type FetchPicture } from './body.js';
import { Connections } from './connections.js';
import { pictureRoutes, schemaOf, type PictureRouteName } from './description.js';
import { Admission, jsonBytes, type Limits, type Place } from './limits.js';
import { makeMetrics, type Metrics } from './metrics.js';
import { readOptions } from './options.js';
import { loadPackages, type Packages } from './packages.js';
import { clientGone, Problem, problemOf, tooLarge } from './problems.js';
import { Work, type Models, type Task } from './work.js';

export interface ServiceOptions {
  readonly models: Models;
  readonly limits: Limits;
  /** Of the JSON lines on standard output. */
  readonly logLevel: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';
  /** Without it addresses in JSON are refused. */
  readonly fetchPicture?: FetchPicture | undefined;
}

/** What is known of a request that was let in. */
interface Call {
  readonly arrived: number;
  readonly signal: AbortSignal;
  readonly place: Place;
}

/** A running service. */
export class Service {
  readonly #app: FastifyInstance;
  readonly #connections: Connections;
  readonly #limits: Limits;
  readonly #admission: Admission;
  readonly #calls = new WeakMap<FastifyRequest, Call>();
  #stopping = false;

  /** @throws {LtrpError} `ERR_LTRP_UNSUPPORTED`: a package that it needs is not installed. */
  static async create(options: ServiceOptions): Promise<Service> {
    const packages = await loadPackages();
    const service = new Service(packages, options);
    await service.#prepare(packages, options);
    return service;
  }

  private constructor({ fastify, LogController }: Packages, { limits, logLevel }: ServiceOptions) {
    const milliseconds = limits.seconds * 1000;
    this.#limits = limits;
    this.#admission = new Admission(limits);
    this.#app = fastify({
      logger: { level: logLevel },
      // One line a request, when it is over; see #onResponse.
      logController: new LogController({ disableRequestLogging: true }),
      bodyLimit: limits.bytes,
      requestTimeout: milliseconds,
      http: {
        headersTimeout: Math.min(60_000, milliseconds),
        connectionsCheckingInterval: Math.min(30_000, milliseconds),
      },
      // Stopping is done here: see stop().
      forceCloseConnections: false,
      return503OnClosing: false,
    });
    this.#connections = new Connections(this.#app.server);
  }

  /** Pictures in flight. */
  get pictures(): number {
    return this.#admission.pictures;
  }

  /** Begins to answer, on one address of the host; returns it. */
  async listen(host: string, port: number): Promise<string> {
    // Of localhost Fastify would open every address, and tell of the connections of the first one only.
    const { address: first } = await lookup(host);
    await this.#app.listen({ host: first, port, listenTextResolver: () => 'the port is open' });
    const { family, address, port: open } = this.#app.server.address() as AddressInfo;
    const name = family === 'IPv6' ? `[${address}]` : address;
    const url = `http://${name}:${open}`;
    this.#app.log.info({ url, page: `${url}/docs` }, 'listening');
    return url;
  }

  /**
   * Stops: no new connection, no new request, and every accepted one is answered, if it takes no longer than the limit. Returns how
   * many connections had to be closed before their answer.
   */
  async stop(): Promise<number> {
    this.#stopping = true;
    const deadline = performance.now() + this.#limits.stopSeconds * 1000;
    this.#app.log.info({ pictures: this.pictures }, 'stopping');
    const closed = this.#app.close();
    while (this.#connections.size > 0 && performance.now() < deadline) {
      this.#connections.closeIdle();
      await sleep(20);
    }
    const lost = this.#connections.busy;
    this.#app.server.closeAllConnections();
    await closed;
    this.#app.log.info({ lost }, 'stopped');
    return lost;
  }

  async #prepare(packages: Packages, options: ServiceOptions): Promise<void> {
    const app = this.#app;
    const { models, limits, fetchPicture } = options;
    const metrics = makeMetrics(packages.prometheus, this.#admission);
    const work = new Work(models, limits, (items) => metrics.batch(items));
    this.#convert(limits);
    this.#hook(metrics);
    await app.register(packages.multipart, { throwFileSizeLimit: true });
    await app.register(packages.swagger, { openapi: document });
    // Its files are its own, and its policy forbids all others.
    await app.register(packages.swaggerUi, { routePrefix: '/docs', staticCSP: true });
    await app.register((routes, _options, done) => {
      this.#addPictureRoutes(routes, { work, models, limits, fetchPicture });
      this.#addOtherRoutes(routes, metrics);
      done();
    });
    await app.ready();
  }

  /** Bodies stay bytes, options are read by our own checks, answers are plain JSON: the schemas describe and do not convert. */
  #convert(limits: Limits): void {
    const app = this.#app;
    app.setValidatorCompiler(() => () => true);
    app.setSerializerCompiler(() => (data) => JSON.stringify(data));
    app.removeAllContentTypeParsers();
    const upTo = (most: number) => (_request: FastifyRequest, body: IncomingMessage) =>
      collected(body, most);
    app.addContentTypeParser('application/json', upTo(jsonBytes(limits.bytes)));
    app.addContentTypeParser('*', upTo(limits.bytes));
  }

  #hook(metrics: Metrics): void {
    const app = this.#app;
    app.addHook('onRequest', (request, reply, done) => {
      const start = performance.now();
      this.#connections.whenOver(request.raw, reply.raw, () => {
        const seconds = (performance.now() - start) / 1000;
        const status = reply.raw.writableFinished ? reply.statusCode : clientGone().status;
        // Never the address itself: whoever makes addresses up would make labels.
        const route = request.routeOptions.url ?? 'none';
        metrics.answered(route, status, seconds);
        const { method } = request;
        request.log.info({ method, route, status, ms: Math.round(seconds * 1000) }, 'answered');
      });
      done();
    });
    app.addHook('onRequest', async (request, reply) => {
      // Before its body is read.
      if (request.is404) throw notFound(request);
      if (request.method === 'POST') await this.#admit(request, reply);
    });
    app.addHook('onSend', (_request, reply, _payload, done) => {
      // The client is to send its next request elsewhere.
      if (this.#stopping) void reply.header('connection', 'close');
      done();
    });
    app.setErrorHandler((error, request, reply) => {
      const left = request.raw.destroyed && !request.raw.complete;
      const problem = left ? clientGone() : problemOf(error);
      if (problem.status === 500) request.log.error({ err: error }, 'failed');
      // What is left of the body would stand before the next request on the connection.
      if (!request.raw.complete) request.raw.unpipe().resume();
      answer(reply, problem);
    });
    app.setNotFoundHandler((request, reply) => answer(reply, notFound(request)));
  }

  /** Lets a request in, or refuses it before its body is read. */
  async #admit(request: FastifyRequest, reply: FastifyReply): Promise<void> {
    const arrived = performance.now();
    const { headers } = request;
    if (this.#stopping) {
      // Closing a connection with unread bytes may destroy the answer on its way.
      await consumed(request);
      throw new Problem(503, 'ERR_SERVE_STOPPING', 'The service is stopping; ask another one.', 1);
    }
    const length = headers['content-length'];
    const most = mostBytes(headers['content-type'], this.#limits, jsonBytes(this.#limits.bytes));
    const place = this.#admission.enter(length === undefined ? undefined : Number(length), most);
    const controller = new AbortController();
    const timer = setTimeout(() => {
      const message = `There was no result within ${this.#limits.seconds} s.`;
      controller.abort(new Problem(504, 'ERR_SERVE_TIMEOUT', message));
    }, this.#limits.seconds * 1000);
    // Not when the request is closed: that is so as soon as its body is read.
    this.#connections.whenOver(request.raw, reply.raw, () => {
      clearTimeout(timer);
      place.leave();
      if (!reply.raw.writableFinished) controller.abort(clientGone());
    });
    this.#calls.set(request, { arrived, signal: controller.signal, place });
  }

  #addPictureRoutes(app: FastifyInstance, context: PictureContext): void {
    const { work, models, limits, fetchPicture } = context;
    // Its size is known only when it is there.
    const fetchFor = (place: Place): FetchPicture | undefined =>
      fetchPicture === undefined
        ? undefined
        : async (url, signal) => {
            signal.throwIfAborted();
            place.add(limits.bytes);
            return fetchPicture(url, signal);
          };
    // Its options have the types of Work, as the route's table reads them.
    const task = async (name: PictureRouteName, request: FastifyRequest): Promise<Task<never>> => {
      const { arrived, signal, place } = this.#calls.get(request) as Call;
      const given = await readGiven(request, limits, fetchFor(place), signal);
      const options = readOptions(pictureRoutes[name].options, given.options) as never;
      return { bytes: given.bytes, options, arrived, signal };
    };
    const add = (
      name: PictureRouteName,
      compute: (task: Task<never>, reply: FastifyReply) => Promise<unknown>,
    ): void => {
      app.post(`/${name}`, { schema: schemaOf(pictureRoutes[name]) }, async (request, reply) =>
        compute(await task(name, request), reply),
      );
    };
    add('rank', (given) => work.rank(given));
    add('select', (given) => work.select(given));
    add('crop', async (given, reply) => {
      const { box, format, file } = await work.crop(given);
      return reply.type(`image/${format}`).header('ltrp-box', box.join(',')).send(file);
    });
    if (models.teacher !== undefined) add('score', (given) => work.score(given));
    if (models.classifier !== undefined) add('classify', (given) => work.classify(given));
  }

  #addOtherRoutes(app: FastifyInstance, metrics: Metrics): void {
    const summaries = (summary: string) => ({ schema: { summary } });
    app.get('/health', summaries('Whether the process is alive'), () => ({ status: 'ok' }));
    app.get('/ready', summaries('Whether to send requests here'), (_request, reply) => {
      if (!this.#stopping) return { status: 'ready' };
      return reply.status(503).send({ status: 'stopping' });
    });
    app.get('/metrics', summaries('Counters for Prometheus'), async (_request, reply) =>
      reply.type(metrics.contentType).send(await metrics.page()),
    );
    app.get('/openapi.json', { schema: { hide: true } }, () => this.#app.swagger());
  }
}

interface PictureContext {
  readonly work: Work;
  readonly models: Models;
  readonly limits: Limits;
  readonly fetchPicture: FetchPicture | undefined;
}

const document = {
  openapi: '3.0.3',
  info: {
    title: 'ltrp',
    description: 'Which patches of a picture matter, learned without labels.',
    version: packageVersion(),
  },
};

function notFound({ method, url }: FastifyRequest): Problem {
  const message = `There is no ${method} ${url.slice(0, 200)}; /docs lists the routes.`;
  return new Problem(404, 'ERR_SERVE_NOT_FOUND', message);
}

function answer(reply: FastifyReply, { status, code, message, retryAfter }: Problem): void {
  if (retryAfter !== undefined) void reply.header('retry-after', retryAfter);
  void reply.status(status).type('application/json; charset=utf-8');
  void reply.send(JSON.stringify({ error: { code, message } }));
}

/**
 * A body. Of one that is too large, which is read to its end and not kept, the refusal: thrown here it would make Fastify close the
 * connection, and the answer could be lost with it. How long it may take is bounded.
 */
async function collected(body: IncomingMessage, most: number): Promise<Buffer | Problem> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length <= most) chunks.push(chunk);
    else chunks.length = 0;
  }
  if (length > most) return tooLarge(`The body has ${length} bytes; at most ${most} are taken.`);
  return Buffer.concat(chunks);
}

/** Reads a body to its end, for some seconds at most. */
async function consumed({ raw }: FastifyRequest): Promise<void> {
  if (raw.complete) return;
  raw.resume();
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, 5000);
    raw.once('close', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
