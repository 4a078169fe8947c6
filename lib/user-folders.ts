/** The user's folders, by the XDG specification. */
import { homedir } from 'node:os';
import path from 'node:path';

type Environment = Readonly<Record<string, string | undefined>>;

/** The specification says that a relative value is to be ignored. */
function xdgFolder(env: Environment, variable: string, fallback: string): string {
  const value = env[variable];
  const base =
    value !== undefined && path.isAbsolute(value) ? value : path.join(homeFolder(env), fallback);
  return path.join(base, 'ltrp');
}

function homeFolder(env: Environment): string {
  const home = env['HOME'];
  return home !== undefined && path.isAbsolute(home) ? home : homedir();
}

/** `$XDG_CACHE_HOME/ltrp`, by default `~/.cache/ltrp`. */
export function cacheFolder(env: Environment = process.env): string {
  return xdgFolder(env, 'XDG_CACHE_HOME', '.cache');
}

/** `$XDG_CONFIG_HOME/ltrp`, by default `~/.config/ltrp`. */
export function configFolder(env: Environment = process.env): string {
  return xdgFolder(env, 'XDG_CONFIG_HOME', '.config');
}
