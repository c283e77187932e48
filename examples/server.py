"""An endpoint for uploaded images. Usage: `fastapi run examples/server.py`, then `curl -F picture=@photo.jpg localhost:8000/check`.

Needs `pip install ".[cpu]" "fastapi[standard]"` in a clone of the repository.
"""

from typing import Any

from fastapi import FastAPI, HTTPException, UploadFile

from edgeparse import ImageError, Parser

app = FastAPI(title="edgeparse")
# Shared by all requests. FastAPI runs `def` endpoints in threads, so one network thread per request suffices.
parser = Parser(threads=1)
parser.warm_up()


@app.post("/check")
def check(picture: UploadFile) -> dict[str, Any]:
    """Return the report as JSON, or status 422 with the reason if the file is not an image."""
    try:
        report = parser.parse(picture.file).to_json()
    except ImageError as error:
        raise HTTPException(422, {"kind": error.kind, "message": str(error)}) from error
    return report | {"source": picture.filename}


@app.get("/health")
def health() -> dict[str, str]:
    """Return the bundle and the backend."""
    return {"bundle": parser.bundle.label, "backend": parser.backend}
