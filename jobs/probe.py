<<<<<<< HEAD
"""The method's predictions, measured on a run's models.  ray job submit -- python jobs/probe.py --config FILE [KEY=VALUE ...]"""
=======
"""What is inside the models.  ray job submit -- python jobs/probe.py tokens --config FILE [KEY=VALUE ...]"""
>>>>>>> 45b4db6 (Look at what the new token has come to mean)

import sys

from delia_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["probe", *sys.argv[1:]]))
