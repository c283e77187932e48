"""Say of every picture that appears in a folder what it looks like: `python examples/watch_folder.py FOLDER`.

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
    """Each picture once it is there and its writer paused; one that is written again comes again."""
    watching = False
    for changes in watch(folder, stop_event=stop, rust_timeout=500, yield_on_timeout=True):
        if not watching:
            # Only now: a picture that came before the watch stood would never be reported.
            print(f"watching {folder}", file=sys.stderr, flush=True)
            watching = True
        paths = {Path(path) for change, path in changes if change is not Change.deleted}
        yield from sorted(path for path in paths if path.suffix.lower() in SUFFIXES and path.is_file())


def reports(folder: Path, stop: threading.Event) -> Iterator[Report]:
    """A report a picture; one that cannot be read gives a report with its reason, and the watch goes on."""
    parser = Parser()
    parser.warm_up()
    return parser.parse_many(arriving(folder, stop))


if __name__ == "__main__":
    try:
        for report in reports(Path(sys.argv[1]), threading.Event()):
            print(json.dumps(report.to_json(), allow_nan=False), flush=True)
    except KeyboardInterrupt:
        pass
