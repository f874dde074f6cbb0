"""Damage to files that tests need in the same form."""

from __future__ import annotations

import re
from pathlib import Path


def spoil_card(path: Path, keyword: str) -> None:
    """Make a card of each header that has it one that cannot be understood."""
    card = re.compile(rb"(?<=%b= ).{70}" % keyword.ljust(8).encode())
    content, count = card.subn(b"x y".ljust(70), path.read_bytes())
    assert count, f"{path} has no {keyword}"
    path.write_bytes(content)
