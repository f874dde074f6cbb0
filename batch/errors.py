"""Everything that can go wrong, in one tree.

::

    BatchError                        exit 1
    ├── UsageError                    exit 2   a setting, an option or a combination of them is wrong
    ├── InputError                    exit 1   a file, keyword or table of the user's is unusable
    │   ├── UnsafeNameError           exit 1   a name from a header or table would leave its folder
    │   ├── MissingReferenceError     exit 1   reference files that are named but not there
    │   └── DamagedReferenceError     exit 1   reference files that are not what CRDS delivered
    ├── LibraryError                  exit 1   a library or program failed on inputs that looked sound
    ├── NetworkError                  exit 1   a server did not answer, or not to the end; a retry can help
    ├── StorageError                  exit 1   no space, no permission; a retry can help
    ├── StorageRefusedError           exit 2   an object store refuses: no such bucket, no valid credentials
    ├── ChildKilledError              exit 1   a task's process was killed; a retry can help
    ├── ChildTimeoutError             exit 1   a task's process took too long; a retry can help
    ├── InsufficientMemoryError       exit 2   no worker is large enough for a task
    ├── WorkDirectoryBusyError        exit 2   another run owns the work directory
    ├── RunCancelledError             exit 130 the run was asked to end
    └── SchedulerLostError            exit 1   the connection to the scheduler broke; running again goes on

Every error is built from one string, so that it survives pickling and reads the same in a log, a record
and on the terminal.
"""

from __future__ import annotations

from typing import ClassVar


class BatchError(Exception):
    """Base of every error that acs-batch raises on purpose."""

    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """The one sentence that is shown, logged and recorded."""
        return str(self.args[0])


class UsageError(BatchError):
    """A setting, an option or a combination of them is wrong."""

    exit_code = 2


class InputError(BatchError):
    """A file, keyword or table of the user's cannot be used."""

    @classmethod
    def about(cls, where: object, what: str, remedy: str) -> InputError:
        """Build the message in the one order that is used everywhere.

        Parameters
        ----------
        where : object
            The file, with HDU or keyword where there is one: ``"j9l960a7q_raw.fits[SCI,1] CCDGAIN"``.
        what : str
            What is wrong with it.
        remedy : str
            What the user can do.
        """
        return cls(f"{where}: {what}; {remedy}")


class UnsafeNameError(InputError):
    """A name from a header or table that would leave the folder it belongs in."""


class MissingReferenceError(InputError):
    """Reference files that headers name but that are not there."""


class DamagedReferenceError(InputError):
    """Reference files that are not what CRDS delivered."""


class LibraryError(BatchError):
    """A library or program failed on inputs that looked sound."""


class NetworkError(BatchError):
    """A server did not answer, or did not answer to the end."""

    retryable = True


class StorageError(BatchError):
    """The file system refused: no space, no permission."""

    retryable = True


class StorageRefusedError(BatchError):
    """An object store refuses for good: no such bucket, no permission, no valid credentials."""

    exit_code = 2


class ChildKilledError(BatchError):
    """A task's process was killed by a signal, most often for want of memory."""

    retryable = True


class ChildTimeoutError(BatchError):
    """A task's process did not end within its time limit."""

    retryable = True


class InsufficientMemoryError(BatchError):
    """No worker is large enough for a task."""

    exit_code = 2


class WorkDirectoryBusyError(BatchError):
    """Another run owns the work directory."""

    exit_code = 2


class RunCancelledError(BatchError):
    """The run was asked to end, by `acs-batch cancel`."""

    exit_code = 130


class SchedulerLostError(BatchError):
    """The connection to the Dask scheduler broke; what was done until then is in the work directory."""
