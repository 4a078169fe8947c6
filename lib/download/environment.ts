/** The environment's variables. */

export type Environment = Readonly<Record<string, string | undefined>>;

/** A variable that switches something: empty, `0`, `false`, `no` and `off` leave it off. */
export function isOn(value: string | undefined): boolean {
  return !['', '0', 'false', 'no', 'off'].includes((value ?? '').trim().toLowerCase());
}
