"""Write tests/edgeparse/golden.json from the default bundle and the samples: `python -m tests.edgeparse.make_golden`."""

from __future__ import annotations

import json
from pathlib import Path

from edgeparse import Parser
from tests.conftest import sample_files


def main() -> None:
    """Run both precisions over the samples."""
    golden: dict[str, object] = {"bundle_sha256": Parser().bundle.sha256}
    for variant in ("fp32", "int8"):
        reports = {path.name: Parser(variant=variant).parse(path) for path in sample_files()}
        golden[variant] = {
            name: {"verdict": report.verdict, "probability_generated": round(report.probability_generated or 0.0, 4)}
            for name, report in reports.items()
        }
    Path(__file__).with_name("golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
