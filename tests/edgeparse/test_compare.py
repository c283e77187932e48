"""Comparisons: calibrated pairs, groups, and images that are not comparable."""

from __future__ import annotations

import io
import json
import math
import sys
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from rich.console import Console

import edgeparse
from edgeparse import BundleError, Parser
from edgeparse.bundle import open_bundle
from edgeparse.cli.main import main
from edgeparse.compare import Comparison, compare
from edgeparse.manifest import SameGenerator
from edgeparse.render.html import matrix_svg
from edgeparse.render.terminal import comparison_view
from edgeparse.report import Failure, Report
from tests.conftest import comparing, noise, sample_files

SCHEMA = json.loads((Path(edgeparse.__file__).parent / "compare.schema.json").read_text())
# A cosine of 0.5 is a coin toss, 0.9 nearly certain.
SAME = SameGenerator(scale=10.0, bias=-5.0, threshold=0.7)


def report(source: str, verdict: str | None = "generated", error: Failure | None = None) -> Report:
    status = "error" if error else "ok"
    return Report(source, status, error, None, verdict, 0.9, *[None] * 6, "fake", "toy-1", None)  # type: ignore[arg-type]


def at(*degrees: float) -> list[np.ndarray | None]:
    """Return unit vectors in a plane."""
    return [np.array([math.cos(math.radians(d)), math.sin(math.radians(d))], np.float32) for d in degrees]


def compared(*degrees: float, same: SameGenerator = SAME) -> Comparison:
    return compare([report(f"{i}.png") for i in range(len(degrees))], at(*degrees), same)


def test_names_steer_neither_terminals_nor_svg() -> None:
    hostile = "x\x1b]0;title\x07.jpg"
    done = compare([report(hostile, "camera"), report("b.png")], at(0, 0), SAME)
    console = Console(record=True, width=200, file=io.StringIO())
    console.print(comparison_view(done, open_bundle()))
    assert "\x1b" not in console.export_text(styles=False)
    ElementTree.fromstring(matrix_svg(done))


def test_more_pictures_than_pairs_can_be_kept_of_are_refused_before_they_are_looked_at(tmp_path: Path) -> None:
    for more, arguments in ((1001, ()), (201, ("--matrix", tmp_path / "m.svg"))):
        done = CliRunner().invoke(main, ["compare", *map(str, arguments), *["a.png"] * more])
        assert done.exit_code == 2
        assert str(more) in done.stderr


def test_probability_is_the_calibrated_cosine() -> None:
    (pair,) = compared(0, 60).pairs
    assert pair.similarity == pytest.approx(0.5, abs=1e-6)
    assert pair.probability_same == pytest.approx(0.5, abs=1e-5)
    assert pair.same is False
    (pair,) = compared(0, 10).pairs
    assert pair.probability_same == pytest.approx(1 / (1 + math.exp(-(10 * math.cos(math.radians(10)) - 5))), abs=1e-4)
    assert pair.same is True


def test_groups_are_found_and_the_largest_comes_first() -> None:
    assert compared(90, 0, 5, 95, 3).groups == ((1, 2, 4), (0, 3))
    assert compared(0, 5).groups == ((0, 1),)
    assert compared(0, 80).groups == ((0,), (1,))


def test_a_chain_of_neighbours_does_not_join_what_is_far_apart() -> None:
    # Each is near enough to the next one; the ends are 120 degrees apart.
    groups = compared(0, 40, 80, 120).groups
    assert groups is not None
    assert len(groups) > 1


def test_what_cannot_be_compared_says_why() -> None:
    reports = [report("a.png"), report("photo.jpg", "camera"), report("b.png")]
    reports.append(report("bad.png", None, Failure("empty", "the file is empty")))
    done = compare(reports, [*at(0, 0, 2), None], SAME)
    reasons = {(pair.a, pair.b): pair.reason for pair in done.pairs}
    assert reasons[0, 2] is None
    assert reasons[0, 1] == reasons[1, 2] == "photo.jpg looks like a camera photo"
    assert reasons[2, 3] == "bad.png could not be read"
    assert done.groups == ((0, 2),)
    assert [picture.group for picture in done.pictures] == [0, None, 0, None]
    assert done.pairs[0].probability_same is done.pairs[0].similarity is done.pairs[0].same is None
    matrix = done.matrix()
    assert np.isnan(matrix[0, 1])
    assert matrix[0, 2] == matrix[2, 0] == pytest.approx(done.pairs[1].probability_same)
    jsonschema.validate(done.to_json(), SCHEMA)


def test_nothing_but_photos() -> None:
    done = compare([report("a", "camera"), report("b", "camera")], at(0, 1), SAME)
    assert done.groups == ()


def test_one_picture_is_too_few() -> None:
    with pytest.raises(ValueError, match="at least two"):
        compared(0)


def test_without_scipy_pairs_are_still_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.cluster.hierarchy", None)
    done = compared(0, 1, 2)
    assert done.groups is None
    assert all(pair.same for pair in done.pairs)
    assert compared(0, 1).groups == ((0, 1),)
    jsonschema.validate(done.to_json(), SCHEMA)


def test_parser_compares_pictures(bundle_copy: Path) -> None:
    parser = Parser(comparing(bundle_copy))
    done = parser.compare([noise(200, 200), sample_files()[0], noise(200, 200), b"junk"])
    jsonschema.validate(done.to_json(), SCHEMA)
    twins = done.pairs[1]
    assert (twins.a, twins.b) == (0, 2)
    assert twins.similarity == pytest.approx(1, abs=1e-5)
    assert twins.same is True
    assert done.pictures[3].error is not None
    assert done.pictures[0].group == done.pictures[2].group == 0


def test_bundle_without_calibration_says_so(bundle_copy: Path) -> None:
    with pytest.raises(BundleError, match="no calibration for comparing"):
        Parser(comparing(bundle_copy, same=None)).compare([noise(64, 64), noise(64, 64)])
