"""The event log: whole lines, in order, and no stop for a run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batch.errors import RunCancelledError
from batch.runtime import events
from batch.storage.workdir import WorkDirectory


@pytest.fixture
def work(tmp_path: Path) -> WorkDirectory:
    made = WorkDirectory(tmp_path)
    made.create()
    return made


def test_a_line_for_each_event(work: WorkDirectory) -> None:
    log = events.EventLog(work, "r1")
    log.emit("worker-joined", worker="tcp://a")
    log.emit("worker-lost", worker="tcp://a", expected=True, tasks=[])
    lines = (work.root / "events" / "r1.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["worker-joined", "worker-lost"]
    assert json.loads(lines[0])["run"] == "r1"
    assert json.loads(lines[0])["time"].endswith("+00:00")
    assert events.read(work, "r1") == [json.loads(line) for line in lines]
    log.close()


def test_a_last_line_cut_short_is_left_out(work: WorkDirectory) -> None:
    log = events.EventLog(work, "r1")
    log.emit("worker-joined", worker="tcp://a")
    log.close()
    with (work.root / "events" / "r1.jsonl").open("a") as stream:
        stream.write('{"time": "2026')
    assert len(events.read(work, "r1")) == 1


def test_a_log_that_cannot_be_written_stops_nothing(
    work: WorkDirectory, caplog: pytest.LogCaptureFixture
) -> None:
    (work.root / "events").write_text("in the way")
    log = events.EventLog(work, "r1")
    log.emit("worker-joined", worker="tcp://a")
    log.close()
    assert "the run goes on without" in caplog.text


@pytest.mark.parametrize(
    ("error", "result", "by"),
    [
        (RunCancelledError("x"), "cancelled", "cancel"),
        (KeyboardInterrupt(), "cancelled", "signal"),
        (OSError(), "broken", None),
    ],
)
def test_the_log_says_how_a_run_ended(
    work: WorkDirectory, error: BaseException, result: str, by: str | None
) -> None:
    with pytest.raises(type(error)), events.journal(work, "1.0", None) as log:
        raise error
    found = events.read(work, log.run)
    assert [e["by"] for e in found if e["event"] == "cancelled"] == ([by] if by else [])
    assert (found[0]["event"], found[-1]["event"], found[-1]["result"]) == (
        "run-started",
        "run-ended",
        result,
    )


def test_counts_decide_whether_it_was_complete(work: WorkDirectory) -> None:
    for counts, result in (
        ({"done": 3, "failed": 0}, "complete"),
        ({"done": 2, "failed": 1}, "with failures"),
    ):
        with events.journal(work, "1.0", None) as log:
            log.counts = counts
        assert events.read(work, log.run)[-1]["result"] == result


def test_ids_of_runs_are_in_order_of_time() -> None:
    first, second = events.new_run(), events.new_run()
    assert first[:15] <= second[:15]
    assert first != second
