"""How a batch is cut into shards, which ranks compute them, and in which order their gradients are added up.

A shard is a fixed part of a batch whose gradient one backward pass computes. The sum over shards is a tree that follows
from their number alone:

    8 shards: ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7))      6 shards: ((0 + 1) + (2 + 3)) + (4 + 5)

A node is cut where its left part has the largest power of two of shards that leaves a right one. So any number of ranks
that divides the number of shards, one included, computes the same additions, to the same bits. Each rank has as many
shards, one after the other in their order. It adds up what it has of the tree by itself; where a power of two of shards
is a rank's, that is one node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from pyalexnet.system.checks import at_least, require
from pyalexnet.system.ranks import ALONE, Ranks

Sum = TypeVar("Sum")

MOST_SHARDS = 2**15
"""Each has dropout masks of its own; :mod:`pyalexnet.net.step_values` has room for so many."""


class Node(NamedTuple):
    """A part of the sum: shards from the first on, up to but not the last."""

    first: int
    last: int

    @property
    def parts(self) -> tuple[Node, Node]:
        """The two nodes whose sum it is, where it is more than a shard."""
        count = self.last - self.first
        middle = self.first + (1 << (count - 1).bit_length() - 1)
        return Node(self.first, middle), Node(middle, self.last)

    def within(self, other: Node) -> bool:
        """Whether all its shards are the other's too."""
        return other.first <= self.first and self.last <= other.last

    def meets(self, other: Node) -> bool:
        """Whether they have a shard in common."""
        return self.first < other.last and other.first < self.last


class Fold(NamedTuple):
    """What follows when a shard's gradient has been computed.

    Attributes:
        add: the kept sums, by place, that are added to it on its left, one after the other.
        keep: the place where the result is kept for later; None for the last one, which stays where it is.
    """

    add: tuple[int, ...]
    keep: int | None


@dataclass(frozen=True)
class Shards:
    """The shards of a batch, and the ranks that share them.

    Attributes:
        count: how many there are.
        ranks: who computes them.
        fc_factors: whether ranks send what the gradients of fully connected layers are products of, in place of these
            (:mod:`pyalexnet.net.factors`).
    """

    count: int = 1
    ranks: Ranks = ALONE
    fc_factors: bool = False

    def __post_init__(self) -> None:
        """Check that the ranks can share them.

        Raises:
            TypeError: ``count`` is no integer.
            ValueError: it is out of range, or no multiple of the number of ranks.
        """
        at_least("shards", self.count, 1)
        require(self.count <= MOST_SHARDS, "shards", self.count, f"at most {MOST_SHARDS}")
        size = self.ranks.size
        require(self.count % size == 0, "shards", self.count, f"a multiple of the number of ranks, {size}")

    @property
    def per_rank(self) -> int:
        """How many each rank computes."""
        return self.count // self.ranks.size

    @property
    def root(self) -> Node:
        """The sum of all."""
        return Node(0, self.count)

    def of_rank(self, rank: int) -> Node:
        """The shards that a rank computes."""
        return Node(rank * self.per_rank, (rank + 1) * self.per_rank)

    @property
    def own(self) -> Node:
        """The shards that this rank computes."""
        return self.of_rank(self.ranks.rank)

    def nodes_of_rank(self, rank: int) -> list[Node]:
        """What a rank can add up by itself: the largest nodes that hold shards of its own alone, in order."""
        own = self.of_rank(rank)

        def nodes(node: Node) -> list[Node]:
            if node.within(own):
                return [node]
            return [found for part in node.parts for found in nodes(part)] if node.meets(own) else []

        return nodes(self.root)

    def folds(self) -> list[Fold]:
        """What this rank does after each of its shards, so that what it keeps in the end are its nodes.

        All but the last of them are kept, at the places 0, 1, … in order.
        """
        nodes, own = self.nodes_of_rank(self.ranks.rank), self.own
        kept: list[Node] = []
        folds = []
        for shard in range(own.first, own.last):
            found, add = Node(shard, shard + 1), []
            while kept and self._is_node(whole := Node(kept[-1].first, found.last)) and found not in nodes:
                kept.pop()
                add.append(len(kept))
                found = whole
            is_last = shard == own.last - 1
            folds.append(Fold(tuple(add), None if is_last else len(kept)))
            kept.append(found)
        return folds

    def folds_alone(self) -> list[Fold]:
        """What a process alone does after each of all shards."""
        return Shards(self.count).folds()

    @property
    def sends_factors(self) -> bool:
        """Whether there are other ranks, to send factors to."""
        return self.fc_factors and self.ranks.size > 1

    @property
    def received_nodes(self) -> int:
        """How many nodes this rank receives parts of."""
        return sum(len(self.nodes_of_rank(rank)) for rank in range(self.ranks.size) if rank != self.ranks.rank)

    @property
    def kept_sums(self) -> int:
        """For how many sums this rank needs room beside the gradient of a shard."""
        folds = [*self.folds(), *(self.folds_alone() if self.sends_factors else ())]
        return max((fold.keep + 1 for fold in folds if fold.keep is not None), default=0)

    def _is_node(self, wanted: Node) -> bool:
        node = self.root
        while wanted != node:
            if node.last - node.first == 1:
                return False
            node = next((part for part in node.parts if wanted.within(part)), Node(0, 1))
            if not wanted.within(node):
                return False
        return True


def as_shards(shards: int | Shards) -> Shards:
    """What a number of shards stands for: one process computes them all.

    Raises:
        TypeError: it is no integer.
        ValueError: it is out of range.
    """
    return shards if isinstance(shards, Shards) else Shards(at_least("shards", shards, 1))


def tree_sum(node: Node, sums: Mapping[Node, Sum], add: Callable[[Sum, Sum], Sum]) -> Sum:
    """The sum of a node, of those of nodes that together have its shards.

    Args:
        node: what is wanted.
        sums: what is known.
        add: adds two of them; its first argument is not used any more.
    """
    if node in sums:
        return sums[node]
    left, right = node.parts
    return add(tree_sum(left, sums, add), tree_sum(right, sums, add))
