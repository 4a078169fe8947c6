/** Shards as others write them: tar files of tar-stream, Parquet files of DuckDB. */
import { writeFile } from 'node:fs/promises';
import { DuckDBInstance, type DuckDBConnection, type Json } from '@duckdb/node-api';
import { pack } from 'tar-stream';

export type TarEntry = readonly [name: string, content: Uint8Array | string];

export async function tarBytes(entries: readonly TarEntry[]): Promise<Buffer> {
  const tar = pack();
  for (const [name, content] of entries) tar.entry({ name }, Buffer.from(content));
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export async function writeTar(path: string, entries: readonly TarEntry[]): Promise<string> {
  await writeFile(path, await tarBytes(entries));
  return path;
}

export async function withDuckDB<Result>(
  work: (connection: DuckDBConnection) => Promise<Result>,
): Promise<Result> {
  const instance = await DuckDBInstance.create(':memory:', { threads: '1' });
  const connection = await instance.connect();
  try {
    return await work(connection);
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

/** Rows of a query, as JSON has them. */
export const query = (sql: string): Promise<Record<string, Json>[]> =>
  withDuckDB(async (connection) => (await connection.runAndReadAll(sql)).getRowObjectsJson());

/** A file with the pictures of a folder in the order of their names, and whatever SQL makes of them. */
export async function writeParquet(
  path: string,
  folder: string,
  {
    image = '{bytes: content, path: filename}',
    options = '',
  }: { image?: string; options?: string } = {},
): Promise<string> {
  await withDuckDB((connection) =>
    connection.run(
      `COPY (SELECT ${image} AS image, 7 AS label FROM read_blob('${folder}/*') ORDER BY length(filename), filename)
       TO '${path}' (FORMAT parquet${options})`,
    ),
  );
  return path;
}
