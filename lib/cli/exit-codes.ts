/** What the command's exit status says. */
export const exitCodes = {
  ok: 0,
  /** Something failed: at least one image, or the command as a whole. */
  failed: 1,
  /** The command line is wrong: an unknown option, a value out of range, no image found. */
  usage: 2,
  /** Ctrl-C (128 + SIGINT). */
  interrupted: 130,
} as const;

/** Shown under the help of commands that work on images. */
export const exitCodesHelp = `
Exit codes:
  0    all images were done
  1    some images failed (each is named on standard error), or the command could not run
  2    the command line is wrong
  130  interrupted with Ctrl-C`;
