/** The package as `npm install --omit=optional` leaves it: sharp's JavaScript is there, its binary is not. */
import { cp, mkdir, readdir, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { repository } from './paths.js';

const installed = join(repository, 'node_modules');

/** Lays it out below `folder`; returns the package's folder. */
export async function packageWithoutSharpsBinary(folder: string): Promise<string> {
  const modules = join(folder, 'node_modules');
  const root = join(modules, 'ltrp');
  await mkdir(root, { recursive: true });
  // Copies, because a module resolves its imports from where it really lies.
  await cp(join(repository, 'dist'), join(root, 'dist'), { recursive: true });
  await cp(join(repository, 'package.json'), join(root, 'package.json'));
  await symlink(join(repository, 'models'), join(root, 'models'));
  await cp(join(installed, 'sharp'), join(modules, 'sharp'), { recursive: true });
  for (const name of await readdir(installed)) {
    const hasBinaries = ['sharp', '@img', 'ltrp', 'ltrp-cuda'].includes(name);
    if (!hasBinaries && !name.startsWith('.')) {
      await symlink(join(installed, name), join(modules, name));
    }
  }
  await mkdir(join(modules, '@img'));
  await symlink(join(installed, '@img', 'colour'), join(modules, '@img', 'colour'));
  return root;
}
