/** Why the dynamic loader refused a library, in words that say what to do. */
import { LtrpError, toLtrpError } from '../errors.js';
import { oldestSystem } from './paths.js';

/**
 * The loader's text names a version of a symbol; what it means is that the system is older than the library. `what` begins the
 * sentence ("… does not load"), `remedy` ends it where the system is not to blame.
 */
export function loadFailure(what: string, remedy: string, error: unknown): LtrpError {
  const text = toLtrpError(error).message.trim();
  const version =
    /(\S+): version [`'](?:GLIBC|GLIBCXX|CXXABI|GCC)_[\d.]+' not found \(required by (\S+)\)/.exec(
      text,
    );
  if (version === null) {
    return new LtrpError('ERR_LTRP_CORE_LOAD', `${what} does not load: ${text}. ${remedy}`, {
      cause: error,
    });
  }
  const { glibc, glibcxx } = oldestSystem();
  return new LtrpError(
    'ERR_LTRP_SYSTEM_TOO_OLD',
    `${what} does not load: ${text}. ${version[1] ?? ''} is older than what needs it. ltrp and LibTorch need glibc ${glibc} and a libstdc++ with GLIBCXX_${glibcxx} (GCC 8) or newer, as Debian 10, Ubuntu 20.04 and RHEL 8 have; use such a system, or take an older libstdc++ out of LD_LIBRARY_PATH.`,
    { cause: error },
  );
}
