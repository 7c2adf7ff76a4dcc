"""All stages in order.  ray job submit -- python jobs/pipeline.py --config FILE [KEY=VALUE ...]"""

import sys

from delia_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
