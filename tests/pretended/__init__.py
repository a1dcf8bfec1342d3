"""A CUDA device that is pretended: values on the CPU, devices and their rules as on a GPU.

It shows where code mixes devices. It shows no kernels of a GPU, nor its memory or speed.
"""

from pretended.device import Pretended, pretended_cuda
from pretended.labels import MixedDevicesError

__all__ = ["MixedDevicesError", "Pretended", "pretended_cuda"]
