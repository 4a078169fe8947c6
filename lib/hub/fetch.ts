/** Models of the Hugging Face hub in a cache in the layout of Python's, fetched where they are not there. */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readFileSync } from 'node:fs';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { download } from '../download/download.js';
import type { Environment } from '../download/environment.js';
import { LtrpError, notFound, downloadFailed } from '../errors.js';
import { withLock } from '../folder-lock.js';
import {
  blobPath,
  cached,
  isThere,
  link,
  modelFolder,
  noteMissing,
  shardsOf,
  sideNames,
  snapshotPath,
  weightNames,
  writeRef,
  type Cached,
} from './cache.js';
import { askFor, headersOf, Unreachable, type Asking, type RemoteFile } from './remote.js';
import { hubSettings } from './settings.js';
import { isCommit, sourceText, type HubSource } from './source.js';

export interface FetchOptions {
  readonly env?: Environment | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Bytes of the file that is fetched. */
  readonly onProgress?: ((file: string, done: number, total: number | null) => void) | undefined;
  /** One line of news. */
  readonly log?: ((line: string) => void) | undefined;
  /** Of a connection that gives no byte, in milliseconds; for tests. */
  readonly stallTimeout?: number | undefined;
}

export interface FetchedModel {
  /** The file of weights, or the index of several; what describes the model lies beside it. */
  readonly weights: string;
  readonly commit: string;
  /** Whether anything was fetched. */
  readonly fetched: boolean;
}

/**
 * The weights of a model and what describes them, from the cache or the hub. A commit that is complete in the cache needs no network; of
 * a branch or tag the hub is asked which commit it is. If the hub does not answer, or may not be asked, weights in the cache are taken
 * with what there is beside them.
 *
 * @throws {LtrpError} `ERR_LTRP_DOWNLOAD`, `ERR_LTRP_FILE_NOT_FOUND`, `ERR_LTRP_FILE_WRITE`; errors of the disk as they are.
 */
export async function fetchModel(
  source: HubSource,
  options: FetchOptions = {},
): Promise<FetchedModel> {
  const { env = process.env, signal, log = () => undefined } = options;
  const settings = hubSettings(env);
  const there = cached(settings.cache, source);
  const enough = settings.offline || (isCommit(source.revision) && there?.complete === true);
  if (there !== null && enough) return inCache(there);
  if (settings.offline) {
    throw notFound(
      `HF_HUB_OFFLINE is set, and ${modelFolder(settings.cache, source.model)} has no ${weightNames[0]} of revision ${source.revision}; \`npx ltrp models fetch ${sourceText(source)}\` fetches it with HF_HUB_OFFLINE=0.`,
    );
  }
  try {
    return await new Fetch(source, { settings, env, signal }, options).run();
  } catch (error) {
    if (!(error instanceof Unreachable) || there === null) throw error;
    log(`${error.message} The copy in the cache is used: ${there.commit}.`);
    return inCache(there);
  }
}

const inCache = ({ weights, commit }: Cached): FetchedModel => ({
  ...{ weights, commit },
  fetched: false,
});

/** One model being fetched. */
class Fetch {
  readonly #folder: string;
  /** Pinned to a commit as soon as that is known. */
  #source: HubSource;
  readonly #revision: string;
  #fetched = false;

  constructor(
    source: HubSource,
    private readonly asking: Asking,
    private readonly options: FetchOptions,
  ) {
    this.#source = source;
    this.#revision = source.revision;
    this.#folder = modelFolder(asking.settings.cache, source.model);
  }

  async run(): Promise<FetchedModel> {
    const { model } = this.#source;
    const sides: RemoteFile[] = [];
    for (const name of sideNames) {
      const found = await this.#ask(name);
      if (found !== null) sides.push(found);
      const there = this.#cached();
      if (there?.complete === true) return await this.#done(there.weights);
    }
    for (const file of sides) await this.#bring(file);
    const there = this.#cached();
    if (there !== null) return await this.#done(there.weights);
    for (const name of weightNames) {
      const found = await this.#ask(name);
      if (found === null) continue;
      const file = await this.#bring(found);
      if (name.endsWith('.index.json')) await this.#bringShards(file, name);
      return await this.#done(file);
    }
    throw notFound(
      `${this.asking.settings.endpoint}/${model} has none of ${weightNames.join(', ')} in revision ${this.#revision}.`,
    );
  }

