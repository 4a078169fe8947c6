/** The table of `npm run evaluate -- --classify`. */
import { studyTables } from '../../lib/evaluation/report.js';
import type { StudyResults } from '../../lib/evaluation/study.js';
import type { Provenance } from './command.js';

export interface ClassifyResults extends Provenance, StudyResults {
  /** What the pictures are of. */
  of: string;
  pictures: string[];
  /** How the classifier was trained; null where it was given. */
  training: string | null;
  /** Whether each selector and share has a classifier of its own. */
  fineTuned: boolean;
  /** `source`: the file or folder. */
  classifier: { source: string; digest: string; config: object };
  keeps: number[];
}

export function classifyMarkdown(results: ClassifyResults): string {
  const { training, classifier, keeps } = results;
  return (
    [
      `# Accuracy on kept patches, ${results.of}`,
      `\`${results.command}\` on ${results.processor}, ${results.date}; ${results.pictures.length} pictures.`,
      training === null
        ? `The classifier was given (SHA-256 ${classifier.digest.slice(0, 12)}...).`
        : `The classifier: \`${training}\` (SHA-256 ${classifier.digest.slice(0, 12)}...), in \`${classifier.source}\`.`,
      ...(results.fineTuned
        ? [
            'Each selector and share has a classifier of its own, fine-tuned on what the selector keeps; supervised selectors ask the one above.',
          ]
        : []),
      ...studyTables(results, keeps, 'ranker'),
    ].join('\n\n') + '\n'
  );
}
