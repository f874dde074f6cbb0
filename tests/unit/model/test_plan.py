"""Plans: what depends on what, and what a change makes stale."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.config import Settings, identity, load
from batch.model.drizzle import pixfrac_name
from batch.model.observation import Association, Exposure, SetAside
from batch.model.plan import Needs, Plan, Stage, Task, expand


def exposure(name: str, stamp: str = "1-1") -> Exposure:
    return Exposure(name, "WFC", "WFC", "ABCD", ("F606W",), 339.0, 53900.0, (2068, 4144), 2, stamp)


def stage(name: str, scope: Any, *after: str, version: int = 1, set_aside_too: bool = False) -> Stage:
    return Stage(name, scope, after, version, lambda a, e, s: Needs(1, 1.0, 1.0), set_aside_too)


CHAIN = (
    stage("fetch", "exposure", set_aside_too=True),
    stage("calibrate", "exposure", "fetch", set_aside_too=True),
    stage("align", "association", "calibrate"),
    stage("sweep", "drizzle", "align"),
    stage("select", "association", "sweep"),
)
ASN = Association(
    "asn",
    (exposure("jaaaaaa1q"), exposure("jaaaaaa2q")),
    (SetAside(exposure("jaaaaaa3q"), "other filter"),),
)


def tasks(
    settings: Settings | None = None, chain: Any = CHAIN, asn: Association = ASN, **options: Any
) -> dict[str, Task]:
    settings = settings or Settings()
    made = expand(
        chain, [asn], identity(settings), settings.sweep.drizzles[:3], typed_settings=settings, **options
    )
    return {t.id: t for t in made}


def test_tasks_come_after_what_they_depend_on() -> None:
    seen: set[str] = set()
    for task in tasks().values():
        assert set(task.upstream) <= seen
        seen.add(task.id)


def test_set_aside_exposures_are_calibrated_but_not_combined() -> None:
    made = tasks()
    assert "calibrate/asn/jaaaaaa3q" in made
    assert made["align/asn"].upstream == ("calibrate/asn/jaaaaaa1q", "calibrate/asn/jaaaaaa2q")


def test_pixfracs_meet_again() -> None:
    assert tasks()["select/asn"].upstream == ("sweep/asn/pf0.1", "sweep/asn/pf0.2", "sweep/asn/pf0.3")


@given(st.integers(1, 10000))
def test_pixfrac_names_are_plain_and_distinct(ten_thousandths: int) -> None:
    name = pixfrac_name(ten_thousandths / 10000)
    assert float(name[2:]) == ten_thousandths / 10000
    assert len(name) <= 8


@pytest.mark.parametrize(
    ("value", "name"), [(0.1 + 0.2, "pf0.3"), (1, "pf1.0"), (1.0, "pf1.0"), (0.25, "pf0.25"), (0.7, "pf0.7")]
)
def test_pixfrac_names_forget_how_a_number_was_made(value: float, name: str) -> None:
    assert pixfrac_name(value) == name


def stale(before: dict[str, Task], after: dict[str, Task]) -> set[str]:
    return {i for i in before if before[i].fingerprint != after[i].fingerprint}


def test_the_same_plan_twice_is_the_same() -> None:
    assert tasks() == tasks()


def test_a_setting_makes_stale_only_what_depends_on_it() -> None:
    assert stale(tasks(), tasks(load(None, ["select.rms_over_median=0.3"]))) == {"select/asn"}


def test_where_things_lie_makes_nothing_stale() -> None:
    moved = load(None, ["fetch.source=/elsewhere", "references.cache=/there", "cluster.workers=7"])
    assert not stale(tasks(), tasks(moved))


def test_a_changed_raw_file_makes_stale_what_comes_from_it() -> None:
    changed = dataclasses.replace(ASN, exposures=(ASN.exposures[0], exposure("jaaaaaa2q", "2-2")))
    found = stale(tasks(), tasks(asn=changed))
    assert "calibrate/asn/jaaaaaa2q" in found
    assert "calibrate/asn/jaaaaaa1q" not in found
    assert {"align/asn", "select/asn"} <= found


def test_a_stage_version_makes_stale_what_follows() -> None:
    newer = tuple(dataclasses.replace(s, version=2) if s.name == "align" else s for s in CHAIN)
    assert stale(tasks(), tasks(chain=newer)) == {
        i for i in tasks() if i.split("/")[0] in ("align", "sweep", "select")
    }


@pytest.mark.parametrize("key", ["calibrate", "calibrate/asn/jaaaaaa1q"])
def test_an_identity_makes_stale_by_stage_or_by_task(key: str) -> None:
    found = stale(tasks(), tasks(identities={key: "builtin 2"}))
    assert "calibrate/asn/jaaaaaa1q" in found
    assert ("calibrate/asn/jaaaaaa2q" in found) == (key == "calibrate")


def test_a_plan_knows_its_associations() -> None:
    assert Plan((ASN,), (), {}).association("asn") is ASN
