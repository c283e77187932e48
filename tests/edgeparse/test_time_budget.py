"""The time budget: from the measured cost of a window to the number of windows."""

from __future__ import annotations

import pytest

from edgeparse import Parser
from edgeparse.windows import TimeBudget
from tests.conftest import noise


def test_as_many_windows_as_fit() -> None:
    budget = TimeBudget(20, most=8)
    assert budget.windows(0) == 1
    budget.observe(8, 32)
    assert budget.windows(0) == 5
    assert budget.windows(12) == 2
    assert budget.windows(500) == 1
    assert TimeBudget(20, most=3).windows(0) == 1


@pytest.mark.parametrize("milliseconds", [0.0, -1.0, float("nan"), float("inf")])
def test_no_time_and_no_end_of_it_are_refused(milliseconds: float) -> None:
    with pytest.raises(ValueError, match="time_budget_ms"):
        TimeBudget(milliseconds, most=8)


def test_most_is_the_most() -> None:
    budget = TimeBudget(1e6, most=8)
    budget.observe(1, 1)
    assert budget.windows(0) == 8


def test_a_device_that_slows_down_is_followed() -> None:
    budget = TimeBudget(20, most=8)
    budget.observe(8, 8)
    assert budget.windows(0) == 8
    for _ in range(20):
        budget.observe(budget.windows(0), 10 * budget.windows(0))
    assert budget.windows(0) == 2


def test_a_fixed_cost_does_not_keep_it_at_one_window() -> None:
    budget = TimeBudget(12, most=8)
    for _ in range(60):
        count = budget.windows(0)
        budget.observe(count, 5 + count)
    assert 5 <= budget.windows(0) <= 7


def test_parser_keeps_to_the_budget() -> None:
    picture = noise(600, 600)
    assert Parser(time_budget_ms=1e6).parse(picture).windows == 8
    hurried = Parser(time_budget_ms=1e-3)
    assert [hurried.parse(picture).windows for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_no_time_at_all(value: float) -> None:
    with pytest.raises(ValueError, match="time_budget_ms"):
        Parser(time_budget_ms=value)
