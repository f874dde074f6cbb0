"""The CRDS cache: where files lie in it, and where new ones go."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from batch.model.names import plain_name

_BY_INSTRUMENT = "instrument"


@dataclass(frozen=True)
class Cache:
    """A CRDS cache: what CRDS_PATH names."""

    root: Path

    @property
    def mappings(self) -> Path:
        """Folder of the rules: contexts (pmap), instruments (imap), types (rmap)."""
        return self.root / "mappings" / "hst"

    @property
    def config(self) -> Path:
        """Folder of what the server last said about itself."""
        return self.root / "config" / "hst"

    @property
    def own(self) -> Path:
        """Folder of the lock, of unfinished downloads and of the index of checked files."""
        return self.root / "acs-batch"

    def find(self, name: str) -> Path | None:
        """Where a file lies, in a cache of either layout, flat or by instrument; None if it is not there."""
        for folder in self._folders(name):
            if (folder / name).is_file():
                return (folder / name).absolute()
        return None

    def place(self, name: str) -> Path:
        """Where a new file goes.

        Raises
        ------
        UnsafeNameError
            For a name that would lead out of the cache.
        """
        plain_name(name, f"{self.root}: file from the CRDS server")
        if _is_mapping(name):
            return self.mappings / name
        flat, by_instrument = self._folders(name)
        return (by_instrument if self._layout() == _BY_INSTRUMENT else flat) / name

    def _folders(self, name: str) -> tuple[Path, ...]:
        if _is_mapping(name):
            return (self.mappings,)
        references = self.root / "references" / "hst"
        return references, references / "acs"

    def _layout(self) -> str:
        try:
            return (self.config / "ref_cache_subdir_mode").read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            # what CRDS itself takes for a new cache
            return _BY_INSTRUMENT


def _is_mapping(name: str) -> bool:
    return name.endswith((".pmap", ".imap", ".rmap"))
