"""AlexNet, the 2012 net, on hand-written CUDA kernels that run on GPUs and on CPU cores."""

from importlib.metadata import version

from pyalexnet import ops
from pyalexnet.architecture import Options
from pyalexnet.backend import DeviceInfo, devices
from pyalexnet.classifier import Classifier
from pyalexnet.data.prepare import prepare
from pyalexnet.errors import (
    CudaError,
    DataError,
    DeviceNotFoundError,
    DivergedError,
    ModelFileError,
    OutOfMemoryError,
    SaveError,
)
from pyalexnet.evaluation import Evaluation, Prediction, evaluate, predict
from pyalexnet.memory import MemoryPlan
from pyalexnet.model_file import load_model, save_model
from pyalexnet.network import AlexNet, ImageBatch
from pyalexnet.result import TrainingResult
from pyalexnet.run_state import EpochRecord
from pyalexnet.tensor import Tensor
from pyalexnet.training import train

__version__ = version("pyalexnet")

__all__ = [
    "AlexNet",
    "Classifier",
    "CudaError",
    "DataError",
    "DeviceInfo",
    "DeviceNotFoundError",
    "DivergedError",
    "EpochRecord",
    "Evaluation",
    "ImageBatch",
    "MemoryPlan",
    "ModelFileError",
    "Options",
    "OutOfMemoryError",
    "Prediction",
    "SaveError",
    "Tensor",
    "TrainingResult",
    "devices",
    "evaluate",
    "load_model",
    "ops",
    "predict",
    "prepare",
    "save_model",
    "train",
]
