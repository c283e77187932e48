"""Draw docs/report.svg, the output of `edgeparse check -r samples`, with rich: `python -m docs.picture`."""

from __future__ import annotations

import io
import re
from pathlib import Path

from rich.console import Console

from edgeparse import Parser
from edgeparse.render.terminal import print_reports

ROOT = Path(__file__).parent.parent


def main() -> None:
    """Run the samples and draw the terminal."""
    console = Console(record=True, width=108, file=io.StringIO(), force_terminal=True)
    pictures = [path for path in sorted((ROOT / "samples").iterdir()) if path.suffix != ".md"]
    parser = Parser()
    parser.parse(pictures[0])  # the first run also warms the library up
    print_reports(parser.parse_many(f"samples/{path.name}" for path in pictures), parser, console)
    svg = console.export_svg(title="edgeparse check samples -r")
    # The page must not fetch a font from anywhere.
    svg = re.sub(r"@font-face\s*\{[^}]*\}", "", svg)
    (ROOT / "docs" / "report.svg").write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n")


if __name__ == "__main__":
    main()
