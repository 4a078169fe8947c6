/** What the service counts, for Prometheus. Labels have few values: the route's template, never the address. */
import type { Packages } from './packages.js';
import type { Admission } from './limits.js';

export interface Metrics {
  /** One request was answered, or left by its client (499). */
  answered: (route: string, status: number, seconds: number) => void;
  /** One batch begins. */
  batch: (items: number) => void;
  /** The page, and its content type. */
  page: () => Promise<string>;
  contentType: string;
}

export function makeMetrics(
  { Registry, Counter, Gauge, Histogram, collectDefaultMetrics }: Packages['prometheus'],
  admission: Admission,
): Metrics {
  const register = new Registry();
  collectDefaultMetrics({ register });
  const registers = [register];
  const requests = new Counter({
    name: 'ltrp_requests_total',
    help: 'Requests by route and status; 499: the client left.',
    labelNames: ['route', 'status'],
    registers,
  });
  const seconds = new Histogram({
    name: 'ltrp_request_seconds',
    help: 'From the arrival of a request to its answer.',
    labelNames: ['route'],
    buckets: [0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30],
    registers,
  });
  const batches = new Histogram({
    name: 'ltrp_batch_pictures',
    help: 'Pictures that were computed together.',
    buckets: [1, 2, 4, 8, 16, 32, 64],
    registers,
  });
  new Gauge({
    name: 'ltrp_pictures_in_flight',
    help: 'Pictures that are received, waiting or computed.',
    registers,
    collect() {
      this.set(admission.pictures);
    },
  });
  return {
    answered: (route, status, time) => {
      requests.inc({ route, status });
      seconds.observe({ route }, time);
    },
    batch: (items) => batches.observe(items),
    page: () => register.metrics(),
    contentType: register.contentType,
  };
}
