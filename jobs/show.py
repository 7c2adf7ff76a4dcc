"""The chain of artifacts of a run.  ray job submit -- python jobs/show.py --config FILE [KEY=VALUE ...]"""

import sys

from delia_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["show", *sys.argv[1:]]))
