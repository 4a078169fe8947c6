/** Ctrl-C as an AbortSignal. */

let controller: AbortController | undefined;

/** The signal that Ctrl-C aborts. A second Ctrl-C ends the process at once. */
export function interruptSignal(): AbortSignal {
  if (controller === undefined) {
    const created = new AbortController();
    controller = created;
    process.once('SIGINT', () => {
      process.once('SIGINT', () => process.exit(130));
      created.abort();
    });
  }
  return controller.signal;
}

/** True after Ctrl-C. */
export function interrupted(): boolean {
  return controller?.signal.aborted ?? false;
}
