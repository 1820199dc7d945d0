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
from pyalexnet.evaluation import ClassResult, Evaluation, Interval, Prediction, evaluate, predict
from pyalexnet.features import Features, extract_features, save_features
from pyalexnet.image_batch import ImageBatch
from pyalexnet.memory import MemoryPlan
from pyalexnet.model_file import load_model, save_model
from pyalexnet.neighbours import Neighbour, find_neighbours
from pyalexnet.network import AlexNet
from pyalexnet.result import TrainingResult
from pyalexnet.run_record import RunRecord, load_run
from pyalexnet.run_state import EpochRecord
from pyalexnet.tensor import Tensor
from pyalexnet.training import train

__version__ = version("pyalexnet")

__all__ = [
    "AlexNet",
    "ClassResult",
    "Classifier",
    "CudaError",
    "DataError",
    "DeviceInfo",
    "DeviceNotFoundError",
    "DivergedError",
    "EpochRecord",
    "Evaluation",
    "Features",
    "ImageBatch",
    "Interval",
    "MemoryPlan",
    "ModelFileError",
    "Neighbour",
    "Options",
    "OutOfMemoryError",
    "Prediction",
    "RunRecord",
    "SaveError",
    "Tensor",
    "TrainingResult",
    "devices",
    "evaluate",
    "extract_features",
    "find_neighbours",
    "load_model",
    "load_run",
    "ops",
    "predict",
    "prepare",
    "save_features",
    "save_model",
    "train",
]
