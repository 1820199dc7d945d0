"""Images for training: where they come from, how they are varied, and their preparation in time."""

from pyalexnet.data.arrays import ImageArrays
from pyalexnet.data.dataset import Dataset
from pyalexnet.data.digits import Digits
from pyalexnet.data.folder import ImageFolder
from pyalexnet.data.opening import DataSource, as_dataset
from pyalexnet.data.prepared import PreparedImages
from pyalexnet.data.subset import Subset, split

__all__ = [
    "DataSource",
    "Dataset",
    "Digits",
    "ImageArrays",
    "ImageFolder",
    "PreparedImages",
    "Subset",
    "as_dataset",
    "split",
]
