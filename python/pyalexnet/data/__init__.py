"""Images for training: where they come from, how they are varied, and their preparation in time."""

from pyalexnet.data.arrays import ImageArrays
from pyalexnet.data.dataset import Dataset, DataSource, Subset, as_dataset, split
from pyalexnet.data.digits import Digits
from pyalexnet.data.folder import ImageFolder
from pyalexnet.data.prepared import PreparedImages

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
