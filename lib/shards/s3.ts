/** S3 and stores that speak its language: addresses, signatures, lists. Credentials come from the environment. */
import { AwsV4Signer } from 'aws4fetch';
import type { Environment } from '../download/environment.js';
import { downloadFailed } from '../errors.js';
import { invalid } from '../validation.js';

const filled = (env: Environment, ...names: string[]): string | undefined =>
  names.map((name) => env[name]?.trim()).find((value) => value !== undefined && value !== '');

/** What a bucket may be called; it becomes part of a host's name. */
const bucketName = /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/;

interface S3Location {
  bucket: string;
  key: string;
}

/** @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT`. */
export function s3Location(url: string): S3Location {
  const [, bucket = '', key = ''] = /^s3:\/\/([^/]*)(?:\/(.*))?$/.exec(url) ?? [];
  if (!bucketName.test(bucket)) {
    throw invalid(`${url} names no bucket; write s3://bucket/prefix or s3://bucket/file.tar.`);
  }
  return { bucket, key };
}

const regionOf = (env: Environment): string =>
  filled(env, 'AWS_REGION', 'AWS_DEFAULT_REGION') ?? 'us-east-1';

/** The web address of a key, or of the bucket. */
function webAddress({ bucket, key }: S3Location, env: Environment): string {
  const path = key.split('/').map(encodeURIComponent).join('/');
  const endpoint = filled(env, 'AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL');
  if (endpoint !== undefined) {
    if (!URL.canParse(endpoint) || !/^https?:/.test(endpoint)) {
      throw invalid(`The environment variable AWS_ENDPOINT_URL must be a web address.`);
    }
    return `${endpoint.replace(/\/+$/, '')}/${bucket}/${path}`;
  }
  const region = regionOf(env);
  // The certificate's wildcard covers one label, so a bucket with dots stands in the path.
  return bucket.includes('.')
    ? `https://s3.${region}.amazonaws.com/${bucket}/${path}`
    : `https://${bucket}.s3.${region}.amazonaws.com/${path}`;
}

/** A request as it is to be sent: an `s3:` address becomes a web address and is signed if there are credentials. */
export async function signed(
  url: string,
  headers: Record<string, string>,
  env: Environment = process.env,
  query = '',
): Promise<{ url: string; headers: Record<string, string> }> {
  if (!url.startsWith('s3:')) return { url, headers };
  const address = webAddress(s3Location(url), env) + query;
  const accessKeyId = filled(env, 'AWS_ACCESS_KEY_ID');
  const secretAccessKey = filled(env, 'AWS_SECRET_ACCESS_KEY');
  if (accessKeyId === undefined || secretAccessKey === undefined) return { url: address, headers };
  const sessionToken = filled(env, 'AWS_SESSION_TOKEN');
  const request = await new AwsV4Signer({
    method: 'GET',
    url: address,
    headers,
    accessKeyId,
    secretAccessKey,
    ...(sessionToken !== undefined && { sessionToken }),
    service: 's3',
    region: regionOf(env),
  }).sign();
  return { url: String(request.url), headers: Object.fromEntries(request.headers) };
}

/** A page of a list: keys that begin with the key of `url`, and where it goes on. */
export function listQuery(url: string, next: string | undefined): { url: string; query: string } {
  const { bucket, key } = s3Location(url);
  const query = new URLSearchParams({ 'list-type': '2', prefix: key });
  if (next !== undefined) query.set('continuation-token', next);
  return { url: `s3://${bucket}`, query: `?${query.toString().replaceAll('+', '%20')}` };
}

/** @throws {LtrpError} `ERR_LTRP_DOWNLOAD` for what is no list. */
export function parseList(name: string, xml: string): { keys: string[]; next: string | undefined } {
  if (!xml.includes('<ListBucketResult')) {
    throw downloadFailed(`${name}: the answer is not a bucket's list.`);
  }
  const keys = [...xml.matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key = '']) => unescaped(key));
  const next = /<NextContinuationToken>([^<]*)</.exec(xml)?.[1];
  return { keys, next: next === undefined ? undefined : unescaped(next) };
}

const entities: Record<string, string> = { lt: '<', gt: '>', amp: '&', quot: '"', apos: "'" };

const unescaped = (text: string): string =>
  text.replace(/&(?:#(\d+)|#x([0-9a-f]+)|(\w+));/gi, (whole, decimal, hex, name) => {
    if (decimal !== undefined) return String.fromCodePoint(Number(decimal));
    if (hex !== undefined) return String.fromCodePoint(parseInt(String(hex), 16));
    return entities[String(name)] ?? whole;
  });
