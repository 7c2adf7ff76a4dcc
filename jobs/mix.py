"""The training rows of every arm.  ray job submit -- python jobs/mix.py --config FILE [KEY=VALUE ...]"""

import sys

from delia_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["mix", *sys.argv[1:]]))
