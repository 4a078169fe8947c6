/** Names of models on the hub: `hf:organisation/name`, `hf:organisation/name@revision`. */
import { LtrpError } from '../errors.js';

export interface HubSource {
  /** `organisation/name`, or a name alone. */
  readonly model: string;
  /** A branch, a tag or a commit. */
  readonly revision: string;
}

const prefix = 'hf:';

/** Whether a source is meant for the hub. Nothing else is ever fetched. */
export function isHubSource(source: string): boolean {
  return source.startsWith(prefix) && !source.startsWith('hf://');
}

const part = '[A-Za-z0-9](?:[\\w.-]{0,94}[\\w])?';
const pattern = new RegExp(`^hf:((?:${part}/)?${part})(?:@(.+))?$`);

/** @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` */
export function readHubSource(text: string): HubSource {
  const [, model, revision = 'main'] = pattern.exec(text) ?? [];
  // A revision becomes a path in the cache and in addresses.
  const usable = /^[\w.-]+(\/[\w.-]+)*$/.test(revision) && !/(^|\/)\.{1,2}(\/|$)/.test(revision);
  if (model === undefined || !usable || /--|\.\./.test(model)) {
    throw new LtrpError(
      'ERR_LTRP_INVALID_ARGUMENT',
      `A model of the Hugging Face hub is named hf:organisation/name or hf:organisation/name@revision; got ${text.slice(0, 200)}.`,
    );
  }
  return { model, revision };
}

/** Whether a revision names its content. */
export function isCommit(revision: string): boolean {
  return /^[\da-f]{40}$/.test(revision);
}

/** As people write it. */
export function sourceText({ model, revision }: HubSource): string {
  return `${prefix}${model}${revision === 'main' ? '' : `@${revision}`}`;
}
