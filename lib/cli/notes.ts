/** Prints how a model's file was read where it left something open. */

/** A sentence of the library in the words of `ltrp convert`, with `call` in front of its options. */
export function inConvertOptions(sentence: string, call = ''): string {
  return sentence
    .replace("weights: '", `${call}--weights '`)
    .replace('normalizedTarget', `${call}--normalized-target`);
}

/** Says `notes` on standard error. Commands but convert take a file as it is; convert writes one that says it all. */
export function sayNotes(notes: readonly string[], call = 'ltrp convert '): void {
  for (const note of notes) process.stderr.write(`note: ${inConvertOptions(note, call)}\n`);
}

/** Prints the notes of a model once it is loaded. */
export async function withNotes<Model extends { notes: readonly string[] }>(
  loading: Promise<Model>,
): Promise<Model> {
  const model = await loading;
  sayNotes(model.notes);
  return model;
}
