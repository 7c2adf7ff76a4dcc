import sys

from delia_ray.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
