/** The packages that only a service needs. They are optional peers: who does not serve does not install them. */
import { unsupported } from '../errors.js';

/** What brings them, in versions that were tested. */
export const installCommand =
  'npm install fastify@5 @fastify/multipart@10 @fastify/swagger@9 @fastify/swagger-ui@6 prom-client@15';

/** @throws {LtrpError} `ERR_LTRP_UNSUPPORTED`: one of them is not installed. */
export async function loadPackages() {
  try {
    const [
      { default: fastify, LogController },
      { default: multipart },
      { default: swagger },
      ui,
      prometheus,
    ] = await Promise.all([
      import('fastify'),
      import('@fastify/multipart'),
      import('@fastify/swagger'),
      import('@fastify/swagger-ui'),
      import('prom-client'),
    ]);
    return { fastify, LogController, multipart, swagger, swaggerUi: ui.default, prometheus };
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code !== 'ERR_MODULE_NOT_FOUND') throw cause;
    const [, name = 'a package'] = /'([^']+)'/.exec(message) ?? [];
    throw unsupported(
      `ltrp serve needs packages that ltrp does not install (${name} is missing); \`${installCommand}\` installs them.`,
      cause,
    );
  }
}

export type Packages = Awaited<ReturnType<typeof loadPackages>>;
