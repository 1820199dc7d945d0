"""ONNX's own tests of its operators, for those that pyalexnet.ops has too."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from pyalexnet import ops

_1D_OR_3D = "images have two axes of pixels"
_ASYMMETRIC = "padding is the same on all four sides"
_CEILING = "a window that reaches over the padded image is left out"
_DILATION = "windows have no gaps"
_INDICES = "where a maximum lies is not an output"
_INFERENCE = "inference leaves dropout out"
_MASK = "a mask is not an output, but drawn again"
_RANDOM = "another generator draws"
_UINT8 = "pixels are float32"

DO_NOT_APPLY = {
    "test_conv_with_strides_and_asymmetric_padding": _ASYMMETRIC,
    "test_dropout_default": _INFERENCE,
    "test_dropout_default_mask": _INFERENCE,
    "test_dropout_default_mask_ratio": _INFERENCE,
    "test_dropout_default_old": _INFERENCE,
    "test_dropout_default_ratio": _INFERENCE,
    "test_dropout_random_old": _INFERENCE,
    "test_gemm_default_matrix_bias": "the rows share a bias",
    "test_maxpool_1d_default": _1D_OR_3D,
    "test_maxpool_2d_ceil": _CEILING,
    "test_maxpool_2d_ceil_output_size_reduce_by_one": _CEILING,
    "test_maxpool_2d_dilations": _DILATION,
    "test_maxpool_2d_same_lower": _ASYMMETRIC,
    "test_maxpool_2d_same_upper": _ASYMMETRIC,
    "test_maxpool_2d_uint8": _UINT8,
    "test_maxpool_3d_default": _1D_OR_3D,
    "test_maxpool_3d_dilations": _1D_OR_3D,
    "test_maxpool_3d_dilations_use_ref_impl": _1D_OR_3D,
    "test_maxpool_3d_dilations_use_ref_impl_large": _1D_OR_3D,
    "test_maxpool_with_argmax_2d_precomputed_pads": _INDICES,
    "test_maxpool_with_argmax_2d_precomputed_strides": _INDICES,
    "test_training_dropout": _RANDOM,
    "test_training_dropout_default": _RANDOM,
    "test_training_dropout_default_mask": _RANDOM,
    "test_training_dropout_mask": _RANDOM,
    "test_training_dropout_zero_ratio_mask": _MASK,
}
APPLY = (
    "test_basic_conv_with_padding",
    "test_basic_conv_without_padding",
    "test_conv_with_autopad_same",
    "test_conv_with_strides_no_padding",
    "test_conv_with_strides_padding",
    "test_gemm_all_attributes",
    "test_gemm_alpha",
    "test_gemm_beta",
    "test_gemm_default_no_bias",
    "test_gemm_default_scalar_bias",
    "test_gemm_default_single_elem_vector_bias",
    "test_gemm_default_vector_bias",
    "test_gemm_default_zero_bias",
    "test_gemm_transposeA",
    "test_gemm_transposeB",
    "test_lrn",
    "test_lrn_default",
    "test_maxpool_2d_default",
    "test_maxpool_2d_pads",
    "test_maxpool_2d_precomputed_pads",
    "test_maxpool_2d_precomputed_same_upper",
    "test_maxpool_2d_precomputed_strides",
    "test_maxpool_2d_strides",
    "test_relu",
    "test_softmax_axis_0",
    "test_softmax_axis_1",
    "test_softmax_axis_2",
    "test_softmax_default_axis",
    "test_softmax_example",
    "test_softmax_large_number",
    "test_softmax_negative_axis",
    "test_tanh",
    "test_tanh_example",
    "test_training_dropout_zero_ratio",
)


@pytest.fixture(scope="session")
def cases() -> dict[str, Any]:
    """ONNX's cases of our operators, by name."""
    node = pytest.importorskip("onnx.backend.test.case.node")
    for operator in OPERATORS:
        importlib.import_module(f"{node.__name__}.{operator.lower()}")
    own = [case for case in node._NodeTestCases if {each.op_type for each in case.model.graph.node} <= set(OPERATORS)]
    return {case.name: case for case in own}


