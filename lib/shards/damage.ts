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

/** A row group that cannot be decoded, as a clause. */
export const groupDamage = (
  { firstRow, rows }: { firstRow: number; rows: number },
  why: string,
): string => `the row group of rows ${firstRow} to ${firstRow + rows - 1} is damaged (${why})`;
