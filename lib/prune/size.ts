/**
 * Sizes of axes as polynomials: sums of products of names, such as `rows * columns + 1`. Two sizes are the same exactly if they are
 * written the same. What is no sum of products (a rounded quotient) becomes a name of its own.
 */
export class Size {
  /** Coefficients by product; a product is its sorted names, joined. The empty one is the constant. */
  readonly #terms: ReadonlyMap<string, number>;
  readonly key: string;

  private constructor(terms: ReadonlyMap<string, number>) {
    const kept = [...terms].filter(([, coefficient]) => coefficient !== 0).sort(byName);
    this.#terms = new Map(kept);
    this.key =
      kept.length === 0
        ? '0'
        : kept.map(([names, coefficient]) => `${coefficient}${names}`).join('+');
  }

  static of(value: number): Size {
    return new Size(new Map([['', value]]));
  }

  static named(name: string): Size {
    return new Size(new Map([[`*${name}`, 1]]));
  }

  /** The number, if it is one. */
  get number(): number | undefined {
    if (this.#terms.size === 0) return 0;
    return this.#terms.size === 1 ? this.#terms.get('') : undefined;
  }

  /** Constant and factors by name, for those that write the size as a graph: [coefficient, names][]. */
  get terms(): [number, string[]][] {
    return [...this.#terms].map(([names, coefficient]) => [
      coefficient,
      names.split('*').filter((name) => name !== ''),
    ]);
  }

  is(other: Size | number): boolean {
    return typeof other === 'number' ? this.number === other : this.key === other.key;
  }

  plus(other: Size | number): Size {
    const terms = new Map(this.#terms);
    for (const [names, coefficient] of asSize(other).#terms) {
      terms.set(names, (terms.get(names) ?? 0) + coefficient);
    }
    return new Size(terms);
  }

  minus(other: Size | number): Size {
    return this.plus(asSize(other).times(-1));
  }

  times(other: Size | number): Size {
    const terms = new Map<string, number>();
    for (const [names, coefficient] of this.#terms) {
      for (const [otherNames, otherCoefficient] of asSize(other).#terms) {
        const product = [...split(names), ...split(otherNames)]
          .sort()
          .map((n) => `*${n}`)
          .join('');
        terms.set(product, (terms.get(product) ?? 0) + coefficient * otherCoefficient);
      }
    }
    return new Size(terms);
  }

  /** The quotient where there is one without remainder, whatever the names stand for. */
  exactly(divisor: Size): Size | undefined {
    if (divisor.is(this)) return Size.of(1);
    if (divisor.#terms.size !== 1) return undefined;
    const [[names, coefficient]] = [...divisor.#terms] as [[string, number]];
    const terms = new Map<string, number>();
    for (const [own, ownCoefficient] of this.#terms) {
      const left = split(own);
      for (const name of split(names)) {
        const at = left.indexOf(name);
        if (at < 0) return undefined;
        left.splice(at, 1);
      }
      if (!Number.isInteger(ownCoefficient / coefficient)) return undefined;
      terms.set(left.map((name) => `*${name}`).join(''), ownCoefficient / coefficient);
    }
    return new Size(terms);
  }

  /** The quotient; where it has a remainder, its number is not known: integers round, fractions do not. */
  over(divisor: Size): Size {
    return this.exactly(divisor) ?? Size.unknown('over', this, divisor);
  }

  /** A value that is no polynomial; equal to another one exactly if it is made in the same way. */
  static unknown(operator: string, ...operands: Size[]): Size {
    const name = `${operator}(${operands.map(({ key }) => key).join(',')})`;
    return Size.named(name.replaceAll('*', '.'));
  }
}

const asSize = (value: Size | number): Size => (typeof value === 'number' ? Size.of(value) : value);

const split = (names: string): string[] => names.split('*').filter((name) => name !== '');

function byName([a]: [string, number], [b]: [string, number]): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

export const one = Size.of(1);
export const product = (sizes: readonly Size[]): Size =>
  sizes.reduce((result, size) => result.times(size), one);
