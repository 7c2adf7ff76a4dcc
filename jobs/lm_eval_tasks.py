"""Tasks of lm-eval before and after tuning.  ray job submit -- python jobs/lm_eval_tasks.py --config FILE [KEY=VALUE ...]"""

import sys

from delia_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["lm-eval", *sys.argv[1:]]))
