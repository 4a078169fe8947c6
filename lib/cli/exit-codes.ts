/** Exit statuses of the command. */
export const exitCodes = {
  ok: 0,
  /** Something failed: at least one image, or the command as a whole. */
  failed: 1,
  /** The command line is wrong: an unknown option, a value that cannot be, options that contradict each other, no image found. */
  usage: 2,
  /** Ctrl-C (128 + SIGINT). */
  interrupted: 130,
  /** The terminal was closed (128 + SIGHUP). */
  hungUp: 129,
  /** SIGTERM (128 + SIGTERM). */
  terminated: 143,
} as const;

/** Shown under the help of commands that work on images. */
export const exitCodesHelp = `
Exit codes:
  0    all images are done
  1    some images failed (standard error names each), or the command could not run
  2    the command line is wrong
  130  interrupted with Ctrl-C; finished images stay
  143  the same, by SIGTERM
  129  the same, because the terminal was closed`;

/** Shown under the help of the commands that train. */
export const trainingExitCodesHelp = `
Exit codes:
  0    the run is finished
  1    it could not start or continue, or has diverged; --resume continues from the newest good checkpoint
  2    the command line is wrong
  130  stopped with Ctrl-C; the last step is saved, and --resume continues
  143  the same by SIGTERM
  129  the same because the terminal was closed`;
