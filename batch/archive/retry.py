"""Try again what another attempt can mend: with growing pauses, until a deadline."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_before_delay

from batch.archive.transport import TransientError
from batch.errors import NetworkError

T = TypeVar("T")

log = logging.getLogger(__name__)

_LONGEST = 60.0


@dataclass(frozen=True)
class Patience:
    """How long to try."""

    deadline: float
    """Seconds for all attempts together."""
    first_wait: float
    """Seconds before the second attempt; doubled each time."""

    def insist(self, what: object, attempt: Callable[[], T], *, kept: bool = False) -> T:
        """Call `attempt` until it does not raise `TransientError`.

        Parameters
        ----------
        what : object
            The file or query, for messages.
        attempt : callable
        kept : bool
            What has come of a file is kept for the next run.

        Raises
        ------
        NetworkError
            If the deadline comes first; the message has the last reason.
        """
        begun = time.monotonic()

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            growing = min(_LONGEST, self.first_wait * 2.0 ** (state.attempt_number - 1))
            asked = error.after if isinstance(error, TransientError) else 0.0
            # many that failed at once do not all come back at once
            return max(growing * random.uniform(0.5, 1.5), asked)

        def tell(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            log.warning("%s: attempt %d: %s; trying again", what, state.attempt_number, error)

        attempts = Retrying(
            stop=stop_before_delay(self.deadline),
            wait=wait,
            retry=retry_if_exception_type(TransientError),
            before_sleep=tell,
            reraise=True,
        )
        try:
            return attempts(attempt)
        except TransientError as error:
            count = attempts.statistics.get("attempt_number", 1)
            remedy = "run again to go on where it ended" if kept else "run again later"
            raise NetworkError(
                f"{what}: {error} ({count} attempts in {time.monotonic() - begun:.0f} s); {remedy}"
            ) from None
