"""What a native module contains, as types.

Every native module has the same functions and classes, and those for CPU cores some more. Here is what ``src/bindings``
binds, argument by argument; what a kernel computes stands in ``src/kernels``, in the file of its name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypedDict

if TYPE_CHECKING:
    from typing_extensions import CapsuleType


class NativeArray(Protocol):
    """An array as kernels take it; it keeps its memory. Strides are in elements; host memory is of device -1."""

    @property
    def shape(self) -> list[int]: ...
    @property
    def strides(self) -> list[int]: ...
    @property
    def device(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    @property
    def contiguous(self) -> bool: ...
    def slice_last(self, start: int, stop: int) -> NativeArray: ...
    def to_dlpack(self, device_type: int, versioned: bool, copied: bool) -> CapsuleType: ...


class NativeDlpackArray(Protocol):
    """What a DLPack capsule held; it keeps the memory."""

    @property
    def device_type(self) -> int: ...
    @property
    def device_id(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def type_code(self) -> int: ...
    @property
    def type_bits(self) -> int: ...
    @property
    def type_lanes(self) -> int: ...
    @property
    def shape(self) -> list[int]: ...
    @property
    def strides(self) -> list[int]: ...
    @property
    def read_only(self) -> bool: ...


class NativeMemory(Protocol):
    """Memory of a device, from which arrays are cut."""

    def __init__(self, device: int, bytes: int) -> None: ...
    @property
    def device(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    def array(
        self, offset_bytes: int, shape: Sequence[int], dtype: str = "float32", strides: Sequence[int] = ()
    ) -> NativeArray: ...


class NativePinnedMemory(Protocol):
    """Page-locked memory of the host."""

    def __init__(self, bytes: int) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...


class NativeEvent(Protocol):
    """A mark in a stream."""

    def __init__(self, device: int) -> None: ...
    def synchronize(self) -> None: ...
    def elapsed_ms_since(self, start: NativeEvent) -> float: ...


class NativeStream(Protocol):
    """A queue of work on a device."""

    def __init__(self, device: int) -> None: ...
    @property
    def device(self) -> int: ...
    def record(self, event: NativeEvent) -> None: ...
    def wait(self, event: NativeEvent) -> None: ...
    def synchronize(self) -> None: ...


class NativeLink(Protocol):
    """The way of copies from one device to another."""

    def __init__(self, source: NativeStream, destination: NativeStream, peer_access: bool = True) -> None: ...
    @property
    def peer(self) -> bool: ...
    def start(self, to: NativeArray, from_: NativeArray) -> None: ...
    def finish(self) -> None: ...


class NativeGraph(Protocol):
    """What ``work`` queues on the streams, captured: it is done by ``launch()``, as often as that is called.

    The graph keeps the streams, but not the memory of the work's arrays, which must be there at each launch. A launch
    is in order with what else is queued on the streams. ``CudaError`` where something cannot be captured.
    """

    def __init__(self, streams: Sequence[NativeStream], work: Callable[[], None]) -> None: ...
    def launch(self) -> None: ...


class NativeCost(Protocol):
    """What a call computes and moves."""

    @property
    def flops(self) -> int: ...
    @property
    def bytes(self) -> int: ...


class NativePlan(Protocol):
    """How a convolution or a matrix product is computed, as ``str()`` says."""

    @property
    def operation(self) -> str: ...
    @property
    def algorithm(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def parts(self) -> int: ...
    @property
    def batch_invariant(self) -> bool: ...
    @property
    def workspace_bytes(self) -> int: ...


class NativeConvPlan(NativePlan, Protocol):
    """The plan of a convolution or of one of its gradients."""

    @property
    def x_spectra_bytes(self) -> int: ...

    @property
    def w_spectra_bytes(self) -> int: ...


class NativeLinearPlan(NativePlan, Protocol):
    """The plan of a fully connected layer or of one of its gradients."""


class NativeDeviceInfo(TypedDict):
    """What a module tells of a device."""

    name: str
    multiprocessors: int
    total_bytes: int
    free_bytes: int
    tensor_cores: bool


class NativeTraffic(TypedDict):
    """What a launch moved: accesses of warps, sectors or wavefronts that they took, and how few would have done.

    ``instructions`` are those that warps executed. ``src/ptx/traffic.h`` has the rules.
    """

    kernel: str
    instructions: int
    global_loads: tuple[int, int, int]
    global_stores: tuple[int, int, int]
    shared_loads: tuple[int, int, int]
    shared_stores: tuple[int, int, int]


class NativeModule(Protocol):
    """A native module.

    What changes from step to step (``draw`` with the bytes of a seed and an offset, ``rates`` with learning rate,
    momentum and weight decay, ``scale``) is an array in host memory, read at the call, or one on the device, which the
    kernel reads when it runs.

    Functions named ``…_cost`` and ``…_plan`` take the arguments of the operation by name, those of which the answer
    depends or all: arrays, or whatever has a ``shape`` (and ``strides``, where these count).
    """

    source_digest: str

    Array: type[NativeArray]
    ConvPlan: type[NativeConvPlan]
    Cost: type[NativeCost]
    DlpackArray: type[NativeDlpackArray]
    Event: type[NativeEvent]
    Graph: type[NativeGraph]
    LinearPlan: type[NativeLinearPlan]
    Link: type[NativeLink]
    Memory: type[NativeMemory]
    PinnedMemory: type[NativePinnedMemory]
    Stream: type[NativeStream]

    # Devices, and memory of others.
    def device_count(self) -> int: ...
    def device_info(self, device: int) -> NativeDeviceInfo: ...
    def require_precision(self, precision: str, device: int) -> None: ...
    def can_access_peer(self, device: int, peer: int) -> bool: ...
    def device_of(self, address: int) -> int: ...
    def synchronize_device(self, device: int) -> None: ...
    def borrow(
        self, owner: object, address: int, dtype: str, shape: Sequence[int], strides: Sequence[int], device: int
    ) -> NativeArray: ...
    def from_dlpack(self, capsule: CapsuleType) -> NativeDlpackArray: ...
    def copy(self, dst: NativeArray, src: NativeArray, stream: NativeStream) -> None: ...

    # Convolution.
    def product_algorithms(self) -> list[str]: ...
    def conv_algorithms(self) -> list[str]: ...
    def conv_y_shape(
        self, x_shape: Sequence[int], w_shape: Sequence[int], stride: int, padding: int, groups: int
    ) -> list[int]: ...
    def conv_forward_plan(
        self, *, batch_invariant: bool = False, keeps_w_spectra: bool = False, **kwargs: object
    ) -> NativeConvPlan: ...
    def conv_x_spectra(
        self, plan: NativeConvPlan, spectra: NativeArray, x: NativeArray, stream: NativeStream
    ) -> None: ...
    def conv_x_spectra_cost(self, **kwargs: object) -> NativeCost: ...
    def conv_w_spectra(
        self, plan: NativeConvPlan, spectra: NativeArray, w: NativeArray, stream: NativeStream
    ) -> None: ...
    def conv_w_spectra_cost(self, **kwargs: object) -> NativeCost: ...
    def conv_forward(
        self,
        plan: NativeConvPlan,
        y: NativeArray,
        x: NativeArray,
        w: NativeArray,
        b: NativeArray | None,
        relu: bool,
        workspace: NativeArray,
        stream: NativeStream,
        x_spectra: NativeArray | None = None,
        w_spectra: NativeArray | None = None,
    ) -> None: ...
    def conv_forward_cost(self, **kwargs: object) -> NativeCost: ...
    def conv_backward_input_plan(self, **kwargs: object) -> NativeConvPlan: ...
    def conv_backward_input(
        self,
        plan: NativeConvPlan,
        dx: NativeArray,
        dy: NativeArray,
        w: NativeArray,
        workspace: NativeArray,
        stream: NativeStream,
    ) -> None: ...
    def conv_backward_input_cost(self, **kwargs: object) -> NativeCost: ...
    def conv_backward_weight_plan(self, **kwargs: object) -> NativeConvPlan: ...
    def conv_backward_weight(
        self,
        plan: NativeConvPlan,
        dw: NativeArray,
        db: NativeArray | None,
        x: NativeArray,
        dy: NativeArray,
        workspace: NativeArray,
        stream: NativeStream,
        x_spectra: NativeArray | None = None,
    ) -> None: ...
    def conv_backward_weight_cost(self, **kwargs: object) -> NativeCost: ...

    # The fully connected layer.
    def linear_forward_plan(self, *, batch_invariant: bool = False, **kwargs: object) -> NativeLinearPlan: ...
    def linear_forward(
        self,
        plan: NativeLinearPlan,
        y: NativeArray,
        x: NativeArray,
        w: NativeArray,
        b: NativeArray | None,
        relu: bool,
        workspace: NativeArray,
        stream: NativeStream,
    ) -> None: ...
    def linear_forward_cost(self, **kwargs: object) -> NativeCost: ...
    def linear_backward_input_plan(self, **kwargs: object) -> NativeLinearPlan: ...
    def linear_backward_input(
        self,
        plan: NativeLinearPlan,
        dx: NativeArray,
        dy: NativeArray,
        w: NativeArray,
        workspace: NativeArray,
        stream: NativeStream,
    ) -> None: ...
    def linear_backward_input_cost(self, **kwargs: object) -> NativeCost: ...
    def linear_backward_weight_plan(self, **kwargs: object) -> NativeLinearPlan: ...
    def linear_backward_weight(
        self,
        plan: NativeLinearPlan,
        dw: NativeArray,
        db: NativeArray | None,
        x: NativeArray,
        dy: NativeArray,
        workspace: NativeArray,
        stream: NativeStream,
    ) -> None: ...
    def linear_backward_weight_cost(self, **kwargs: object) -> NativeCost: ...

    # Elementwise functions.
    def relu_forward(self, y: NativeArray, x: NativeArray, stream: NativeStream) -> None: ...
    def relu_forward_cost(self, **kwargs: object) -> NativeCost: ...
    def relu_backward(
        self, dx: NativeArray, dy: NativeArray, y: NativeArray, scale: float, stream: NativeStream
    ) -> None: ...
    def relu_backward_cost(self, **kwargs: object) -> NativeCost: ...
    def tanh_forward(self, y: NativeArray, x: NativeArray, stream: NativeStream) -> None: ...
    def tanh_forward_cost(self, **kwargs: object) -> NativeCost: ...
    def tanh_backward(self, dx: NativeArray, dy: NativeArray, y: NativeArray, stream: NativeStream) -> None: ...
    def tanh_backward_cost(self, **kwargs: object) -> NativeCost: ...
    def add_slices(self, out: NativeArray, a: NativeArray, b: NativeArray, stream: NativeStream) -> None: ...
    def add_slices_cost(self, **kwargs: object) -> NativeCost: ...

    # Local response normalisation.
    def lrn_forward(
        self, y: NativeArray, x: NativeArray, size: int, alpha: float, beta: float, k: float, stream: NativeStream
    ) -> None: ...
    def lrn_forward_cost(self, **kwargs: object) -> NativeCost: ...
    def lrn_backward(
        self,
        dx: NativeArray,
        dy: NativeArray,
        x: NativeArray,
        size: int,
        alpha: float,
        beta: float,
        k: float,
        x_from_relu: bool,
        stream: NativeStream,
    ) -> None: ...
    def lrn_backward_cost(self, **kwargs: object) -> NativeCost: ...
    def lrn_in_map_forward(
        self,
        y: NativeArray,
        scale: NativeArray,
        x: NativeArray,
        size: int,
        alpha: float,
        beta: float,
        k: float,
        stream: NativeStream,
    ) -> None: ...
    def lrn_in_map_forward_cost(self, **kwargs: object) -> NativeCost: ...
    def lrn_in_map_backward(
        self,
        dx: NativeArray,
        terms: NativeArray,
        dy: NativeArray,
        x: NativeArray,
        scale: NativeArray,
        size: int,
        alpha: float,
        beta: float,
        k: float,
        stream: NativeStream,
    ) -> None: ...
    def lrn_in_map_backward_cost(self, **kwargs: object) -> NativeCost: ...

    # Max pooling.
    def maxpool_output_shape(self, x_shape: Sequence[int], kernel: int, stride: int, padding: int) -> list[int]: ...
    def maxpool_forward(
        self, y: NativeArray, x: NativeArray, kernel: int, stride: int, padding: int, stream: NativeStream
    ) -> None: ...
    def maxpool_forward_cost(self, **kwargs: object) -> NativeCost: ...
    def maxpool_backward(
        self,
        dx: NativeArray,
        dy: NativeArray,
        x: NativeArray,
        kernel: int,
        stride: int,
        padding: int,
        x_from_relu: bool,
        stream: NativeStream,
    ) -> None: ...
    def maxpool_backward_cost(self, **kwargs: object) -> NativeCost: ...

    # The same where forward keeps which pixels won, for windows and channels that fit.
    def keeps_winners(self, x_shape: Sequence[int], kernel: int, stride: int, padding: int) -> bool: ...
    def maxpool_forward_with_winners(
        self,
        y: NativeArray,
        winners: NativeArray,
        x: NativeArray,
        kernel: int,
        stride: int,
        padding: int,
        x_from_relu: bool,
        stream: NativeStream,
    ) -> None: ...
    def maxpool_forward_with_winners_cost(self, **kwargs: object) -> NativeCost: ...
    def maxpool_backward_by_winners(
        self,
        dx: NativeArray,
        dy: NativeArray,
        winners: NativeArray,
        kernel: int,
        stride: int,
        padding: int,
        stream: NativeStream,
    ) -> None: ...
    def maxpool_backward_by_winners_cost(self, **kwargs: object) -> NativeCost: ...

    # LRN and max pooling in one, for windows and channels that fit.
    def fits_lrn_maxpool(
        self,
        x_shape: Sequence[int],
        size: int,
        alpha: float,
        beta: float,
        k: float,
        kernel: int,
        stride: int,
        padding: int,
    ) -> bool: ...
    def lrn_maxpool_forward(
        self,
        y: NativeArray,
        winners: NativeArray | None,
        x: NativeArray,
        size: int,
        alpha: float,
        beta: float,
        k: float,
        kernel: int,
        stride: int,
        padding: int,
        stream: NativeStream,
    ) -> None: ...
    def lrn_maxpool_forward_cost(self, **kwargs: object) -> NativeCost: ...
    def lrn_maxpool_backward(
        self,
        dx: NativeArray,
        dy: NativeArray,
        winners: NativeArray,
        x: NativeArray,
        size: int,
        alpha: float,
        beta: float,
        k: float,
        kernel: int,
        stride: int,
        padding: int,
        x_from_relu: bool,
        stream: NativeStream,
    ) -> None: ...
    def lrn_maxpool_backward_cost(self, **kwargs: object) -> NativeCost: ...

    # Dropout.
    def dropout_forward(
        self,
        y: NativeArray,
        x: NativeArray,
        p: float,
        draw: NativeArray,
        row_elements: int,
        first_column: int,
        stream: NativeStream,
    ) -> None: ...
    def dropout_forward_cost(self, **kwargs: object) -> NativeCost: ...
    def dropout_backward(
        self,
        dx: NativeArray,
        dy: NativeArray,
        p: float,
        draw: NativeArray,
        row_elements: int,
        first_column: int,
        stream: NativeStream,
    ) -> None: ...
    def dropout_backward_cost(self, **kwargs: object) -> NativeCost: ...
    def philox(self, c0: int, c1: int, c2: int, c3: int, key: int) -> tuple[int, int, int, int]: ...

    # The loss, the update and the input.
    def softmax_forward(self, y: NativeArray, x: NativeArray, stream: NativeStream) -> None: ...
    def softmax_forward_cost(self, **kwargs: object) -> NativeCost: ...
    def cross_entropy(
        self, losses: NativeArray, dlogits: NativeArray, logits: NativeArray, labels: NativeArray, stream: NativeStream
    ) -> None: ...
    def cross_entropy_cost(self, **kwargs: object) -> NativeCost: ...
    def sgd_step(
        self,
        w: Sequence[NativeArray],
        v: Sequence[NativeArray],
        g: Sequence[NativeArray],
        rates: Sequence[NativeArray],
        stream: NativeStream,
    ) -> None: ...
    def sgd_arrays_a_launch(self) -> int: ...
    def sgd_step_cost(self, **kwargs: object) -> NativeCost: ...
    def lars_rates(
        self,
        w: Sequence[NativeArray],
        g: Sequence[NativeArray],
        rates: Sequence[NativeArray],
        scaled: Sequence[NativeArray],
        trust: NativeArray,
        workspace: NativeArray,
        stream: NativeStream,
    ) -> None: ...
    def lars_rates_workspace_bytes(self, **kwargs: object) -> int: ...
    def lars_rates_cost(self, **kwargs: object) -> NativeCost: ...
    def prepare_input(
        self,
        out: NativeArray,
        images: NativeArray,
        offsets: NativeArray,
        flips: NativeArray,
        shifts: NativeArray,
        mean: NativeArray | None,
        crop: int,
        padding: int,
        deviation: Sequence[float],
        scale: NativeArray,
        stream: NativeStream,
    ) -> None: ...
    def prepare_input_cost(self, **kwargs: object) -> NativeCost: ...

    # The most that a device computes.
    def multiply_add_peak(self, sink: NativeArray, rounds: int, stream: NativeStream) -> None: ...
    def multiply_add_peak_cost(self, blocks: int, rounds: int) -> NativeCost: ...


class CoresModule(NativeModule, Protocol):
    """A native module for CPU cores: how its virtual devices are, and which instruction sets the processor has."""

    def supported_instruction_sets(self) -> list[str]: ...
    def configure(self, cores: int, memory_bytes: int) -> None: ...
    def core_count(self) -> int: ...
    def set_schedule(
        self,
        threads: str = "ascending",
        blocks: str = "ascending",
        seed: int = 0,
        shuffle_streams: bool = False,
    ) -> None: ...
    def set_peer_capable(self, device: int, peer: int, capable: bool) -> None: ...
    def set_memory_limit(self, device: int, bytes: int) -> None: ...
    def fail_call(self, call: str, number: int) -> None: ...
    def launch_counts(self) -> dict[str, int]: ...


class PtxModule(CoresModule, Protocol):
    """The native module that executes PTX: of which architecture, how it rounds, what it counts; kernels from text."""

    def architectures(self) -> list[int]: ...
    def architecture(self) -> int: ...
    def set_architecture(self, architecture: int) -> None: ...
    def set_fused(self, fused: bool) -> None: ...
    def count_traffic(self, on: bool) -> None: ...
    def take_traffic(self) -> list[NativeTraffic]: ...
    def unknown_instructions(self) -> list[str]: ...
    def launch_text(
        self,
        text: str,
        kernel: str,
        blocks: int,
        threads: int,
        arguments: Sequence[int | bytes],
        stream: NativeStream,
        shared_bytes: int = 0,
    ) -> None: ...
