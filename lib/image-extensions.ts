/**
 * Files in folders that are taken for pictures, in any case; files that are named one by one are tried whatever they are
 * called. What this build of sharp cannot read among them is reported by name, never passed over.
 */
export const imageExtensions: readonly string[] = [
  'jpg', 'jpeg', 'jpe', 'jfif', 'jfi', 'jif', 'pjpeg', 'pjp', 'mpo', 'png', 'apng', 'webp', 'avif', 'heif', 'heic', 'hif',
  'tif', 'tiff', 'gif', 'svg', 'svgz', 'jp2', 'jxl',
]; // prettier-ignore

/** Kinds of pictures that are not read: those in a folder are skipped and reported. */
export const unreadExtensions: readonly string[] = [
  'bmp', 'dib', 'ico', 'cur', 'icns', 'wbmp', 'xbm', 'xpm', 'tga', 'pcx', 'dds', 'qoi', 'bpg', 'flif', 'jxr', 'wdp', 'hdp',
  'jpf', 'jpx', 'jpm', 'j2k', 'j2c', 'ppm', 'pgm', 'pbm', 'pnm', 'pam', 'pfm', 'hdr', 'exr', 'fits', 'sgi', 'ras',
  'psd', 'psb', 'xcf', 'kra', 'ai', 'eps', 'emf', 'wmf',
  'raw', 'dng', 'cr2', 'cr3', 'crw', 'nef', 'nrw', 'arw', 'srf', 'sr2', 'orf', 'rw2', 'raf', 'srw', 'pef', 'x3f', '3fr',
  'erf', 'kdc', 'mrw', 'iiq', 'gpr',
]; // prettier-ignore
