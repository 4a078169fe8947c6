/**
 * A cache in the layout of Python's: for each model `blobs` (files by their hash), `snapshots/COMMIT` (links to these by their names),
 * `refs/REVISION` (the commit of a branch or tag) and `.no_exist/COMMIT` (empty files under the names that the hub does not have). What
 * Python keeps beside them is left alone.
 */
import { existsSync, readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { copyFile, mkdir, rm, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { isCommit, type HubSource } from './source.js';

/** Weights that are looked for, the first that there is. Those in a `.index.json` are in several files that it names. */
export const weightNames = [
  'model.safetensors',
  'model.safetensors.index.json',
  'pytorch_model.bin',
  'pytorch_model.bin.index.json',
] as const;

/** What describes a model, where it is. */
export const sideNames = ['config.json', 'preprocessor_config.json'] as const;

/** The folder of a model. */
export function modelFolder(cache: string, model: string): string {
  return path.join(cache, `models--${model.replaceAll('/', '--')}`);
}

export const blobPath = (folder: string, etag: string): string => path.join(folder, 'blobs', etag);

export const snapshotPath = (folder: string, commit: string): string =>
  path.join(folder, 'snapshots', commit);

const missingPath = (folder: string, commit: string, name: string): string =>
  path.join(folder, '.no_exist', commit, name);

const refPath = (folder: string, revision: string): string => path.join(folder, 'refs', revision);

/** A file of a snapshot, which may be a link to a blob that is gone. */
export const isThere = (file: string): boolean => existsSync(file);

/** The commit that the cache knows for a revision, or null. */
export function cachedCommit(folder: string, revision: string): string | null {
  if (isCommit(revision)) return revision;
  try {
    const commit = readFileSync(refPath(folder, revision), 'utf8').trim();
    return isCommit(commit) ? commit : null;
  } catch {
    return null;
  }
}

export async function writeRef(folder: string, revision: string, commit: string): Promise<void> {
  if (isCommit(revision) || cachedCommit(folder, revision) === commit) return;
  const file = refPath(folder, revision);
  await mkdir(path.dirname(file), { recursive: true });
  const { default: writeFileAtomic } = await import('write-file-atomic');
  await writeFileAtomic(file, commit);
}

/** Notes that the hub has no such file. Where the cache cannot be written, it is asked again the next time. */
export async function noteMissing(folder: string, commit: string, name: string): Promise<void> {
  const file = missingPath(folder, commit, name);
  try {
    await mkdir(path.dirname(file), { recursive: true });
    await writeFile(file, '');
  } catch {
    // It only saves a question.
  }
}

/** The weights of a snapshot, if all of them are there. */
function cachedWeights(snapshot: string): string | null {
  for (const name of weightNames) {
    const file = path.join(snapshot, name);
    if (!isThere(file)) continue;
    if (!name.endsWith('.index.json')) return file;
    const shards = shardsOf(readFileSync(file, 'utf8')) ?? [];
    const complete = shards.every((shard) => isThere(path.join(snapshot, shard)));
    if (shards.length > 0 && complete) return file;
  }
  return null;
}

/** The files that an index names, each once; null if it is no index. */
export function shardsOf(text: string): string[] | null {
  try {
    const { weight_map: map } = JSON.parse(text) as { weight_map?: unknown };
    const names = [...new Set(Object.values(map as Record<string, unknown>))];
    // Beside the index, and nowhere else.
    const usable = names.every(
      (name) => typeof name === 'string' && /^[\w-][\w.-]*$/.test(name) && !name.includes('..'),
    );
    return usable && names.length > 0 ? (names as string[]) : null;
  } catch {
    return null;
  }
}

/** Gives a blob its name in a snapshot: a relative link, or where there are none a copy. */
export async function link(blob: string, file: string): Promise<void> {
  await mkdir(path.dirname(file), { recursive: true });
  const target = path.relative(path.dirname(file), blob);
  try {
    await symlink(target, file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') {
      if (isThere(file)) return;
      await rm(file, { force: true }); // its blob was removed
      await symlink(target, file);
    } else if (/^(EPERM|ENOSYS|ENOTSUP|EOPNOTSUPP|EINVAL)$/.test(code ?? '')) {
      await copyFile(blob, file);
    } else throw error;
  }
}

/** A model in the cache. */
export interface CachedModel {
  readonly model: string;
  readonly folder: string;
  /** Its snapshots, with the branches and tags that lead to them. */
  readonly snapshots: readonly { commit: string; revisions: readonly string[] }[];
  /** Bytes of its blobs. */
  readonly bytes: number;
}

/** All models in the cache, by name. */
export function cachedModels(cache: string): CachedModel[] {
  return names(cache)
    .filter((name) => name.startsWith('models--'))
    .map((name) => {
      const folder = path.join(cache, name);
      const commits = names(path.join(folder, 'snapshots'));
      const refs = references(folder);
      return {
        model: name.slice('models--'.length).replaceAll('--', '/'),
        folder,
        snapshots: commits.map((commit) => ({
          commit,
          revisions: refs.filter((ref) => ref.commit === commit).map(({ revision }) => revision),
        })),
        bytes: names(path.join(folder, 'blobs')).reduce(
          (sum, blob) => sum + sizeOf(blobPath(folder, blob)),
          0,
        ),
      };
    });
}

/**
 * Removes a model from the cache, or with a revision its snapshot and the files that no other one has. Returns the folders removed;
 * none if it was not there.
 */
export async function removeCached(
  cache: string,
  { model, revision }: { model: string; revision?: string | undefined },
): Promise<string[]> {
  const folder = modelFolder(cache, model);
  if (!existsSync(folder)) return [];
  if (revision === undefined) {
    await rm(folder, { recursive: true, force: true });
    return [folder];
  }
  const commit = cachedCommit(folder, revision);
  if (commit === null) return [];
  const snapshot = snapshotPath(folder, commit);
  if (!existsSync(snapshot)) return [];
  for (const ref of references(folder)) {
    if (ref.commit === commit) await rm(refPath(folder, ref.revision), { force: true });
  }
  const mine = blobsOf(snapshot);
  await rm(snapshot, { recursive: true, force: true });
  const others = names(path.join(folder, 'snapshots')).flatMap((name) => [
    ...blobsOf(snapshotPath(folder, name)),
  ]);
  for (const blob of mine) {
    if (!others.includes(blob)) await rm(blobPath(folder, blob), { force: true });
  }
  return [snapshot];
}

/** Names of the blobs that a snapshot links to. */
function blobsOf(snapshot: string): Set<string> {
  const blobs = new Set<string>();
  for (const entry of readdirSync(snapshot, { recursive: true, withFileTypes: true })) {
    if (!entry.isSymbolicLink()) continue;
    blobs.add(path.basename(readlinkSync(path.join(entry.parentPath, entry.name))));
  }
  return blobs;
}

function references(folder: string): { revision: string; commit: string }[] {
  const refs = path.join(folder, 'refs');
  if (!existsSync(refs)) return [];
  return readdirSync(refs, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .flatMap((entry) => {
      const revision = path.relative(refs, path.join(entry.parentPath, entry.name));
      const commit = cachedCommit(folder, revision);
      return commit === null ? [] : [{ revision, commit }];
    });
}

function names(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch {
    return [];
  }
}

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

/** A source whose weights are in the cache. */
export interface Cached {
  readonly commit: string;
  readonly weights: string;
  /** So is what describes them, as far as the hub has it. Python fetches each file when it needs it. */
  readonly complete: boolean;
}

export function cached(cache: string, { model, revision }: HubSource): Cached | null {
  const folder = modelFolder(cache, model);
  const commit = cachedCommit(folder, revision);
  if (commit === null) return null;
  const snapshot = snapshotPath(folder, commit);
  const weights = cachedWeights(snapshot);
  if (weights === null) return null;
  const complete = sideNames.every(
    (name) => isThere(path.join(snapshot, name)) || isThere(missingPath(folder, commit, name)),
  );
  return { commit, weights, complete };
}
