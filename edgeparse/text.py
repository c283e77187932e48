"""Text that comes from elsewhere."""


def printable(text: str) -> str:
    """For a terminal or a pipe: what would steer it, as a file's name may, is U+FFFD."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in text)
