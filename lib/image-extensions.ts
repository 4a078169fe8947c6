/**
 * Files in folders that are taken for pictures, in any case; files that are named one by one are tried whatever they are
 * called. What this build of sharp cannot read among them is reported by name, never passed over.
 */
export const imageExtensions: readonly string[] = [
  'jpg', 'jpeg', 'png', 'webp', 'avif', 'heif', 'heic', 'tif', 'tiff', 'gif', 'svg', 'jp2', 'jxl',
]; // prettier-ignore
