/** Float32 values as JSON. */

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
