#!/usr/bin/env python3
"""Break the code on purpose, one line at a time, and show that a test notices.

    tools/mutate.py                 all mutations, in a worktree of their own: about a minute each
    tools/mutate.py dropout link    those whose name has one of these words

The working tree stays as it is; what is not committed is not seen.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from working_tree import ROOT, planted


@dataclass(frozen=True)
class Mutation:
    """A text in a file, what to put in its place, and the tests of which one must fail."""

    name: str
    file: str
    old: str
    new: str
    tests: str


MUTATIONS = (
    Mutation("padding read as the border pixel", "src/device/patches.cuh",
             "if (!inside) return nullptr;",
             "if (!inside && (row < -1 || column < -1)) return nullptr;",
             "tests/test_conv.py -k forward"),
    Mutation("taps left of the image are seen", "src/device/staged_quads.cuh",
             " & ~taps_inside(-x, p.kernel_width)", "", "tests/test_conv.py -k forward"),
    Mutation("a part of the sums is lost", "src/kernels/patch_product.cu",
             "for (int p = 1; p < parts; ++p) sum",
             "for (int p = 2; p < parts; ++p) sum",
             "tests/test_conv.py tests/test_linear.py"),
    Mutation("spectra that are there are computed again", "src/kernels/transformed_conv.cuh",
             "if (in.spectra) return in.spectra;", "",
             "tests/test_transformed_conv.py"),
    Mutation("kept spectra outlive the weights of a step", "pyalexnet/net/network.py",
             "                partial(self._programs.spectra.forget),\n", "",
             "tests/test_weight_spectra.py"),
    Mutation("kept spectra outlive weights that are loaded", "pyalexnet/net/network.py",
             "        self._programs.spectra.forget()\n        self._parameters.load", "        self._parameters.load",
             "tests/test_weight_spectra.py"),
    Mutation("weights are read beside their kept spectra", "src/kernels/transformed_conv.cuh",
             "if (w.spectra) return w.spectra;", "",
             "tests/test_transformed_conv.py"),
    Mutation("terms of a single row behind the last four are lost", "src/device/core_block.cuh",
             "x + k, matrix + (done + k) * pitch", "x, matrix + done * pitch",
             "tests/test_linear.py"),
    Mutation("the sums of dy are those of another plane", "src/kernels/winograd_conv.cuh",
             "sums_plane() const { return 5; }", "sums_plane() const { return 6; }",
             "tests/test_transformed_conv.py"),
    Mutation("kept spectra serve another algorithm", "pyalexnet/net/draft.py",
             "weights = Weights(layer, tower, plan.algorithm)", 'weights = Weights(layer, tower, "")',
             "tests/test_weight_spectra.py"),
    Mutation("a tile takes the lower window of its neighbour for the upper one", "src/kernels/maxpool.cu",
             "left > 0 && tile > 0 ? kept[up]", "left > 0 && tile > 0 ? kept[0]",
             "tests/test_maxpool.py"),
    Mutation("pools write past the caches what is not the gradient", "src/kernels/maxpool.cu",
             "store_past_caches(dx + at, value)", "store_past_caches(dx + at, value + value)",
             "tests/test_maxpool.py"),
    Mutation("a gradient's lines past the caches are those of another row", "src/device/block_parts.cuh",
             "store_past_caches(to + Tile::column(j), tile.sums[i][j])",
             "store_past_caches(to + Tile::column(j), tile.sums[0][j])",
             "tests/test_linear.py"),
    Mutation("parts of spectra are added where groups lie side by side", "src/kernels/patch_product.cu",
             "out.row(0, row) + group * out.group_stride + column",
             "out.row(0, row) + from",
             "tests/test_transformed_conv.py"),
    Mutation("a slice is read before its copies are there", "src/device/tensor_block.cuh",
             "          wait_for_copies<Tile::kBuffers - 2>();\n", "",
             "tests/test_precision.py -k sim"),
    Mutation("the first slice is read before its copies are there", "src/device/tensor_block.cuh",
             "    wait_for_copies<Tile::kBuffers - 1>();\n", "",
             "tests/test_precision.py -k sim"),
    Mutation("a slice is read before other threads have theirs", "src/device/tensor_block.cuh",
             "          __syncthreads();  // all have theirs, and all have read the slice before\n", "",
             "tests/test_precision.py -k sim"),
    Mutation("tf32 is cut off, not rounded", "src/device/precision.cuh",
             "(bits + 0xfffu + (bits >> 13 & 1u)) & 0xffffe000u", "bits & 0xffffe000u",
             "tests/test_precision.py"),
    Mutation("the last row of a transposed product is not ones", "src/device/copied_slices.cuh",
             "slice[k * kPitch + columns] = 1.0f;",
             "slice[k * kPitch + columns] = 0.0f;",
             "tests/test_conv.py tests/test_linear.py"),
    Mutation("the last row of a product in place is not ones", "src/device/left_in_place.cuh",
             "if (has_ones_) to[rest_] = 1.0f;",
             "if (has_ones_) to[rest_] = 0.0f;",
             "tests/test_conv.py"),
    Mutation("a product in place reads on where a row of pixels ends", "src/device/left_in_place.cuh",
             "std::min(patches_.out_width - pixel.out_x(), terms_ - done)",
             "terms_ - done",
             "tests/test_conv.py"),
    Mutation("words behind a kernel row's run are read on", "src/device/staged_words.cuh",
             "place_ -= patches_.run, next_ += static_cast<int>(patches_.row_stride) - patches_.run;",
             "place_ -= patches_.run;",
             "tests/test_conv.py"),
    Mutation("words behind the last term are multiplied", "src/device/staged_words.cuh",
             "staged_[i] = there ? next_[kept_in_a_register(offsets_[i])] : 0.0f;\n    place_",
             "staged_[i] = next_[kept_in_a_register(offsets_[i])];\n    place_",
             "tests/test_conv.py"),
    Mutation("quads of ragged runs are read whole", "src/device/vec.cuh",
             "if (aligned && lanes >= N) return load<N>(from);",
             "if (aligned && lanes > 0) return load<N>(from);",
             "tests/test_conv.py tests/test_linear.py"),
    Mutation("phases behind the kernel have the next row's taps", "src/kernels/phases.cu",
             "const bool seen = ky < s.kernel_height && kx < s.kernel_width;",
             "const bool seen = ky < s.kernel_height && kx <= s.kernel_width;",
             "tests/test_conv.py -k backward"),
    Mutation("pixels that no tap sees keep another phase's gradient", "src/kernels/phases.cu",
             "down.remainder < g.down.count && across.remainder < g.across.count", "down.remainder < g.down.count",
             "tests/test_conv.py -k backward"),
    Mutation("the phases of pixels begin at the image", "src/kernels/phases.cu",
             "split(x + s.padding, s.stride)", "split(x, s.stride)",
             "tests/test_conv.py -k backward"),
    Mutation("conv1's padded rows are read float by float", "src/kernels/layer_patches.cuh",
             "s.groups == 1 ? 0 : p.group_stride);\n  return p;\n}\n\n// Whether x's patches",
             "p.group_stride);\n  return p;\n}\n\n// Whether x's patches",
             "tests/kernels"),
    Mutation("the plan forgets that sums are cut in parts", "src/kernels/product_plan.cu",
             "if (plan.parts > 1) plan.workspace_bytes", "if (plan.parts > 2) plan.workspace_bytes",
             "tests/test_algorithms.py"),
    Mutation("a transposed matrix loses what fills no square", "src/kernels/transpose.cu",
             "column + kSquare < shape.columns ? column + kSquare : shape.columns;",
             "column + kSquare < shape.columns ? column + kSquare : shape.columns / kSquare * kSquare;",
             "tests/test_tile_edges.py -k connected"),
    Mutation("a copied run loses what fills no vector", "src/device/copied_slices.cuh",
             "store(to + count - N, load<N>(from + count - N));",
             "store(to + count / N * N - N, load<N>(from + count / N * N - N));",
             "tests/test_tile_edges.py -k convolutions"),
    Mutation("relu keeps the gradient at 0", "src/device/vec.cuh",
             "test.lanes[i] > 0.0f ? a.lanes[i] : b.lanes[i]",
             "test.lanes[i] >= 0.0f ? a.lanes[i] : b.lanes[i]",
             "tests/test_relu.py"),
    Mutation("a crop may leave its image", "src/kernels/augment.cu",
             "return offset < 0 ? 0 : (offset > size - crop ? size - crop : offset);",
             "return offset < 0 ? 0 : (offset > size ? size - crop : offset);",
             "tests/test_augment.py"),
    Mutation("lrn's backward reads dy as if it were dense", "src/kernels/lrn.cu",
             "load_lanes<N>(dy + row * dy_pitch + c, N, aligned)",
             "load_lanes<N>(dy + row * p.channels + c, N, aligned)",
             "tests/test_lrn.py"),
    Mutation("a NaN is pooled as if it were a number", "src/device/vec_lanes.cuh",
             "a_bits[i] > b_bits[i] ? a_bits[i] : b_bits[i]", "a_bits[i] < 0x7f800000u ? a_bits[i] : b_bits[i]",
             "tests/test_lrn_maxpool.py"),
    Mutation("a pixel's gradient is that of the window before it twice", "src/kernels/window_gradient.cuh",
             "before[row].to(number(row) + 2) + here.to(number(row))",
             "here.to(number(row) + 2) + here.to(number(row))",
             "tests/test_lrn_maxpool.py"),
    Mutation("a maximum hands on what the ReLU before it does not let through", "src/kernels/maxpool.cu",
             "p.x_from_relu ? select_positive(best.value, best.pixel, none) : best.pixel", "best.pixel",
             "tests/test_maxpool.py"),
    Mutation("maxima are looked for in rows of another window", "src/kernels/lrn_maxpool.cu",
             "&kept[(first + 2) % kWindowKernel]", "&kept[first % kWindowKernel]",
             "tests/test_lrn_maxpool.py"),
    Mutation("what is asked for between LRN and pooling is not kept", "pyalexnet/net/forward.py",
             ' or f"{layer.name}.lrn.y" in draft.kept', "",
             "tests/test_lrn_maxpool.py"),
    Mutation("dropout draws the same mask at each step", "pyalexnet/net/step_values.py",
             "+ step * len(_LAYERS)", "",
             "tests/test_network.py -k drop"),
    Mutation("shards share their dropout masks", "pyalexnet/net/step_values.py",
             "(shard << _SHARD_BIT) + step", "step",
             "tests/test_shards.py -k masks"),
    Mutation("a rank forgets a sum that it kept", "pyalexnet/net/gradient_sums.py",
             "for before in fold.add:", "for before in fold.add[1:]:",
             "tests/test_shards.py -k means"),
    Mutation("a rank counts its own gradient twice", "pyalexnet/net/gradient_sums.py",
             "{node: values[own] for node, values in mine}",
             "{node: values[own] * 2 for node, values in mine}",
             "tests/test_cluster.py -k several_nodes"),
    Mutation("ranks multiply the first shard's factors alone", "pyalexnet/net/gradient_sums.py",
             "factors.multiply(shard, products)", "factors.multiply(0, products)",
             "tests/test_cluster.py -k factors"),
    Mutation("weight decay makes weights grow", "src/kernels/sgd.cu",
             "broadcast<N>(-decay_lr)", "broadcast<N>(decay_lr)",
             "tests/test_sgd.py"),
    Mutation("rates by norms forget the decay", "src/kernels/lars.cu",
             "(w_norm / (g_norm + sgd.weight_decay * w_norm))", "(w_norm / g_norm)",
             "tests/test_lars.py"),
    Mutation("a later part's norm is that of the first part", "src/kernels/lars.cu",
             "const int64_t first = (part - table.first_part(r)) * kPartElements;", "const int64_t first = 0;",
             "tests/test_lars.py"),
    Mutation("dropout does not scale what goes back through it", "pyalexnet/net/backward.py",
             "relu_scale=1 / (1 - dropout)", "relu_scale=1.0", "tests/test_network.py -k pytorch"),
    Mutation("a tower's gradient counts twice, the other's not", "pyalexnet/net/backward.py",
             "a=parts[0], b=parts[1])", "a=parts[0], b=parts[0])",
             "tests/test_network.py -k pytorch"),
    Mutation("conv3 begins with smaller weights than the source's", "pyalexnet/architecture.py",
             'layer in ("conv3", "conv4", "conv5"):', 'layer in ("conv4", "conv5"):',
             "tests/test_architecture.py"),
    Mutation("biases of conv4 begin at 0", "pyalexnet/architecture.py",
             'if layer in ("conv2", "conv4", "conv5", "fc6", "fc7"):', 'if layer in ("conv2", "conv5", "fc6", "fc7"):',
             "tests/test_architecture.py"),
    Mutation("a link does not wait for the source's writers", "src/exchange/exchange.cpp",
             "    destination_copies_.wait(source_ready_);", "",
             "tests/test_exchange.py"),
    Mutation("a staged link does not wait for the source's writers", "src/exchange/exchange.cpp",
             "    source_copies_.wait(source_ready_);", "",
             "tests/test_exchange.py"),
    Mutation("a link does not say when the source was ready", "src/exchange/exchange.cpp",
             "source_.record(source_ready_);", "",
             "tests/test_exchange.py"),
    Mutation("a link does not wait for the destination's readers", "src/exchange/exchange.cpp",
             "destination_copies_.wait(destination_ready_);", "",
             "tests/test_exchange.py"),
    Mutation("a link does not say when the destination was ready", "src/exchange/exchange.cpp",
             "destination_.record(destination_ready_);", "",
             "tests/test_exchange.py"),
    Mutation("a link does not say when it has copied", "src/exchange/exchange.cpp",
             "destination_copies_.record(copied_);", "",
             "tests/test_exchange.py"),
    Mutation("the source does not wait for a link's copy", "src/exchange/exchange.cpp",
             "  source_.wait(copied_);", "",
             "tests/test_exchange.py"),
    Mutation("the destination does not wait for a link's copy", "src/exchange/exchange.cpp",
             "  destination_.wait(copied_);", "",
             "tests/test_exchange.py"),
    Mutation("a staged link does not say which rows are there", "src/exchange/exchange.cpp",
             "source_copies_.record(*staged_[chunk]);", "",
             "tests/test_exchange.py"),
    Mutation("a staged link does not wait for its rows", "src/exchange/exchange.cpp",
             "destination_copies_.wait(*staged_[chunk]);", "",
             "tests/test_exchange.py"),
    Mutation("a link's staging memory goes while it is read", "src/exchange/exchange.cpp",
             "destination_copies_.synchronize();", "",
             "tests/test_exchange.py"),
    Mutation("a link goes before its copy is done", "src/exchange/exchange.cpp",
             "cudaStreamSynchronize(stream->on());", "",
             "tests/test_exchange.py"),
    Mutation("a step returns before the second device is done", "pyalexnet/net/network.py",
             "            self._transfers.synchronize()\n        except CudaError:",
             "        except CudaError:",
             "tests/test_network.py -k both_devices"),
    Mutation("forward does not ask after the device that has nothing of the result", "pyalexnet/net/network.py",
             "self._transfers.synchronize()  # a device that holds", "pass  # a device that holds",
             "tests/test_failed_calls.py -k copy_of_forward"),
    Mutation("a kernel may write beside its arrays", "src/hostcuda/cores.cpp",
             "if (work.kernel_name() && memory_guarded) {", "if (false) {",
             "tests/test_guarded_memory.py"),
    Mutation("freed memory waits where the system gives no more", "src/hostcuda/memory.cpp",
             "spare.unmap_oldest(0);", "",
             "tests/hostcuda/test_hostcuda.py -k freed_memory"),
    Mutation("a freed mapping serves an allocation of another size", "src/hostcuda/memory.cpp",
             "return mapping.size == size;", "return mapping.size >= size / 2;",
             "tests/hostcuda/test_hostcuda.py -k freed_memory"),
    Mutation("shuffled streams overtake what they wait for", "src/hostcuda/shuffle.cpp",
             "!wait->record->held;", "!wait->record->completed;",
             "tests/hostcuda/test_hostcuda.py -k random_programs"),
    Mutation("shuffled streams take turns", "src/hostcuda/shuffle.cpp",
             "stream->rank > chosen->rank", "false",
             "tests/hostcuda/test_hostcuda.py -k may_be"),
    Mutation("a model file forgets the step", "pyalexnet/net/model_file.py",
             "net.step = about.step", "net.step = 0",
             "tests/test_resume.py tests/test_model_file.py"),
    Mutation("a damaged weight passes for the one that was written", "pyalexnet/net/proof.py",
             "if digest != self.tensors.get(name)", "if name not in self.tensors",
             "tests/test_proof.py -k flipped"),
    Mutation("logits that are not finite prove a model", "pyalexnet/net/proof.py",
             "return self.difference <= self.tolerance", "return not self.difference > self.tolerance",
             "tests/test_proof.py -k not_finite"),
    Mutation("a pickle calls what it likes", "pyalexnet/formats/pickles.py",
             "self._stand_in(module, name)", "super().find_class(module, name)",
             "tests/test_convert_cuda_convnet.py -k executed"),
    Mutation("a tower's inputs are taken in the file's order", "pyalexnet/formats/cuda_convnet.py",
             "[inputs.index(each) for each in before.names]", "[*range(len(inputs))]",
             "tests/test_convert_cuda_convnet.py -k logits"),
    Mutation("probabilities do not sum to 1", "pyalexnet/net/judging.py",
             "powers / powers.sum(axis=1, keepdims=True)", "powers",
             "tests/test_evaluation.py"),
    Mutation("fc6's inputs are taken row by row", "pyalexnet/formats/content.py",
             ".transpose(3, 2, 0, 1).reshape(value.shape[1], -1)", ".transpose(3, 0, 1, 2).reshape(value.shape[1], -1)",
             "tests/test_convert_pytorch.py -k computes"),
    Mutation("a pooling that makes larger maps passes for the net's", "pyalexnet/formats/steps.py",
             "if padded == size and", "if padded >= size and",
             "tests/test_convert_caffe.py -k refused"),
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Try them one after the other.

    Returns:
        1 if a mutation passed unnoticed or does not fit the code any more, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="try those whose name has one of these")
    parser.add_argument("--list", action="store_true", help="show their names and what each changes")
    options = parser.parse_args(arguments)
    chosen = [each for each in MUTATIONS if not options.words or any(word in each.name for word in options.words)]
    if options.list:
        for each in chosen:
            print(f"{each.name}\n    {each.file}: {each.old}\n    -> {each.new}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree], cwd=ROOT, check=True)
        try:
            unnoticed = [each.name for each in chosen if not is_noticed(each, tree)]
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=ROOT, check=True)
    print(f"{len(chosen) - len(unnoticed)} of {len(chosen)} mutations were noticed")
    return 1 if unnoticed else 0


def is_noticed(mutation: Mutation, tree: Path) -> bool:
    """Apply a mutation, build, run its tests and put the code back; tells what came of it."""
    try:
        with planted(tree / mutation.file, mutation.old, mutation.new):
            build = subprocess.run(
                [sys.executable, tree / "tools" / "develop.py", "--build-dir", tree.parent / "build"],
                capture_output=True, text=True,
            )  # fmt: skip
            if build.returncode:
                print(f"{mutation.name}: does not compile\n{build.stdout[-2000:]}{build.stderr[-2000:]}", flush=True)
                return False
            environment = {**os.environ, "PYTHONPATH": str(tree)}
            tests = subprocess.run(
                [sys.executable, "-m", "pytest", "-q", "-x", *mutation.tests.split()],
                cwd=tree, env=environment, capture_output=True, text=True,
            )  # fmt: skip
    except ValueError as error:  # it does not fit the code any more
        print(f"{mutation.name}: {error}", flush=True)
        return False
    failed = [line for line in tests.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    what = "NOT NOTICED"
    if tests.returncode < 0:  # memory that the program or its allocator guards, for example
        what = f"ended the tests by {signal.Signals(-tests.returncode).name}"
    elif tests.returncode == 1 and failed:
        what = failed[0].partition(" - ")[0]
    print(f"{mutation.name}: {what}", flush=True)
    return what != "NOT NOTICED"


if __name__ == "__main__":
    sys.exit(main())
