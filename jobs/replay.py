"""An artifact built again and compared.  ray job submit -- python jobs/replay.py ARTIFACT [KEY=VALUE ...]"""

import sys

from delia_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["replay", *sys.argv[1:]]))
