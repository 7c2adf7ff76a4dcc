"""The page and experiment.json.  ray job submit -- python jobs/experiment.py --config FILE [KEY=VALUE ...]"""

import sys

from delia_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["experiment", *sys.argv[1:]]))
