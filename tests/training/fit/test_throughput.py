"""How fast data comes is measured on the batches that training takes."""

from __future__ import annotations

from tests.synthetic_collection import synthetic_collection
from training.fit import throughput


def test_rates_are_of_chains_and_of_windows() -> None:
    found = throughput.measure(synthetic_collection(), pictures=20, seconds=0.2)
    assert found["cores"] >= 1
    assert found["window"] == 128
    assert found["chains_per_s"] > 0
    # Windows are only cut; pictures are encoded.
    assert found["windows_per_s"] > found["chains_per_s"]
    assert list(found["learnt_per_s"]) == ["64", "96", "128"]
    assert 0 < found["learnt_per_s"]["128"] < found["windows_per_s"]
