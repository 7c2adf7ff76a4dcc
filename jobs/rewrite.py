"""The task's rows under many wordings of its instruction.  ray job submit -- python jobs/rewrite.py --config FILE [KEY=VALUE ...]"""

import sys

from delia_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["rewrite", *sys.argv[1:]]))
