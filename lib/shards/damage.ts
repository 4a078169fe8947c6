/** What a shard's file has lost. */

export interface Damage {
  /** A clause that says what and where, such as `bad header at byte 1024; …`. */
  what: string;
  /** Records that are lost; at least so many where it cannot be told. */
  records: number;
}

/** `train.tar: …; 1 record lost`. */
export function damageLine(name: string, { what, records }: Damage): string {
  return `${name}: ${what}; ${records} ${records === 1 ? 'record' : 'records'} lost`;
}
