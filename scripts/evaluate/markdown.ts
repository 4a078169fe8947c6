/** The tables of results.md, which also go to standard output. */
import { table } from '../../bench/report/tables.js';
import { digits, signedInterval } from '../../lib/evaluation/points.js';
import { keeps } from './shares.js';
import type { Results } from './results.js';

export const shares = (values: readonly number[]): string => values.map(digits).join(' / ');
/** `references`: rows that others are subtracted from. */
export function markdown(results: Results, references: readonly string[]): string {
  const parts = [heading(results), ...objectTables(results, references)];
  for (const { name } of results.sets) {
    if (name !== 'coco') parts.push(...judgeTables(results, name, references));
  }
  parts.push(...agreementTables(results), ...reliabilityTable(results));
  return `${parts.join('\n\n')}\n`;
}

function heading({
  part,
  sets,
  size,
  patch,
  objectFit,
  models,
  teacherSettings,
  processor,
  command,
}: Results): string {
  const pictures = sets.map(({ name, pictures }) => `${pictures.length} of ${name}`).join(', ');
  return [
    `# Real photographs, ${part} part`,
    `\`${command}\` on ${processor}.`,
    `Pictures: ${pictures}; ${size} px, ${patch} px patches${objectFit === 'whole' ? ', as many in coco but by the aspect' : ''}. Teachers' maps: ${JSON.stringify(teacherSettings)}.`,
    `Models: ${models.map(({ row, digest }) => `${row} (SHA-256 ${digest}...)`).join(', ')}.`,
    'Three figures: 25 / 50 / 75% of the patches kept. In brackets: 95% intervals of a paired bootstrap over pictures.',
  ].join('\n\n');
}

function objectTables(results: Results, references: readonly string[]): string[] {
  const coco = results.sets.find(({ name }) => name === 'coco');
  if (coco === undefined) return [];
  const measures = ['object recall', 'instance recall'];
  return [
    `## Objects: ${coco.pictures.length} pictures, ${coco.instances ?? 0} instances`,
    'Share of object pixels in the kept patches: of all of a picture (every picture counts the same), and of an instance ' +
      '(every instance counts the same).',
    figureTable(results, 'coco', measures),
    ...differenceTables(results, 'coco', measures, references),
  ];
}

function judgeTables(results: Results, set: string, references: readonly string[]): string[] {
  const measures = ['judge, mean', 'judge, blur'];
  const count = results.sets.find(({ name }) => name === set)?.pictures.length ?? 0;
  return [
    `## Judge: ${count} pictures of ${set}`,
    `Share of the pictures for which ${results.judge ?? 'the judge'} answers the same on the kept patches as on the whole ` +
      "picture; dropped patches show the picture's mean colour, or a blurred copy.",
    figureTable(results, set, measures),
    ...differenceTables(results, set, measures, references),
  ];
}

/** One line for each row, one column for each measure and selector. */
function figureTable(
  { figures, rows, selectors }: Results,
  set: string,
  measures: string[],
): string {
  const columns = selectors.flatMap((selector) =>
    measures.map((measure) => ({ measure, selector })),
  );
  const lines = rows.flatMap((row) => {
    const cells = columns.map(({ measure, selector }) => {
      const values = keeps.map(
        (keep) =>
          figures.find(
            (each) =>
              each.set === set &&
              each.row === row &&
              each.measure === measure &&
              each.selector === selector &&
              each.keep === keep,
          )?.value,
      );
      return values.some((value) => value === undefined) ? null : shares(values as number[]);
    });
    return cells.includes(null) ? [] : [[row, ...(cells as string[])]];
  });
  return table(
    ['map', ...columns.map(({ measure, selector }) => `${measure}, ${selector}`)],
    lines,
  );
}

