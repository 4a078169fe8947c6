/** Names of classes and categories: a line of classes.txt each, and the same however their accents are written. */
import { invalid } from '../validation.js';

/**
 * The name in Unicode's NFC, without spaces around it.
 *
 * @param source - the file or folder that has it.
 * @throws {LtrpError} `ERR_LTRP_INVALID_ARGUMENT` for an empty name and for one of several lines.
 */
export function categoryName(name: string, source: string): string {
  const normal = name.normalize('NFC').trim();
  if (normal === '') throw invalid(`${source} has a category whose name is empty.`);
  if (/[\n\r\u2028\u2029]/.test(normal))
    throw invalid(
      `${source} has a category whose name is of several lines: ${JSON.stringify(name)}.`,
    );
  return normal;
}
