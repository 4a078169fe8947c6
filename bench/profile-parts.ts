/** What `perf report` says, sorted into the parts of the engine. */
import type { Profile, ProfilePart } from './results.js';
import { profileParts } from './results.js';

/** One line of the report: time of one function in threads of one name. */
export interface Sample {
  /** Nanoseconds. */
  period: number;
  thread: string;
  /** File that the code is from; `[JIT] tid N` for generated code. */
  object: string;
  kernel: boolean;
  name: string;
}

/** The name that the core gives its compute thread; LibTorch's threads, which it starts, inherit it. */
const computeThread = 'ltrp-compute';

/** The columns that {@link parseReport} reads, as `perf report --fields` names them. */
export const reportFields = 'period,comm,dso,sym';
export const reportSeparator = ';';

export function parseReport(text: string): Sample[] {
  return text.split('\n').flatMap((line): Sample[] => {
    const [period = '', thread = '', object = '', ...rest] = line.split(reportSeparator);
    const nanoseconds = Number(period.trim());
    const found = /^\[(.)\]\s+(.*)$/.exec(rest.join(reportSeparator).trim());
    if (period.trim() === '' || Number.isNaN(nanoseconds) || found === null) return [];
    const [, space = '', name = ''] = found;
    return [
      {
        period: nanoseconds,
        thread: thread.trim(),
        object: object.trim(),
        kernel: space === 'k' || space === 'g',
        name: name.trim(),
      },
    ];
  });
}

/** Functions of the core, most particular first. Kernels of every instruction set have the same names. */
const coreParts: readonly (readonly [RegExp, ProfilePart])[] = [
  [/::logits_tile/, 'logits'],
  [/::values_tile/, 'values'],
  [/::(attend\b|attend_rows|exponentials)/, 'softmax'],
  [/::tile<|simd::\w+::(\w+::)*(tiles|product)\b/, 'products'],
  [/::removal_(task|attention)/, 'removal'],
  [/simd::\w+::(\(anonymous namespace\)::)?attention(_task)?\b/, 'operands'],
  [/simd::\w+::(\w+::)*(add_)?layer_norm/, 'norm'],
  [/simd::\w+::(\w+::)*gelu_|::finish\b/, 'gelu'],
  [/simd::\w+::(\w+::)*round_row/, 'rounding'],
  [/simd::\w+::(\w+::)*split_heads/, 'heads'],
];

const allocation =
  /alloc|memalign|free|mem(move|cpy|set)|unlink_chunk|consolidate|sbrk|munmap|mmap|madvise|^operator (new|delete)/;
const waiting = /sched_yield|yield_task|futex|pthread_cond|nanosleep/;

export function partOf({ thread, object, kernel, name }: Sample): ProfilePart {
  if (thread !== computeThread) return 'node';
  if (waiting.test(name) || object.startsWith('libgomp') || object.startsWith('libiomp'))
    return 'waiting';
  if (kernel) return 'kernel';
  // V8 generates code too, but not in this thread.
  if (generated(object) || /\b(dnnl|mkl|brgemm)/i.test(name) || object.startsWith('libmkl'))
    return 'products';
  if (object.startsWith('libltrp_core')) {
    return coreParts.find(([pattern]) => pattern.test(name))?.[1] ?? 'core';
  }
  if (/^(libc|ld-linux)[.-]/.test(object) || object.startsWith('libstdc++')) {
    return allocation.test(name) ? 'allocation' : 'library';
  }
  return 'library';
}

function generated(object: string): boolean {
  return object.startsWith('[JIT]') || object.startsWith('//anon') || object === '[unknown]';
}

/** Shares of the parts, in the report's order, and the largest functions; parts without a sample are left out. */
export function shares(samples: readonly Sample[]): Pick<Profile, 'parts' | 'functions'> {
  const total = samples.reduce((sum, { period }) => sum + period, 0);
  const sums = new Map<ProfilePart, number>();
  // Times first, shares of them at the end: sums of whole nanoseconds are exact.
  const functions = new Map<string, Profile['functions'][number]>();
  for (const sample of samples) {
    const part = partOf(sample);
    sums.set(part, (sums.get(part) ?? 0) + sample.period);
    if (generated(sample.object)) continue;
    const key = `${part} ${sample.object} ${sample.name}`;
    const { object, name } = sample;
    const known = functions.get(key) ?? { object, name, part, share: 0 };
    functions.set(key, { ...known, share: known.share + sample.period });
  }
  return {
    parts: profileParts.flatMap((part) => {
      const sum = sums.get(part);
      return sum === undefined ? [] : [{ part, share: sum / total }];
    }),
    functions: [...functions.values()]
      .map((found) => ({ ...found, share: found.share / total }))
      .sort((a, b) => b.share - a.share)
      .slice(0, 25),
  };
}
