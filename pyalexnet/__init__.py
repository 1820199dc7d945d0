"""AlexNet, the 2012 net, on hand-written CUDA kernels that run on GPUs and on CPU cores."""

from pyalexnet import ops
from pyalexnet.backend import DeviceInfo, devices
from pyalexnet.errors import CudaError, DeviceNotFoundError, OutOfMemoryError
from pyalexnet.tensor import Tensor

__all__ = ["CudaError", "DeviceInfo", "DeviceNotFoundError", "OutOfMemoryError", "Tensor", "devices", "ops"]
