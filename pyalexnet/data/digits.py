"""The default data set: scikit-learn's handwritten digits, which are installed with the package."""

from __future__ import annotations

import numpy as np

from pyalexnet.data.arrays import ImageArrays

TEST_FRACTION = 0.2
"""The part of the digits that training by default holds out."""

_LARGEST_GREY = 16


class Digits(ImageArrays):
    """1797 handwritten digits, 8×8 pixels of 17 grey levels, in ten classes.

    E. Alpaydin and C. Kaynak's Optical Recognition of Handwritten Digits (UCI Machine Learning Repository,
    1998), its test part, as scikit-learn ships it. The images are enlarged to 256×256 as they are asked for.
    """

    def __init__(self) -> None:
        """Read the images out of scikit-learn's package."""
        # Imported here, since it takes over a second.
        from sklearn.datasets import load_digits

        digits = load_digits()
        super().__init__(np.rint(digits.images * (255 / _LARGEST_GREY)).astype(np.uint8), digits.target)
