"""Finished models, checked in transformers and in vLLM.  ray job submit -- python jobs/export.py --config FILE [KEY=VALUE ...]"""

import sys

from delia_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
