"""Ray: one task for each rank, in a placement group. Never run: there was no Ray.

ray job submit --working-dir . -- python ray_ranks.py 4 -- --data /data/photos --out /data/runs/teacher --resume
"""

import os
import signal
import socket
import subprocess
import sys

import ray
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

CPUS = 8


@ray.remote
def free_address() -> tuple[str, int]:
    with socket.socket() as found:
        found.bind(("", 0))
        return ray.util.get_node_ip_address(), found.getsockname()[1]


@ray.remote(max_retries=0)
def run_rank(rank: int, size: int, address: tuple[str, int], options: list[str]) -> int:
    place = {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": address[0],
        "MASTER_PORT": str(address[1]),
        "OMP_NUM_THREADS": str(CPUS),
    }
    # A group of its own, which ends with this task.
    child = subprocess.Popen(
        ["npx", "ltrp", "pretrain", *options], env={**os.environ, **place}, start_new_session=True
    )
    try:
        return child.wait()
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)


def main() -> int:
    size, options = int(sys.argv[1]), sys.argv[3:]
    ray.init()
    group = placement_group([{"CPU": CPUS}] * size, strategy="SPREAD")
    ray.get(group.ready())

    def place(rank: int) -> PlacementGroupSchedulingStrategy:
        return PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank)

    address = ray.get(free_address.options(num_cpus=CPUS, scheduling_strategy=place(0)).remote())
    ranks = [
        run_rank.options(num_cpus=CPUS, scheduling_strategy=place(rank)).remote(
            rank, size, address, options
        )
        for rank in range(size)
    ]
    return max(ray.get(ranks))


if __name__ == "__main__":
    sys.exit(main())
