"""Weights by layer in a pickled dict in a ``.npy`` file, as ``bvlc_alexnet.npy`` has them; nothing in it is executed.

The file, which F. Kratzert's AlexNet for TensorFlow and others read, has for each layer a list of weights and biases,
in this package's layout, for images in BGR. The net, which it does not tell, is BVLC's AlexNet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyalexnet.architecture import Options, parameter_shapes
from pyalexnet.errors import ModelFileError
from pyalexnet.formats.content import MOST_BYTES, Content, require_finite
from pyalexnet.formats.pickles import PickledArray, unpickled
from pyalexnet.system.checks import shown
from pyalexnet.system.files import read_regular_file

_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '\|?O[48]?', 'fortran_order': False, 'shape': \(\), \} *\n", re.DOTALL
)
_BVLC = Options(lrn_over="both", lrn_alpha="caffe", lrn_k=1.0)


def read(path: Path) -> Content:
    """What such a file holds.

    Raises:
        OSError: it cannot be read.
        ModelFileError: it is another file, or its pickle does something else than build arrays.
    """
    content = read_regular_file(path, MOST_BYTES)
    header = _HEADER.match(content)
    if not header:
        raise ModelFileError(f"{path} is no NumPy file with a dict of weights")
    whole = unpickled(content[header.end() :], str(path))
    layers = whole.content if isinstance(whole, PickledArray) else None
    parameters = dict(_parameters(layers, str(path)))
    biases = parameters.get("fc8.bias")
    shapes = parameter_shapes(2 if biases is None else biases.size, *_BVLC.computed_as)
    for name in sorted(shapes.keys() | parameters.keys()):
        found = parameters[name].shape if name in parameters else "missing"
        if found != shapes.get(name):
            raise ModelFileError(f"{path}: {shown(name)} is {found}; it must be {shapes.get(name, 'absent')}")
    require_finite(parameters, str(path))
    if parameters["fc8.bias"].size < 2:
        raise ModelFileError(f"{path} has 1 output; there must be at least 2")
    remark = f"{path} has weights alone: its net is taken to be BVLC's AlexNet, for images as BGR"
    return Content(options=_BVLC, parameters=parameters, colours="bgr", remarks=(remark,))


def _parameters(layers: object, path: str) -> Any:
    """Pairs of a name and an array; a layer is a list of weights and biases, or a dict of both."""
    if not isinstance(layers, Mapping):
        raise ModelFileError(f"{path} holds no dict of layers")
    for key, layer in layers.items():
        name = key.decode("ascii", "replace") if isinstance(key, bytes) else key
        parts = [layer.get(b"weights"), layer.get(b"biases")] if isinstance(layer, Mapping) else layer
        if isinstance(layer, Mapping) and parts == [None, None]:
            parts = [layer.get("weights"), layer.get("biases")]
        if not isinstance(name, str) or not isinstance(parts, list) or len(parts) != 2:
            raise ModelFileError(f"{path}: layer {shown(name)} must be a list of weights and biases")
        for kind, part in zip(("weight", "bias"), parts, strict=True):
            if not isinstance(part, PickledArray):
                raise ModelFileError(f"{path}: {kind} of layer {shown(name)} must be an array")
            yield f"{name}.{kind}", part.float32(path)
