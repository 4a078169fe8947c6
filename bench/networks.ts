/** Network namespaces with addresses of their own, joined by a router; each has a link of bounded bandwidth. Needs root. */
import { spawn, spawnSync, type ChildProcess, type StdioOptions } from 'node:child_process';

export interface Networks {
  /** Starts rank `rank` of `size` in the namespace of its number, with torchrun's variables and `threads` threads; rank 0 hosts the store. */
  start: (
    rank: number,
    size: number,
    command: readonly string[],
    options?: { threads?: number; stdio?: StdioOptions },
  ) => ChildProcess;
  /** Takes the link of the namespace `i` down, or up again. */
  link: (i: number, state: 'down' | 'up') => void;
  close: () => void;
}

const ran = (command: string): boolean =>
  spawnSync('sh', ['-ec', command], { stdio: 'ignore' }).status === 0;

/** `count` of them with `mbit` Mbit/s each; null where this process may not make them. */
export function makeNetworks(count: number, mbit = 100): Networks | null {
  const name = `ltrp${process.pid}`;
  const spaces = Array.from({ length: count }, (_, i) => `${name}n${i}`);
  const hub = `${name}hub`;
  const close = (): void => {
    for (const space of [...spaces, hub]) ran(`ip netns delete ${space}`);
  };
  /** The IPv4 address in the namespace `i`. */
  const address = (i: number): string => `10.77.${i}.2`;
  const made = ran(`
    ip netns add ${hub}
    ip netns exec ${hub} sh -c 'echo 1 > /proc/sys/net/ipv4/ip_forward'
    ${spaces
      .map(
        (space, i) => `
    ip netns add ${space}
    ip -n ${hub} link add port${i} type veth peer name wire netns ${space}
    ip -n ${hub} address add 10.77.${i}.1/24 dev port${i}
    ip -n ${hub} link set port${i} up
    ip -n ${space} address add ${address(i)}/24 dev wire
    ip -n ${space} link set lo up
    ip -n ${space} link set wire up
    ip -n ${space} route add default via 10.77.${i}.1
    ip netns exec ${space} tc qdisc add dev wire root tbf rate ${mbit}mbit burst 128kbit latency 400ms`,
      )
      .join('')}`);
  if (!made) {
    close();
    return null;
  }
  return {
    start: (rank, size, command, { threads = 1, stdio = 'pipe' } = {}) =>
      spawn('ip', ['netns', 'exec', spaces[rank] ?? '', ...command], {
        stdio,
        env: {
          ...process.env,
          ...{ RANK: String(rank), WORLD_SIZE: String(size), LOCAL_RANK: '0' },
          ...{ MASTER_ADDR: address(0), MASTER_PORT: '29500', OMP_NUM_THREADS: String(threads) },
        },
      }),
    link: (i, state) => {
      const space = spaces[i] ?? '';
      const route = state === 'up' ? `ip -n ${space} route replace default via 10.77.${i}.1` : '';
      if (!ran(`ip -n ${space} link set wire ${state}\n${route}`))
        throw new Error(`the link of namespace ${i} cannot be set ${state}`);
    },
    close,
  };
}
