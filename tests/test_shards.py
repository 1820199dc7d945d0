"""The sum over shards is one tree, whoever computes which of them."""

from __future__ import annotations

import numpy as np
import pytest

from pyalexnet import AlexNet
from pyalexnet.net.shards import MOST_SHARDS, Node, Shards, tree_sum
from pyalexnet.system.ranks import Ranks

COUNTS = [*range(1, 34), 48, 96]


class Rank(Ranks):
    """One of several, which only knows that."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


def added_up(count: int, size: int) -> str:
    """What so many ranks compute of so many shards, as a formula; each rank follows its folds."""
    sums = {}
    for rank in range(size):
        shards = Shards(count, Rank(rank, size))
        kept: dict[int, str] = {}
        for shard, fold in zip(range(shards.own.first, shards.own.last), shards.folds(), strict=True):
            gradient = str(shard)
            for place in fold.add:
                gradient = f"({kept[place]} + {gradient})"
            if fold.keep is not None:
                assert fold.keep < shards.kept_sums
                kept[fold.keep] = gradient
        nodes = shards.nodes_of_rank(rank)
        in_order = [*(kept[place] for place in range(len(nodes) - 1)), gradient]
        sums |= dict(zip(nodes, in_order, strict=True))
    return tree_sum(Node(0, count), sums, lambda a, b: f"({a} + {b})")


def formula(first: int, last: int) -> str:
    """The tree, written down by its rule alone."""
    if last - first == 1:
        return str(first)
    left = 1
    while 2 * left < last - first:
        left *= 2
    return f"({formula(first, first + left)} + {formula(first + left, last)})"


def test_the_tree_is_what_is_said_of_it() -> None:
    assert formula(0, 8) == "(((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7)))"
    assert formula(0, 6) == "(((0 + 1) + (2 + 3)) + (4 + 5))"


@pytest.mark.parametrize("count", COUNTS)
def test_any_number_of_ranks_computes_the_same_additions(count: int) -> None:
    sizes = [size for size in range(1, count + 1) if count % size == 0]
    assert {added_up(count, size) for size in sizes} == {formula(0, count)}


@pytest.mark.parametrize("size", [1, 2, 3, 8, 12])
@pytest.mark.parametrize("per_rank", [1, 2, 4, 16])
def test_a_power_of_two_of_shards_is_one_message(size: int, per_rank: int) -> None:
    shards = Shards(size * per_rank, Rank(0, size))
    assert all(shards.nodes_of_rank(rank) == [shards.of_rank(rank)] for rank in range(size))
    assert shards.received_nodes == size - 1


@pytest.mark.parametrize(
    ("count", "size", "message"),
    [
        (0, 1, "shards is 0; it must be at least 1"),
        (MOST_SHARDS + 1, 1, f"shards is {MOST_SHARDS + 1}; it must be at most {MOST_SHARDS}"),
        (4, 3, "shards is 4; it must be a multiple of the number of ranks, 3"),
        (2, 4, "shards is 2; it must be a multiple of the number of ranks, 4"),
    ],
)
def test_shards_that_cannot_be_shared(count: int, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Shards(count, Rank(0, size))


def batch(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.standard_normal((count, 227, 227, 3), np.float32) * 50, rng.integers(0, 4, count)


def net(**options: object) -> AlexNet:
    return AlexNet(4, bias_init="caffe", **options)


def test_gradients_and_loss_are_the_shards_means(rng: np.random.Generator) -> None:
    """Exact: the same additions in NumPy; a division by 3 of float32 is rounded once."""
    x, labels = batch(6, rng)
    whole, parts = net(dropout=0.0), []
    losses = []
    for shard in range(3):
        one = net(dropout=0.0)
        own = slice(2 * shard, 2 * shard + 2)
        losses.append(one.train_step(x[own], labels[own], lr=0.01))
        parts.append(one.gradients())
    before = whole.parameters()
    loss = whole.train_step(x, labels, lr=0.01, momentum=0.0, weight_decay=0.0, shards=3)
    # Means of two float32 each, in float64, against the mean of six: both round twice.
    assert loss == pytest.approx(np.mean(losses), rel=1e-15)
    after = whole.parameters()
    for name, gradient in whole.gradients().items():
        total = parts[0][name] + parts[1][name] + parts[2][name]
        np.testing.assert_array_equal(gradient, total / np.float32(3), err_msg=name)
        # v = -(lr / 3)·g and w + v are rounded to 2^-24 of the larger each, and lr / 3 to float32.
        expected = before[name] - np.float64(0.01) / 3 * total
        scale = np.abs(before[name]) + np.abs(expected)
        assert np.all(np.abs(after[name] - expected) <= 2**-22 * scale + 1e-38), name


def test_one_shard_is_the_step_without_shards(rng: np.random.Generator) -> None:
    x, labels = batch(2, rng)
    one, other = net(), net()
    assert one.train_step(x, labels, lr=0.01) == other.train_step(x, labels, lr=0.01, shards=1)
    for name, value in one.parameters().items():
        np.testing.assert_array_equal(value, other.parameters()[name])


def test_weight_decay_does_not_depend_on_the_number_of_shards(rng: np.random.Generator) -> None:
    """Exact for a power of two, which scales without rounding: a frozen gradient leaves the decay alone."""
    x, labels = batch(4, rng)
    x[:] = 0  # conv1's weights have no gradient then
    nets = [net(dropout=0.0) for _ in range(2)]
    for one, shards in zip(nets, (1, 4), strict=True):
        one.train_step(x, labels, lr=0.5, weight_decay=0.25, shards=shards)
    first, second = (one.parameters()["conv1.weight"] for one in nets)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, net().parameters()["conv1.weight"])


def test_each_shard_has_dropout_masks_of_its_own(rng: np.random.Generator) -> None:
    """The same images in both shards, so that only the masks differ: with the same ones, both losses would be."""
    x, labels = batch(2, rng)
    twice, none = net(), net(dropout=0.0)
    for one in (twice, none):
        one.train_step(np.concatenate([x, x]), np.concatenate([labels, labels]), lr=0.0, shards=2)
    of_last = net()
    of_last.train_step(x, labels, lr=0.0)
    first, second = (one.read(one.last_step().array("loss.losses")) for one in (of_last, twice))
    assert not np.array_equal(first, second)
    without = none.read(none.last_step().array("loss.losses"))
    once = net(dropout=0.0)
    once.train_step(x, labels, lr=0.0)
    np.testing.assert_array_equal(once.read(once.last_step().array("loss.losses")), without)


@pytest.mark.parametrize("devices", [["cpu:0", "cpu:1"], ["sim:0"]])
def test_shards_have_the_same_bits_on_two_devices(devices: list[str], rng: np.random.Generator) -> None:
    x, labels = batch(3, rng)
    here, there = net(), net(devices=devices)
    if devices != ["sim:0"]:
        for _ in range(2):
            assert here.train_step(x, labels, lr=0.01, shards=3) == there.train_step(x, labels, lr=0.01, shards=3)
        for name, value in here.parameters().items():
            np.testing.assert_array_equal(value, there.parameters()[name])
    else:  # other sums than on cores, and memory that is full of NaNs
        there.train_step(x, labels, lr=0.01, shards=3)
        assert all(np.isfinite(value).all() for value in there.gradients().values())


def test_captured_shards_have_the_same_bits(rng: np.random.Generator) -> None:
    x, labels = batch(4, rng)
    captured, queued = net(), net()
    queued.captures = False
    for _ in range(3):
        assert captured.train_step(x, labels, lr=0.01, shards=2) == queued.train_step(x, labels, lr=0.01, shards=2)
    for name, value in captured.parameters().items():
        np.testing.assert_array_equal(value, queued.parameters()[name])


def test_a_batch_that_cannot_be_cut_changes_nothing(rng: np.random.Generator) -> None:
    x, labels = batch(3, rng)
    one = net()
    before = one.parameters()
    message = "the number of images is 3; it must be a multiple of the number of shards, 2"
    with pytest.raises(ValueError, match=f"^{message}$"):
        one.train_step(x, labels, lr=0.01, shards=2)
    assert one.step == 0
    for name, value in one.parameters().items():
        np.testing.assert_array_equal(value, before[name])
    with pytest.raises(TypeError, match=r"^shards is '2'; it must be an integer$"):
        one.train_step(x, labels, lr=0.01, shards="2")


def test_the_plan_counts_what_is_kept_between_shards() -> None:
    one = net()
    plain, cut = one.plan(2), one.plan(8, shards=4)
    of_sums = cut.total_bytes[0] - plain.total_bytes[0]
    gradients = sum(value.nbytes for value in one.parameters().values())
    assert 2 * gradients <= of_sums <= 2 * gradients + 2 * 32 * 256  # two sums; arrays begin at multiples of 256 bytes
    assert "sums" in str(cut)
