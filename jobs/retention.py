"""Tasks of lm-eval before and after tuning.  ray job submit -- python jobs/retention.py --config FILE [KEY=VALUE ...]"""

import sys

from delia_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["retention", *sys.argv[1:]]))
