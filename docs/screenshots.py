"""Write docs/report-*.webp, pictures of the HTML report in a browser: `python -m docs.screenshots`. Needs Chromium."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from edgeparse import Parser
from edgeparse.render.html import HtmlReport

ROOT = Path(__file__).parent.parent
# No service that a browser would call up by itself, and no sandbox, which root and containers do not have.
QUIET = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"

MAX_BYTES = 140_000


def chromium() -> str | None:
    """Where Chromium is: what `CHROMIUM` names, or what is on the path."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def browser() -> Iterator[Browser]:
    """The system's Chromium, without a window."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), args=QUIET.split())
        try:
            yield opened
        finally:
            opened.close()


def page_of(*names: str) -> str:
    """The report about samples."""
    parser = Parser()
    page = HtmlReport(parser.bundle, len(names))
    for name in names:
        look = parser.inspect(ROOT / "samples" / name)
        page.add(look.report, look)
    return page.render()


def save(picture: Image.Image, path: Path) -> None:
    """At the best quality that is small enough for a repository."""
    for quality in range(90, 20, -5):
        picture.save(path, quality=quality, method=6)
        if path.stat().st_size < MAX_BYTES:
            return


def main() -> None:
    """One picture in light and dark, and the list of several."""
    several = sorted(path.name for path in (ROOT / "samples").iterdir() if path.suffix != ".md")
    pages = {"one": page_of("generated-zoo-autoencoder.jpg"), "several": page_of(*several)}
    with browser() as opened, tempfile.TemporaryDirectory() as folder:
        for name, scheme, height in (("one", "light", 1120), ("one", "dark", 1120), ("several", "light", 620)):
            file = Path(folder) / f"{name}.html"
            file.write_text(pages[name])
            tab = opened.new_page(viewport={"width": 1120, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
            tab.goto(file.as_uri())
            save(Image.open(io.BytesIO(tab.screenshot())), ROOT / "docs" / f"report-{name}-{scheme}.webp")
            tab.close()


if __name__ == "__main__":
    main()
