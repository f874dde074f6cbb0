"""Calls into libraries that print, log, swallow errors or leave by `sys.exit`."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
from collections import deque
from collections.abc import Iterator
from typing import TextIO

from batch.errors import BatchError, LibraryError, StorageError

_RULES = frozenset("-=*+#_ .:|")


class LastWords(logging.Handler):
    """The last things that a library printed or logged; everything still goes where it went before."""

    def __init__(self, stream: TextIO, keep: int = 40) -> None:
        # no level of its own: AstroDrizzle takes the first handler that has one for its own log
        super().__init__()
        self._stream = stream
        self._lines: deque[str] = deque(maxlen=keep)
        self._complaints: deque[str] = deque(maxlen=5)
        self._partial = ""

    def write(self, text: str) -> int:
        """Take what the library prints."""
        self._stream.write(text)
        *lines, self._partial = (self._partial + text).split("\n")
        self._lines.extend(line.strip() for line in lines if _says_something(line))
        return len(text)

    def flush(self) -> None:
        """Flush the stream behind."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Never: some libraries colour what they print to a terminal."""
        return False

    def emit(self, record: logging.LogRecord) -> None:
        """Take what the library logs."""
        if record.name == "py.warnings" or record.levelno < logging.INFO:
            return
        lines = [line.strip(" *|") for line in record.getMessage().splitlines() if _says_something(line)]
        if record.levelno >= logging.WARNING:
            self._complaints.extend(lines)
        self._lines.extend(lines)

    def text(self) -> str:
        """The last complaint, or else the last lines of output."""
        said = [line for line in self._complaints if not line.endswith(":")][-1:] or list(self._lines)[-3:]
        return " / ".join(" ".join(line.split()) for line in said)[-400:] or "none"


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not set(line) <= _RULES


@contextlib.contextmanager
def library_call(what: str) -> Iterator[LastWords]:
    """Turn every way in which a library gives up into a `LibraryError` with its last message.

    Only for a process of the task's own: standard output is redirected for the duration.

    Parameters
    ----------
    what : str
        The call and its subject: ``"AstroDrizzle of j9l960010"``.

    Raises
    ------
    LibraryError
        For any exception or `SystemExit` inside.
    StorageError
        When there is no space left.

    Errors of acs-batch's own, and `MemoryError`, which a retry with more memory can mend, pass unchanged.
    """
    words = LastWords(sys.stdout)
    root = logging.getLogger()
    root.addHandler(words)
    try:
        with contextlib.redirect_stdout(words):
            yield words
    except (BatchError, MemoryError):
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(f"{what}: no space left; free some, then run again") from error
        raise _failure(what, error, words) from error
    except (Exception, SystemExit) as error:
        raise _failure(what, error, words) from error
    finally:
        root.removeHandler(words)


def _failure(what: str, error: BaseException, words: LastWords) -> LibraryError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return LibraryError(f"{what} failed with {reason}; its last message: {words.text()}")
