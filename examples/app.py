"""A small app to be packaged: a page about the pictures it is given, and a line for each. `python examples/app.py PICTURE...`

`python examples/package_app.py` makes a folder of it that runs where no Python is installed.
"""

import sys
from pathlib import Path

from edgeparse import ImageError, Parser
from edgeparse.page import Page


def main(names: list[str], page_file: Path) -> int:
    """The number of pictures that could not be read."""
    parser = Parser()
    page, failed = Page(parser.bundle, len(names)), 0
    for name in names:
        try:
            look = parser.look(name)
        except ImageError as error:
            page.add(parser.failure(name, error), None)
            print(f"{name}: {error}")
            failed += 1
        else:
            page.add(look.report, look)
            print(f"{name}: {look.report.verdict} {look.report.probability_generated:.3f}")
    page_file.write_text(page.render(), encoding="utf-8")
    return failed


if __name__ == "__main__":
    # A status is a byte: 256 failures would be none.
    sys.exit(min(main(sys.argv[1:], Path("report.html")), 1))
