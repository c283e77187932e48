"""An endpoint that reports on uploaded pictures: `fastapi run examples/server.py`, then `curl -F picture=@photo.jpg localhost:8000/check`.

Needs `pip install ".[cpu]" "fastapi[standard]"` in a clone of the repository.
"""

from typing import Any

from fastapi import FastAPI, HTTPException, UploadFile

from edgeparse import ImageError, Parser

app = FastAPI(title="edgeparse")
# One parser for all requests; FastAPI runs `def` endpoints in threads, and a thread of the network each is enough.
parser = Parser(threads=1)
parser.warm_up()


@app.post("/check")
def check(picture: UploadFile) -> dict[str, Any]:
    """The report as `edgeparse check --json` gives it; 422 with the reason for what is no picture."""
    try:
        report = parser.parse(picture.file).to_json()
    except ImageError as error:
        raise HTTPException(422, {"kind": error.kind, "message": str(error)}) from error
    return report | {"source": picture.filename}


@app.get("/health")
def health() -> dict[str, str]:
    """What answers here."""
    return {"bundle": parser.bundle.label, "backend": parser.backend}
