"""Names and order of the drizzles of a sweep."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from batch.model.drizzle import Drizzle, combinations
from batch.model.json import decode, encode
from batch.model.names import plain_name

pixfracs = st.lists(st.integers(1, 10000).map(lambda n: n / 10000), min_size=1, max_size=4, unique=True)
scales = st.lists(st.integers(1, 20000).map(lambda n: n / 10000), max_size=3, unique=True)
kernels = st.lists(st.sampled_from(["square", "point", "turbo", "gaussian"]), min_size=1, unique=True)


@given(pixfracs, scales, kernels)
def test_every_combination_once_under_a_plain_name(
    pixfracs: list[float], scales: list[float], kernels: list[str]
) -> None:
    made = combinations(pixfracs, scales, kernels)
    wanted = set(itertools.product(pixfracs, scales or [None], kernels))
    assert {(d.pixfrac, d.scale, d.kernel) for d in made} == wanted
    assert len({d.name for d in made}) == len(made) == len(wanted)
    for drizzle in made:
        assert plain_name(drizzle.name, "sweep") == drizzle.name
        assert decode(Drizzle, encode(drizzle)) == drizzle
    # kernels as given, the finest scale first, the smallest pixfrac first
    keys = [(kernels.index(d.kernel), d.scale or 0, d.pixfrac) for d in made]
    assert keys == sorted(keys)


def test_names_tell_what_varies() -> None:
    def names(*given: object) -> list[str]:
        return [d.name for d in combinations([0.3], *given)]  # type: ignore[arg-type]

    assert names() == ["pf0.3"]
    assert names([0.04], ["gaussian"]) == ["pf0.3"]
    assert names([0.05, 0.04]) == ["pf0.3_s0.04", "pf0.3_s0.05"]
    assert names([0.04], ["turbo", "square"]) == ["pf0.3_turbo", "pf0.3_square"]
    assert names([0.03, 0.04], ["square", "point"])[1] == "pf0.3_s0.04_square"
