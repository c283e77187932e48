"""Report on images: a line for each, and an HTML page. Usage: `python examples/app.py IMAGE...`.

`python examples/package_app.py` packages this app as a folder that runs without Python.
"""

import sys
from pathlib import Path

from edgeparse import ImageError, Parser
from edgeparse.render.html import HtmlReport


def main(names: list[str], page_file: Path) -> int:
    """Report on images, write the page, and return the number of images that could not be read."""
    parser = Parser()
    page, failed = HtmlReport(parser.bundle, len(names)), 0
    for name in names:
        try:
            inspection = parser.inspect(name)
        except ImageError as error:
            page.add(parser.failure(name, error), None)
            print(f"{name}: {error}")
            failed += 1
        else:
            page.add(inspection.report, inspection)
            print(f"{name}: {inspection.report.verdict} {inspection.report.probability_generated:.3f}")
    page_file.write_text(page.render(), encoding="utf-8")
    return failed


if __name__ == "__main__":
    # Exit statuses wrap at 256, so 256 failures would look like success.
    sys.exit(min(main(sys.argv[1:], Path("report.html")), 1))
