/** What the command's exit status says. */
export const exitCodes = {
  ok: 0,
  /** Something failed: at least one image, or the command as a whole. */
  failed: 1,
  /** The command line is wrong: an unknown option, a value that cannot be, options that contradict each other, no image found. */
  usage: 2,
  /** Ctrl-C (128 + SIGINT). */
  interrupted: 130,
  /** SIGTERM (128 + SIGTERM). */
  terminated: 143,
} as const;

/** Shown under the help of commands that work on images. */
export const exitCodesHelp = `
Exit codes:
  0    all images were done
  1    some images failed (each is named on standard error), or the command could not run
  2    the command line is wrong
  130  interrupted with Ctrl-C; what was done is there
  143  the same by SIGTERM`;

/** Shown under the help of the commands that train. */
export const trainingExitCodesHelp = `
Exit codes:
  0    the run is finished
  1    it could not begin or go on; --resume continues from the newest checkpoint
  2    the command line is wrong
  130  stopped with Ctrl-C; the last step is saved, and --resume continues
  143  the same by SIGTERM`;
