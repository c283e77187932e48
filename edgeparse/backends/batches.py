"""How many windows an engine takes in a run; loads nothing, so that a help text may name them."""

from __future__ import annotations

# The smallest, the usual and the largest number.
BATCHES = (1, 8, 32)


def parse_batches(text: str) -> tuple[int, int, int]:
    """The smallest, usual and largest batch from "1,8,32", or one size for all three.

    Raises:
        ValueError: it is neither.
    """
    # Longer words are none: Python reads no number of thousands of digits.
    words = text.split(",")
    numbers = [int(word) if word.isdecimal() and len(word) < 10 else 0 for word in words]
    if len(numbers) == 1:
        numbers *= 3
    if len(numbers) != 3 or not 1 <= numbers[0] <= numbers[1] <= numbers[2]:
        raise ValueError(f"{text!r} is not one batch size, nor the smallest, usual and largest as 1,8,32")
    return numbers[0], numbers[1], numbers[2]