  /** What is in the cache, once the commit is known. */
  #cached(): Cached | null {
    return isCommit(this.#source.revision)
      ? cached(this.asking.settings.cache, this.#source)
      : null;
  }

  async #done(weights: string): Promise<FetchedModel> {
    const commit = this.#source.revision;
    await writeRef(this.#folder, this.#revision, commit);
    return { weights, commit, fetched: this.#fetched };
  }

  async #ask(name: string): Promise<RemoteFile | null> {
    const { commit, file } = await askFor(name, this.#source, this.asking);
    if (commit !== null) {
      this.#source = { ...this.#source, revision: commit };
      if (file === null) await noteMissing(this.#folder, commit, name);
    }
    return file;
  }

  async #bringShards(index: string, name: string): Promise<void> {
    const shards = shardsOf(readFileSync(index, 'utf8'));
    if (shards === null) {
      throw new LtrpError(
        'ERR_LTRP_CHECKPOINT_FORMAT',
        `${name} of the model names no files of weights beside it.`,
      );
    }
    for (const shard of shards) {
      const found = await this.#ask(shard);
      if (found === null) {
        throw notFound(`The model's ${name} names ${shard}, which is not there.`);
      }
      await this.#bring(found);
    }
  }

  /** A file of the model at its place in the cache. */
  async #bring(remote: RemoteFile): Promise<string> {
    const { commit, name, etag } = remote;
    const { cache } = this.asking.settings;
    const file = path.join(snapshotPath(this.#folder, commit), name);
    if (isThere(file)) return file;
    const blob = blobPath(this.#folder, etag);
    // Not Python's own lock: that is a lock of the system on a file which stays.
    const lock = path.join(cache, '.locks', path.basename(this.#folder), `${etag}.ltrp.lock`);
    const { log = () => undefined, signal } = this.options;
    const work = async (check: () => Promise<void>): Promise<void> => {
      if (!existsSync(blob)) {
        log(`Fetching ${name} of ${this.#source.model} (${commit.slice(0, 12)})`);
        const fetched = await this.#transfer(remote, `${blob}.ltrp`);
        await check();
        await rename(fetched, blob);
        this.#fetched = true;
      }
      await link(blob, file);
    };
    await withLock(lock, work, {
      signal,
      onWait: (holder) => log(`Waiting for ${holder}, which fetches ${name}.`),
    });
    return file;
  }

  /** Downloads and checks. A part of an earlier run that turns out wrong is fetched again as a whole. */
  async #transfer(remote: RemoteFile, to: string): Promise<string> {
    const { settings, env, signal } = this.asking;
    const { onProgress, stallTimeout } = this.options;
    await mkdir(path.dirname(to), { recursive: true });
    const continued = existsSync(`${to}.part`);
    await download(remote.url, to, {
      ...{ env, signal, stallTimeout },
      headers: headersOf(settings),
      sameContent: hashOf(remote.etag) !== null,
      onProgress: (done, total) => onProgress?.(remote.name, done, total ?? remote.size),
    });
    const problem = await problemOf(to, remote);
    if (problem === null) return to;
    await rm(to, { force: true });
    if (continued) return this.#transfer(remote, to);
    throw downloadFailed(
      `${remote.name} of ${this.#source.model} ${problem}. It was removed: run the same command again to fetch it again.`,
    );
  }
}

/** Why a file is not what the hub announced, or null. */
async function problemOf(file: string, { etag, size }: RemoteFile): Promise<string | null> {
  const bytes = (await stat(file)).size;
  if (size !== null && bytes !== size) return `has ${bytes} bytes, expected ${size}`;
  const kind = hashOf(etag);
  if (kind === null) return null;
  const hash = createHash(kind === 'Git hash' ? 'sha1' : 'sha256');
  if (kind === 'Git hash') hash.update(`blob ${bytes}\0`); // Git's header
  await pipeline(createReadStream(file), hash);
  const actual = hash.digest('hex');
  return actual === etag ? null : `has the ${kind} ${actual}, expected ${etag}`;
}

/** Which hash of the content an ETag is. Those of some mirrors are none: they say nothing of the content. */
function hashOf(etag: string): 'SHA-256' | 'Git hash' | null {
  if (/^[\da-f]{64}$/.test(etag)) return 'SHA-256';
  return /^[\da-f]{40}$/.test(etag) ? 'Git hash' : null;
}