/** What each reference gains on every other row, by the first selector. */
function differenceTables(
  { differences, rows, selectors }: Results,
  set: string,
  measures: readonly string[],
  references: readonly string[],
): string[] {
  return references.flatMap((reference) =>
    measures.flatMap((measure) => {
      const lines = rows.flatMap((row) => {
        const cells = keeps.flatMap((keep) => {
          const found = differences.find(
            (each) =>
              each.set === set &&
              each.row === row &&
              each.minus.row === reference &&
              each.measure === measure &&
              each.selector === selectors[0] &&
              each.keep === keep,
          );
          // The table says what the reference has more; results.json has the rows' differences.
          return found === undefined
            ? []
            : [signedInterval({ value: -found.value, low: -found.high, high: -found.low })];
        });
        return cells.length === keeps.length ? [[row, ...cells]] : [];
      });
      if (lines.length === 0) return [];
      return [
        `What **${reference}** has more, ${measure}, ${selectors[0] ?? ''}:`,
        table(['than', ...keeps.map((keep) => `${100 * keep}%`)], lines),
      ];
    }),
  );
}

function agreementTables({ figures, rows, sets }: Results): string[] {
  const measures = [...new Set(figures.map(({ measure }) => measure))].filter((measure) =>
    /^(tau|NDCG), /.test(measure),
  );
  if (measures.length === 0) return [];
  const columns = sets.flatMap(({ name }) => measures.map((measure) => ({ set: name, measure })));
  const lines = rows.flatMap((row) => {
    const cells = columns.map(({ set, measure }) => {
      const found = figures.find(
        (each) => each.set === set && each.measure === measure && each.row === row,
      );
      return found === undefined ? '' : digits(found.value);
    });
    return cells.every((cell) => cell === '') ? [] : [[row, ...cells]];
  });
  return [
    '## Agreement with the teacher',
    "Kendall's tau-b and NDCG with the teacher's map of most rounds, means over the pictures.",
    table(['map', ...columns.map(({ set, measure }) => `${measure}, ${set}`)], lines),
  ];
}

function reliabilityTable({ reliability }: Results): string[] {
  if (reliability.length === 0) return [];
  return [
    "## Reliability of the teacher's maps",
    'Two independent halves of the rounds, means over the pictures; reliability of the whole by Spearman-Brown.',
    table(
      ['set', 'teacher', 'rounds', 'correlation of halves', 'tau of halves', 'reliability'],
      reliability.map(({ set, teacher, rounds, halves, reliability: whole }) => [
        set,
        teacher,
        String(rounds),
        digits(halves.correlation),
        digits(halves.tau),
        digits(whole),
      ]),
    ),
  ];
}

/** How rows change with the selector: one table for each row and set, and what each selector has more than the first. */
export function selectionMarkdown(results: Results): string {
  const { figures, differences, rows, selectors, sets } = results;
  const parts = [heading(results)];
  for (const row of rows) {
    for (const { name: set } of sets) {
      const own = figures.filter((each) => each.row === row && each.set === set && each.selector);
      const measures = [...new Set(own.map(({ measure }) => measure))];
      if (measures.length === 0) continue;
      const lines = selectors.map((selector) => [
        selector,
        ...measures.map((measure) =>
          keeps
            .map((keep) => {
              const matches = (each: {
                measure: string;
                selector: string | null;
                keep: number | null;
              }): boolean =>
                each.measure === measure && each.selector === selector && each.keep === keep;
              const difference = differences.find(
                (each) =>
                  each.set === set && each.row === row && each.minus.row === row && matches(each),
              );
              const sure = difference !== undefined && difference.low * difference.high > 0;
              return digits(own.find(matches)?.value ?? NaN) + (sure ? '*' : '');
            })
            .join(' / '),
        ),
      ]);
      parts.push(`## ${row}, ${set}`, table(['selector', ...measures], lines));
    }
  }
  parts.push(`*: the 95% interval of the difference from ${selectors[0] ?? ''} excludes 0.`);
  return `${parts.join('\n\n')}\n`;
}
