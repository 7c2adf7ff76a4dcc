"""Endpoint over finished models (serve.py would hide serve/).  ray job submit -- python jobs/endpoint.py --config FILE [KEY=VALUE ...]"""

import sys

from delia_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
