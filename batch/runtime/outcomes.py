"""How the tasks of a run stand, without keeping a hundred thousand records in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from batch.model.plan import Task
from batch.model.record import Record, Status
from batch.storage.ledger import each_valid
from batch.storage.work import Work


class Outcomes(Mapping[str, Record]):
    """Records by task id. Those of done tasks are read from the work directory when they are asked for.

    Parameters
    ----------
    work : Work
        Where they are published.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._status: dict[str, Status] = {}
        self._bad: dict[str, Record] = {}

    def add(self, records: Iterable[Record]) -> None:
        """Take how tasks ended."""
        for record in records:
            self._status[record.id] = record.status
            self._bad.pop(record.id, None)
            if not record.status.ok:
                self._bad[record.id] = record

    @property
    def status(self) -> Mapping[str, Status]:
        """By task id; nothing is read for it."""
        return self._status

    @property
    def bad(self) -> Mapping[str, Record]:
        """Records of what failed or was blocked, by task id."""
        return self._bad

    def done(self, task_id: str) -> bool:
        """Whether a task's products are there and valid."""
        return task_id in self._status and self._status[task_id].ok

    def survey(self, tasks: Sequence[Task], observe: Callable[[Task, Record], None] | None = None) -> None:
        """Look for products of tasks that are not known to be done; `observe` hears of those there."""
        unknown = [t for t in tasks if not self.done(t.id)]
        by_id = {t.id: t for t in unknown}
        for record in each_valid(self._work, unknown):
            self.add([record])
            if observe is not None:
                observe(by_id[record.id], record)

    def counts(self) -> dict[str, int]:
        """How many tasks ended in each status."""
        found = Counter(s.value for s in self._status.values())
        return {s.value: found[s.value] for s in Status}

    def __getitem__(self, task_id: str) -> Record:
        """The record of a task; `KeyError` if it did not run or its products have gone since."""
        if task_id in self._bad:
            return self._bad[task_id]
        record = self._work.record(task_id) if task_id in self._status else None
        if record is None:
            raise KeyError(task_id)
        return record

    def __iter__(self) -> Iterator[str]:
        return iter(self._status)

    def __len__(self) -> int:
        return len(self._status)
