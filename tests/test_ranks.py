"""What ranks must agree on is said by its name, and a process alone is all of its ranks."""

from __future__ import annotations

from typing import Any

import pytest

from pyalexnet.net.judging import judge
from pyalexnet.net.placement import describe_placement
from pyalexnet.system import machine, ranks
from pyalexnet.system.ranks import ALONE, Ranks, is_said_elsewhere, join_ranks, working_alone


class Others(Ranks):
    """Rank 0 of several, whose others have these values."""

    def __init__(self, *others: dict[str, Any]) -> None:
        self.others, self.size = others, 1 + len(others)

    def gather(self, value: Any) -> list[Any]:
        return [value, *self.others]


def test_a_process_alone() -> None:
    assert join_ranks() is ALONE
    assert ALONE.is_first
    assert ALONE.gather(3) == [3]
    assert ALONE.from_first(lambda: 4) == 4
    assert list(ALONE.in_rounds(iter("abc"), 3)) == [["a"], ["b"], ["c"]]
    with pytest.raises(AssertionError, match="a process alone cannot send 'x' to rank 1"):
        ALONE.send("x", 1)
    with pytest.raises(AssertionError, match="a process alone receives nothing from rank 1"):
        ALONE.receive(1)
    ALONE.agree({"lr": 0.1})
    with pytest.raises(KeyError) as caught, ALONE.ending_together():
        raise KeyError("x")
    assert not is_said_elsewhere(caught.value)


def test_ranks_that_agree() -> None:
    Others({"lr": 0.1, "seed": 0}, {"lr": 0.1, "seed": 0}).agree({"lr": 0.1, "seed": 0})


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ([{"lr": 0.1}, {"lr": 0.2}], r"lr is 0\.2 on rank 2 and 0\.1 on rank 0; it must be the same on all ranks"),
        ([{}], r"lr is None on rank 1 and 0\.1 on rank 0; it must be the same on all ranks"),
        ([{"lr": 0.1, "more": 1}], "more is 1 on rank 1 and None on rank 0; it must be the same on all ranks"),
    ],
)
def test_ranks_that_do_not_agree(others: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        Others(*others).agree({"lr": 0.1})


def test_what_bits_follow_from_is_told_of_devices() -> None:
    one, two, simulated = map(describe_placement, (("cpu:0",), ("cpu:0", "cpu:1"), ("sim:0",)))
    assert one["the number of devices"] == 1
    assert two["the number of devices"] == 2
    assert one["the kind of device"] == two["the kind of device"] != simulated["the kind of device"]
    assert one["the native module's sources"]


def test_processes_share_their_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_sharing_processes", 1)
    cores = machine.usable_cores()
    for processes, expected in ((2, max(1, cores // 2)), (1000, 1), (1, cores)):
        machine.let_share_cores(processes)
        assert machine.usable_cores() == expected


class Turn(Ranks):
    """One of two, for whose judging the other's answers are put down first."""

    def __init__(self, rank: int, of_other: list[Any]) -> None:
        self.rank, self.size, self.of_other, self.own = rank, 2, of_other, []

    def gather(self, value: Any) -> list[Any]:
        self.own.append(value)
        other = self.of_other.pop(0) if self.of_other else []
        return [value, other] if self.rank == 0 else [other, value]


def test_judging_is_shared_to_the_same_bits(digits_model: Any) -> None:
    """49 images in batches of 16 are four batches, two a rank."""
    from pyalexnet.data import Digits
    from pyalexnet.data.subset import split

    _, held_out = split(Digits(), 0.2)
    whole = judge(digits_model, held_out, batch_size=16)
    second = Turn(1, [])
    judge(digits_model, held_out, batch_size=16, ranks=second)
    counts: list[int] = []
    shared = judge(digits_model, held_out, batch_size=16, ranks=Turn(0, list(second.own)), on_images=counts.append)
    assert counts == [32, len(held_out) - 32]
    assert shared.loss == whole.loss
    assert (shared.confusion == whole.confusion).all()
    assert (shared.top5_wrong == whole.top5_wrong).all()


def test_one_of_several_may_work_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    several = Others({})
    monkeypatch.setattr(ranks, "_joined_ranks", lambda: several)
    assert join_ranks() is several
    with working_alone():
        assert join_ranks() is ALONE
    assert join_ranks() is several
