"""An unfinished download: what has come so far, and the proof that it is what was written.

Beside ``<name>.part`` lies ``<name>.part.json`` with the length and digest of what was safe on disk when it
was last marked. Only that much is ever continued: whatever a crash left behind it is cut off, and a part
whose digest no longer holds is thrown away.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import BinaryIO

_MARK = 1 << 23


class Part:
    """The private, unfinished copy of a file; its owner holds the file's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path.with_name(f"{path.name}.json")
        self._stream: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._marked = 0
        self.length = 0
        self.tag = ""

    def resume(self) -> None:
        """Find what can be continued: `length` bytes of the version `tag`; 0 if there is nothing."""
        self.close()
        self.length, self.tag, self._digest = 0, "", hashlib.sha256()
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            length, tag, digest = int(note["length"]), str(note["tag"]), str(note["sha256"])
            with self.path.open("rb") as stream:
                content = stream.read(length)
        except (OSError, ValueError, KeyError, TypeError):
            return
        found = hashlib.sha256(content)
        if tag and len(content) == length and found.hexdigest() == digest:
            self.length, self.tag, self._digest = length, tag, found

    def begin(self, start: int, tag: str) -> None:
        """Write from byte `start` on, which is `length`, or 0 to start afresh."""
        if start != self.length:
            self.length, self._digest = 0, hashlib.sha256()
        self.tag = tag
        self.close()
        self._stream = self.path.open("r+b" if self.path.exists() else "w+b")
        self._stream.truncate(self.length)
        self._stream.seek(self.length)
        self._marked = self.length

    def write(self, chunk: bytes) -> None:
        """Append."""
        assert self._stream is not None
        self._stream.write(chunk)
        self._digest.update(chunk)
        self.length += len(chunk)
        if self.length - self._marked >= _MARK:
            self.mark()

    def mark(self) -> None:
        """Bring what has come to the disk, and note that it is there."""
        if self._stream is None:
            return
        self._stream.flush()
        os.fsync(self._stream.fileno())
        note = {"length": self.length, "tag": self.tag, "sha256": self._digest.hexdigest()}
        aside = self._note.with_name(f"{self._note.name}.new")
        aside.write_text(json.dumps(note), encoding="utf-8")
        os.replace(aside, self._note)
        self._marked = self.length

    def close(self) -> None:
        """Let go of the file."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def discard(self) -> None:
        """Throw away what has come."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self.length, self.tag, self._digest = 0, "", hashlib.sha256()

    def publish(self, target: Path) -> None:
        """Let the finished file appear under its name, read-only."""
        self.close()
        self.path.chmod(0o444)
        os.replace(self.path, target)
        self._note.unlink(missing_ok=True)
