"""What is inside a run's models.  ray job submit -- python jobs/probe.py gradients|tokens --config FILE [KEY=VALUE ...]"""

import sys

from delia_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["probe", *sys.argv[1:]]))
