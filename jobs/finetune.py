"""Train every arm.  ray job submit -- python jobs/finetune.py --config FILE [KEY=VALUE ...]"""

import sys

from delia_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
