"""Text that comes from elsewhere."""

from __future__ import annotations


def printable(text: str) -> str:
    """For a terminal or a pipe: what would steer it, as a file's name may, is U+FFFD."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)


def is_name(text: str) -> bool:
    """Whether a person can read it on one line."""
    return bool(text.strip()) and text.isprintable()
