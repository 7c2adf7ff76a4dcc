"""An artifact built again and compared.  ray job submit -- python jobs/reproduce.py ARTIFACT [KEY=VALUE ...]"""

import sys

from delia_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["reproduce", *sys.argv[1:]]))
