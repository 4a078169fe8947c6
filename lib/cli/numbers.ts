/** Numbers for JSON and for tables. */

/** The shortest decimal that reads back as the same float32; null if the number is not finite. */
function shortest(value: number): number | null {
  if (!Number.isFinite(value)) return null;
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return Number(value.toPrecision(9));
}

/** Float32 values for JSON, not one digit longer than they need to be. */
export function jsonNumbers(values: Float32Array): (number | null)[] {
  return Array.from(values, shortest);
}

/** Rows of cells as aligned columns, the first to the left, the others to the right. */
export function alignedRows(rows: readonly (readonly string[])[]): string {
  const widths: number[] = [];
  for (const row of rows) {
    row.forEach((cell, column) => {
      widths[column] = Math.max(widths[column] ?? 0, cell.length);
    });
  }
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          column === 0 ? cell.padEnd(widths[column] ?? 0) : cell.padStart(widths[column] ?? 0),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
