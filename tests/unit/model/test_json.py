"""Frozen dataclasses survive the way through JSON, and nothing else is decoded."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch.model.drizzle import Drizzle
from batch.model.json import decode, encode
from batch.model.observation import Association, Exposure, Product, SetAside
from batch.model.plan import Needs, Task
from batch.model.record import Failure, Record, Status, Usage

texts = st.text(max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
json_values = st.recursive(
    st.none() | st.booleans() | counts | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
exposures = st.builds(
    Exposure,
    rootname=texts,
    detector=texts,
    aperture=texts,
    amps=texts,
    filters=st.lists(texts, max_size=2).map(tuple),
    exptime=numbers,
    start=numbers,
    shape=st.tuples(counts, counts),
    chips=counts,
    stamp=texts,
    cte=st.booleans(),
)
products = st.builds(
    Product,
    kind=texts,
    name=texts,
    size=counts,
    sha256=texts,
    hdu=st.none() | counts,
    shape=st.none() | st.tuples(counts, counts),
    dtype=st.none() | texts,
    unit=st.none() | texts,
)
records = st.builds(
    Record,
    stage=texts,
    subject=texts,
    fingerprint=texts,
    status=st.sampled_from(Status),
    reason=texts,
    products=st.lists(products, max_size=2).map(tuple),
    results=st.dictionaries(texts, json_values, max_size=3),
    notes=st.lists(texts, max_size=2).map(tuple),
    usage=st.builds(Usage, wall=numbers, cpu=numbers, peak_memory=counts, host=texts, started=texts),
    failure=st.none() | st.builds(Failure, texts, texts, st.booleans(), st.booleans()),
    versions=st.dictionaries(texts, texts, max_size=2),
)


@given(records)
def test_a_record_comes_back_equal(record: Record) -> None:
    assert decode(Record, json.loads(json.dumps(encode(record)))) == record


@given(st.builds(Association, texts, st.lists(exposures, max_size=2).map(tuple)))
def test_an_association_comes_back_equal(association: Association) -> None:
    assert decode(Association, json.loads(json.dumps(encode(association)))) == association


@given(exposures, texts)
def test_set_aside_exposures_come_back_equal(exposure: Exposure, reason: str) -> None:
    association = Association("a", (), (SetAside(exposure, reason),))
    assert decode(Association, json.loads(json.dumps(encode(association)))) == association


def test_a_task_comes_back_equal() -> None:
    task = Task(
        "sweep",
        "a",
        None,
        Drizzle(0.3, 0.04, "gaussian", "s0.04"),
        ("combine/a",),
        "f" * 64,
        Needs(1, 2.0, 3.0),
    )
    assert decode(Task, json.loads(json.dumps(encode(task)))) == task


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.pop("stage"),
        lambda d: d.update(more=1),
        lambda d: d.update(status="unknown"),
        lambda d: d.update(products={}),
        lambda d: d.update(fingerprint=3),
        lambda d: d["usage"].update(wall="long"),
    ],
)
def test_what_has_another_shape_is_refused(spoil) -> None:  # type: ignore[no-untyped-def]
    value = json.loads(json.dumps(encode(Record("s", "a", "f", Status.DONE))))
    spoil(value)
    with pytest.raises(ValueError, match=r"unexpected|not a valid"):
        decode(Record, value)


def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="set has no JSON form"):
        encode(Record("s", "a", "f", Status.DONE, results={"x": {1, 2}}))
