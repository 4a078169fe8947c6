/** Says in words what a search for pictures skipped. */

const counted = (count: number, what: string): string =>
  `${count} ${what}${count === 1 ? '' : 's'}`;

/** The commonest kinds first, and not more than a line of them. */
function kindsText(kinds: ReadonlyMap<string, number>): string {
  const sorted = [...kinds].sort(
    ([a, x], [b, y]) => y - x || Number(a === '') - Number(b === '') || (a < b ? -1 : 1),
  );
  const named = sorted
    .slice(0, 8)
    .map(([kind, count]) => `${count} ${kind === '' ? 'without extension' : `.${kind}`}`);
  if (sorted.length > 8) named.push('others');
  return named.join(', ');
}

export class PassedOver {
  /** Files by extension: pictures of kinds that are not read, and everything else. */
  readonly #pictures = new Map<string, number>();
  readonly #others = new Map<string, number>();
  /** The command's own pictures, by folder. */
  readonly #outputs = new Map<string, number>();

  kind(extension: string, isPicture: boolean): void {
    const kinds = isPicture ? this.#pictures : this.#others;
    kinds.set(extension, (kinds.get(extension) ?? 0) + 1);
  }

  output(folder: string): void {
    this.#outputs.set(folder, (this.#outputs.get(folder) ?? 0) + 1);
  }

  /** Sentences about pictures that were left out; none where only files of other kinds were. */
  get sentences(): string[] {
    const said: string[] = [];
    if (this.#pictures.size > 0) {
      said.push(`Passed over, of kinds that are not read: ${kindsText(this.#pictures)}.`);
    }
    if (this.#outputs.size > 0) {
      const count = [...this.#outputs.values()].reduce((sum, value) => sum + value, 0);
      const folders = [...this.#outputs.keys()];
      const where = folders.slice(0, 3).join(', ') + (folders.length > 3 ? ', …' : '');
      said.push(
        `Passed over: ${counted(count, 'picture')} that ltrp wrote in ${where}; name a file itself to take it.`,
      );
    }
    return said;
  }

  /** The skipped files, for the error that no picture is left. */
  get text(): string {
    const outputs = [...this.#outputs.values()].reduce((sum, value) => sum + value, 0);
    return [
      ...(this.#pictures.size + this.#others.size > 0
        ? [kindsText(new Map([...this.#pictures, ...this.#others]))]
        : []),
      ...(outputs > 0 ? [`${counted(outputs, 'picture')} that ltrp wrote`] : []),
    ].join(', ');
  }
}
