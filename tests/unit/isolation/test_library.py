"""Every way in which a library gives up becomes one error with its last words."""

from __future__ import annotations

import errno
import logging
import sys

import pytest

from batch.errors import InputError, LibraryError, StorageError
from batch.isolation.library import library_call


def complain() -> None:
    print("reading a.fits")
    logging.getLogger("some.library").error("*** cannot map\nthe grid ***")
    print("cleaning up")
    raise ValueError("bad\ngrid")


def leave() -> None:
    print("no valid input\n" + 70 * "=")
    sys.exit(3)


def test_an_exception_carries_the_last_complaint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LibraryError) as caught, library_call("Drizzle of a.fits"):
        complain()
    assert caught.value.message == (
        "Drizzle of a.fits failed with ValueError: bad grid; its last message: the grid"
    )
    assert capsys.readouterr().out == "reading a.fits\ncleaning up\n"


def test_leaving_by_sys_exit_is_a_failure_too() -> None:
    with (
        pytest.raises(LibraryError, match="SystemExit: 3; its last message: no valid input"),
        library_call("x"),
    ):
        leave()


@pytest.mark.parametrize("error", [MemoryError(), InputError("mine")])
def test_what_others_know_how_to_treat_passes_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, library_call("x"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, StorageError), (errno.EDQUOT, StorageError), (errno.EIO, LibraryError)],
)
def test_a_full_disk_is_worth_a_retry(number: int, kind: type[Exception]) -> None:
    with pytest.raises(kind), library_call("x"):
        raise OSError(number, "written nothing")


def test_nothing_stays_behind() -> None:
    handlers, stream = logging.getLogger().handlers[:], sys.stdout
    with library_call("x") as words:
        print("a line, and a")
        print("second")
    assert (logging.getLogger().handlers, sys.stdout) == (handlers, stream)
    assert words.text() == "a line, and a / second"
