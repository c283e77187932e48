"""Report on every image that arrives in a folder. Usage: `python examples/watch_folder.py FOLDER`.

Needs `pip install ".[cpu]" watchfiles` in a clone of the repository.
"""

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from watchfiles import Change, watch

from edgeparse import Parser, Report

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".avif", ".tif", ".tiff"}


def arriving(folder: Path, stop: threading.Event) -> Iterator[Path]:
    """Yield each image after its writer pauses, and again when it is rewritten."""
    watching = False
    for changes in watch(folder, stop_event=stop, rust_timeout=500, yield_on_timeout=True):
        if not watching:
            # Printed only now, because images that arrive before the watch starts are missed.
            print(f"watching {folder}", file=sys.stderr, flush=True)
            watching = True
        paths = {Path(path) for change, path in changes if change is not Change.deleted}
        yield from sorted(path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file())


def reports(folder: Path, stop: threading.Event) -> Iterator[Report]:
    """Yield one report per image, including images that cannot be read."""
    parser = Parser()
    parser.warm_up()
    return parser.parse_many(arriving(folder, stop))


if __name__ == "__main__":
    try:
        for report in reports(Path(sys.argv[1]), threading.Event()):
            print(json.dumps(report.to_json(), allow_nan=False), flush=True)
    except KeyboardInterrupt:
        pass
