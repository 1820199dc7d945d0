"""The kernels as functions: NumPy arrays or Tensors in, Tensors out; NHWC and HWIO; float32.

Each computes on its arguments' device and is complete when it returns. Arrays of the host are taken to
``device=`` (default ``cpu:0``), without a copy where that is the host's own memory. Any alignment serves, and gives the
same bits. Any number of threads may call at once; a process forked from one that has used its devices is refused.

Denormal numbers count as zero in arithmetic, on every target (as with nvcc's ``-ftz=true``): as an argument, and as a
result. What is only moved, as by :func:`relu`, stays as it is, and the caller's own threads keep theirs.
"""

from pyalexnet.ops.algorithms import conv_algorithms, product_algorithms
from pyalexnet.ops.augment import prepare_input
from pyalexnet.ops.conv import conv2d, conv2d_backward_input, conv2d_backward_weight
from pyalexnet.ops.dropout import dropout, dropout_backward
from pyalexnet.ops.linear import linear, linear_backward_input, linear_backward_weight
from pyalexnet.ops.lrn import lrn, lrn_backward
from pyalexnet.ops.lrn_in_map import lrn_in_map, lrn_in_map_backward
from pyalexnet.ops.maxpool import max_pool2d, max_pool2d_backward
from pyalexnet.ops.relu import relu, relu_backward
from pyalexnet.ops.sgd import sgd_step
from pyalexnet.ops.softmax import cross_entropy, softmax
from pyalexnet.ops.tanh import tanh, tanh_backward

__all__ = [
    "conv2d",
    "conv2d_backward_input",
    "conv2d_backward_weight",
    "conv_algorithms",
    "cross_entropy",
    "dropout",
    "dropout_backward",
    "linear",
    "linear_backward_input",
    "linear_backward_weight",
    "lrn",
    "lrn_backward",
    "lrn_in_map",
    "lrn_in_map_backward",
    "max_pool2d",
    "max_pool2d_backward",
    "prepare_input",
    "product_algorithms",
    "relu",
    "relu_backward",
    "sgd_step",
    "softmax",
    "tanh",
    "tanh_backward",
]
