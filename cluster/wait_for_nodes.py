"""Wait until COUNT nodes with CPUs have joined the Ray cluster that RAY_ADDRESS names:  python cluster/wait_for_nodes.py COUNT [SECONDS]"""

import sys
import time

import ray


def main(count: int, seconds: float = 600.0) -> int:
    """Return 0 when the nodes are there, and 1 after ``seconds``."""
    ray.init(log_to_driver=False, logging_level="error")
    until = time.monotonic() + seconds
    while (joined := sum(bool(node["Alive"] and node["Resources"].get("CPU")) for node in ray.nodes())) < count:
        if time.monotonic() > until:
            print(f"wait_for_nodes: {joined} of {count} nodes after {seconds:g} s", file=sys.stderr)
            return 1
        time.sleep(2)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *map(float, sys.argv[2:3])))
