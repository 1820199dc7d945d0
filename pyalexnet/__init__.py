"""AlexNet, the 2012 net, on hand-written CUDA kernels that run on GPUs and on CPU cores."""

from importlib import import_module as _import_module
from importlib.metadata import PackageNotFoundError as _PackageNotFoundError
from importlib.metadata import version as _version
from pkgutil import extend_path as _extend_path
from types import ModuleType as _ModuleType

# In a checkout the native modules are those of the installed package.
__path__ = _extend_path(__path__, __name__)

from pyalexnet import ops
from pyalexnet.architecture import Options
from pyalexnet.data.prepare import prepare
from pyalexnet.device.backend import DeviceInfo, devices
from pyalexnet.device.memory import MemoryPlan
from pyalexnet.device.tensor import Tensor
from pyalexnet.errors import (
    CudaError,
    DataError,
    DeviceNotFoundError,
    DivergedError,
    LauncherError,
    MissingLibraryError,
    ModelFileError,
    OutOfMemoryError,
    SaveError,
    StaleBuildError,
)
from pyalexnet.evaluation.activations import Activations, load_activations, save_activations
from pyalexnet.evaluation.evaluate import evaluate
from pyalexnet.evaluation.features import Features, extract_features, save_features
from pyalexnet.evaluation.neighbours import Neighbour, find_neighbours
from pyalexnet.evaluation.occlusion import OcclusionMap, occlusion_maps
from pyalexnet.evaluation.predict import Prediction, predict
from pyalexnet.evaluation.projection import Projection, project_units
from pyalexnet.evaluation.strongest import StrongestImages, StrongImage, find_strongest
from pyalexnet.formats.conversion import convert, load_model
from pyalexnet.net.classifier import Classifier
from pyalexnet.net.image_batch import ImageBatch
from pyalexnet.net.judging import ClassResult, Evaluation, Interval
from pyalexnet.net.layer_table import LayerRow, layer_table
from pyalexnet.net.model_file import save_model
from pyalexnet.net.network import AlexNet
from pyalexnet.system import extras as _extras
from pyalexnet.system import short_names as _short_names
from pyalexnet.training.events import TrainingEvent
from pyalexnet.training.record import RunRecord, load_run
from pyalexnet.training.result import TrainingResult
from pyalexnet.training.state import EpochRecord
from pyalexnet.training.train import train

try:
    __version__ = _version("pyalexnet")
except _PackageNotFoundError:
    raise ImportError("pyalexnet is not installed: run 'pip install .' in its folder") from None

# What takes a moment to import is there by its short name all the same.
_MODULES = {
    "ablation": "pyalexnet.study.ablation",
    "autograd": "pyalexnet.evaluation.autograd",
    "figures": "pyalexnet.study.figures",
    "ledger": "pyalexnet.study.ledger",
    "recipe": "pyalexnet.training.recipe",
    "report": "pyalexnet.study.report",
    "schedule": "pyalexnet.training.schedule",
    "similarity": "pyalexnet.evaluation.similarity",
    "timing": "pyalexnet.net.timing",
}
_short_names.install(__name__, _MODULES)

# Those that need a library of an extra: without it they are there to say so, and are not listed.
_NEEDS = {"autograd": ("torch",), "figures": ("matplotlib",), "report": ("jinja2", "matplotlib")}


def __getattr__(name: str) -> _ModuleType:
    if name in _MODULES:
        return _import_module(_MODULES[name])
    raise AttributeError(f"module 'pyalexnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    missing = {name for name, libraries in _NEEDS.items() if not _extras.are_installed(libraries)}
    return sorted({*globals(), *_MODULES} - missing)


__all__ = [
    "Activations",
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
    "LauncherError",
    "LayerRow",
    "MemoryPlan",
    "MissingLibraryError",
    "ModelFileError",
    "Neighbour",
    "OcclusionMap",
    "Options",
    "OutOfMemoryError",
    "Prediction",
    "Projection",
    "RunRecord",
    "SaveError",
    "StaleBuildError",
    "StrongImage",
    "StrongestImages",
    "Tensor",
    "TrainingEvent",
    "TrainingResult",
    "convert",
    "devices",
    "evaluate",
    "extract_features",
    "find_neighbours",
    "find_strongest",
    "layer_table",
    "load_activations",
    "load_model",
    "load_run",
    "occlusion_maps",
    "ops",
    "predict",
    "prepare",
    "project_units",
    "save_activations",
    "save_features",
    "save_model",
    "train",
]
