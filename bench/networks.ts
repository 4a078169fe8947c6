/** Network namespaces with addresses of their own, joined by a router; each has a link of bounded bandwidth. Needs root. */
import { spawnSync } from 'node:child_process';

export interface Networks {
  /** What begins the command line of a process in the namespace `i`. */
  enter: (i: number) => string[];
  /** The IPv4 address in the namespace `i`. */
  address: (i: number) => string;
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
    enter: (i) => ['ip', 'netns', 'exec', spaces[i] ?? ''],
    address,
    link: (i, state) => {
      const space = spaces[i] ?? '';
      const route = state === 'up' ? `ip -n ${space} route replace default via 10.77.${i}.1` : '';
      if (!ran(`ip -n ${space} link set wire ${state}\n${route}`))
        throw new Error(`the link of namespace ${i} cannot be set ${state}`);
    },
    close,
  };
}
