"""What a task asks for after a kill for memory."""

from __future__ import annotations

import pytest

from batch.runtime.capacity import Capacity

GB = 10**9
THREE = Capacity({2 * GB: 10, 8 * GB: 4, 32 * GB: 1})


@pytest.mark.parametrize(
    ("asked", "ran_on", "then"),
    [
        (GB, 2 * GB, 8 * GB),  # twice as much is the same class, and that was not enough
        (GB, 0, 2 * GB),  # not known where it ran
        (6 * GB, 8 * GB, 32 * GB),
        (3 * GB, 32 * GB, 6 * GB),  # on the largest already: others may have used it up
        (20 * GB, 32 * GB, 32 * GB),
        (32 * GB, 32 * GB, 32 * GB),
    ],
)
def test_after_a_kill_a_larger_class_is_asked_for(asked: int, ran_on: int, then: int) -> None:
    assert THREE.after_kill(asked, ran_on) == then


def test_never_less_than_before() -> None:
    """The large workers may have left meanwhile."""
    assert Capacity({2 * GB: 1}).after_kill(8 * GB, 8 * GB) == 8 * GB


def test_an_empty_cluster_offers_nothing() -> None:
    assert Capacity().largest == Capacity().workers == 0
    assert Capacity().above(1) is None