def test_every_case_is_known(cases: dict[str, Any]) -> None:
    assert sorted(cases) == sorted([*APPLY, *DO_NOT_APPLY])


@pytest.mark.parametrize("name", APPLY)
def test_case(device: str, cases: dict[str, Any], name: str) -> None:
    helper = pytest.importorskip("onnx.helper")
    case = cases[name]
    (node,) = case.model.graph.node
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    for inputs, (expected,) in case.data_sets:
        y = OPERATORS[node.op_type](device, *inputs, **attributes)
        assert y.shape == expected.shape
        # Both are sums of at most 75 products in float32; by ONNX's own tolerance of 1e-3, LRN's alpha could be any.
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)


def conv(
    device: str,
    x: Any,
    w: Any,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: tuple[int, int] = (1, 1),
    auto_pad: bytes = b"NOTSET",
) -> Any:
    stride = one_of(strides)
    padding = one_padding(x, kernel_shape, stride, pads, auto_pad)
    return to_nchw(ops.conv2d(to_nhwc(x), w.transpose(2, 3, 1, 0), stride=stride, padding=padding, device=device))


def max_pool(
    device: str,
    x: Any,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: tuple[int, int] = (1, 1),
    auto_pad: bytes = b"NOTSET",
) -> Any:
    stride = one_of(strides)
    padding = one_padding(x, kernel_shape, stride, pads, auto_pad)
    y = ops.max_pool2d(to_nhwc(x), kernel=one_of(kernel_shape), stride=stride, padding=padding, device=device)
    return to_nchw(y)


def lrn(device: str, x: Any, *, size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0) -> Any:
    return to_nchw(ops.lrn(to_nhwc(x), size=size, alpha=alpha / size, beta=beta, k=bias, device=device))


# pyalexnet.ops has no factors: these go into the arguments.
def gemm(
    device: str,
    a: Any,
    b: Any,
    c: Any = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
) -> Any:
    x, w = np.float32(alpha) * (a.T if transA else a), b.T if transB else b
    bias = None if c is None else np.broadcast_to(np.float32(beta) * c, (1, w.shape[1]))[0]
    return np.asarray(ops.linear(x, w, bias, device=device))


def softmax(device: str, x: Any, *, axis: int = -1) -> Any:
    rows = np.moveaxis(x, axis, -1)
    y = np.asarray(ops.softmax(rows.reshape(-1, rows.shape[-1]), device=device))
    return np.moveaxis(y.reshape(rows.shape), -1, axis)


def dropout(device: str, x: Any, ratio: Any, training: Any, *, seed: int) -> Any:
    assert training
    return np.asarray(ops.dropout(x, p=float(ratio), seed=seed, device=device))


def relu(device: str, x: Any) -> Any:
    return np.asarray(ops.relu(x, device=device))


def tanh(device: str, x: Any) -> Any:
    return np.asarray(ops.tanh(x, device=device))


OPERATORS: dict[str, Callable[..., Any]] = {
    "Conv": conv,
    "Dropout": dropout,
    "Gemm": gemm,
    "LRN": lrn,
    "MaxPool": max_pool,
    "Relu": relu,
    "Softmax": softmax,
    "Tanh": tanh,
}


def to_nhwc(x: Any) -> Any:
    return x.transpose(0, 2, 3, 1)


def to_nchw(y: Any) -> Any:
    return np.asarray(y).transpose(0, 3, 1, 2)


def one_of(numbers: Any) -> int:
    (number,) = set(numbers)
    return int(number)


def one_padding(x: Any, kernel_shape: list[int], stride: int, pads: list[int] | None, auto_pad: bytes) -> int:
    if pads is not None:
        return one_of(pads)
    if auto_pad == b"NOTSET":
        return 0
    over = {max(0, (-(-size // stride) - 1) * stride + one_of(kernel_shape) - size) for size in x.shape[2:]}
    half, odd = divmod(one_of(over), 2)
    assert auto_pad in (b"SAME_LOWER", b"SAME_UPPER")
    assert not odd
    return half
