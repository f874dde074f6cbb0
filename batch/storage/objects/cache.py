"""Products of an object store on this machine, named by their sha256: shared, verified, bounded in size."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from batch.model.observation import Product
from batch.storage.files import flush, storage_errors


@dataclass(frozen=True)
class Cache:
    """Files named by their content.

    A task gets hard links: a file that leaves the cache stays whole for those who have it.
    """

    folder: Path
    limit: int
    """Bytes; what tasks are using at the moment counts, but stays."""

    def provide(self, product: Product, target: Path, fetch: Callable[[Path], None]) -> None:
        """Let `target` be the content of a product, read-only.

        Parameters
        ----------
        product : Product
        target : Path
            On the same file system as the cache.
        fetch : callable
            Brings the product to a path and verifies it; called once for all processes that ask at once.

        Raises
        ------
        StorageError
            If the file system refuses.
        """
        with storage_errors(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            if self._link(product, target):
                return
            with self._lock(product.sha256):
                if self._link(product, target):
                    return
                # aside in the task's own folder, which goes with the task however that ends
                aside = target.with_name(f"{target.name}.part")
                fetch(aside)
                aside.chmod(0o444)
                os.replace(aside, target)
                self.keep(target, product.sha256)

    def keep(self, path: Path, sha256: str) -> None:
        """Take in a file that nobody will change any more; what cannot be kept is fetched again later."""
        with contextlib.suppress(OSError):
            self._path(sha256).parent.mkdir(parents=True, exist_ok=True)
            flush(path)
            os.link(path, self._path(sha256))

    def trim(self) -> None:
        """Remove what was not used for longest, until the rest is within the limit."""
        files = []
        for entry in self._entries():
            with contextlib.suppress(FileNotFoundError):
                files.append((entry.stat(), entry))
        total = sum(status.st_size for status, _ in files)
        for status, path in sorted(files, key=lambda f: f[0].st_mtime_ns):
            if total <= self.limit:
                return
            # the bytes of a file that a task has a link to would not come free
            if status.st_nlink == 1:
                path.unlink(missing_ok=True)
                total -= status.st_size

    def clear(self) -> int:
        """Remove everything; returns bytes given back."""
        freed = sum(p.stat().st_size for p in self._entries())
        shutil.rmtree(self.folder, ignore_errors=True)
        return freed

    def _link(self, product: Product, target: Path) -> bool:
        path = self._path(product.sha256)
        try:
            if path.stat().st_size != product.size:
                # cut short when the machine went down
                path.unlink()
                return False
            os.link(path, target)
            os.utime(path)
        except FileNotFoundError:
            return False
        return True

    def _entries(self) -> list[Path]:
        return list((self.folder / "files").glob("??/*"))

    def _path(self, sha256: str) -> Path:
        return self.folder / "files" / sha256[:2] / sha256

    def _lock(self, sha256: str) -> FileLock:
        """One of 256: a lock for each file would leave its own file behind."""
        folder = self.folder / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / sha256[:2])
