"""Write the committed samples: `python -m tests.edgeparse.provenance.make_samples`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.edgeparse.provenance import build
from tests.edgeparse.provenance.build import A1111, CAMERA, COMFY, DST, EXPOSURE, LABEL

FOLDER = Path(__file__).parent / "samples"


def samples() -> dict[str, bytes]:
    """Return the bytes of each sample by name."""
    generated = build.xmp(attributes=f'Iptc4xmpExt:DigitalSourceType="{DST}trainedAlgorithmicMedia"')
    return {
        "a1111-parameters.png": build.png(build.text("parameters", A1111)),
        "a1111-comment.jpg": build.jpeg_exif(build.exif({}, {0x9286: build.unicode_comment(A1111)})),
        "aigc-label.png": build.png(build.text("AIGC", json.dumps(LABEL))),
        "c2pa-unsigned.png": build.png(build.chunk(b"caBX", build.generated_store(signed=False))),
        "camera.jpg": build.jpeg_exif(build.exif(CAMERA, EXPOSURE)),
        "comfyui.png": build.png(build.text("prompt", json.dumps(COMFY))),
        "credit.jpg": build.jpeg(build.iptc((110, "Made with Google AI"))),
        "galaxy-edit.jpg": build.jpeg(trailer=build.samsung_trailer('{"genAIType":8}')),
        "xmp-source-type.webp": build.webp((b"XMP ", generated)),
        "look-alike-behind-the-end.png": build.png(trailer=build.text("parameters", A1111)),
        "look-alike-caption.jpg": build.jpeg_exif(build.exif({0x010E: "Made with Stable Diffusion? No, a photo."})),
        "look-alike-make.jpg": build.jpeg_exif(build.exif(CAMERA)),
        "nothing.jpg": build.jpeg(),
    }


def main() -> None:
    """Write every sample."""
    FOLDER.mkdir(exist_ok=True)
    for name, data in samples().items():
        (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    main()
