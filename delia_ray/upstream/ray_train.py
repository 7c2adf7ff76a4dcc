"""Ray 2.60: the error of a training whose workers failed too often, exported by Ray Train's second version from a module of its own.

Can go when ``ray.train.TrainingFailedError`` is that of version 2: https://github.com/ray-project/ray/tree/master/python/ray/train/v2.
"""

from ray.train.v2.api.exceptions import TrainingFailedError

__all__ = ["TrainingFailedError"]
