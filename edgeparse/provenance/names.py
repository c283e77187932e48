"""Known names of generators, editors and camera makers.

A name counts only as a whole: the field must equal it, or begin with it and go on with a version.
A word inside a caption never counts.
"""

from __future__ import annotations

import re

# Written name in lower case -> name to show.
GENERATORS = {
    "adobe firefly": "Adobe Firefly",
    "adobe_firefly": "Adobe Firefly",
    "automatic1111": "Stable Diffusion web UI (AUTOMATIC1111)",
    "azure openai imagegen": "Azure OpenAI ImageGen",
    "bing image creator": "Bing Image Creator",
    "chatgpt": "ChatGPT (OpenAI)",
    "comfyui": "ComfyUI",
    "dall-e": "DALL·E (OpenAI)",
    "dall·e": "DALL·E (OpenAI)",
    "draw things": "Draw Things",
    "dreamina": "Dreamina (ByteDance)",
    "dreamstudio": "DreamStudio (Stability AI)",
    "easy diffusion": "Easy Diffusion",
    "fooocus": "Fooocus",
    "gemini": "Gemini (Google)",
    "google ai": "Google AI",
    "google imagen": "Imagen (Google)",
    "imagen": "Imagen (Google)",
    "gpt-4o": "GPT-4o (OpenAI)",
    "gpt-image": "GPT Image (OpenAI)",
    "gpt image": "GPT Image (OpenAI)",
    "grok imagine": "Grok Imagine (xAI)",
    "ideogram": "Ideogram",
    "ideogram ai": "Ideogram",
    "image creator from designer": "Bing Image Creator",
    "image playground": "Image Playground (Apple)",
    "apple image playground": "Image Playground (Apple)",
    "invokeai": "InvokeAI",
    "krea": "Krea",
    "leonardo.ai": "Leonardo.Ai",
    "luma ai": "Luma AI",
    "microsoft designer": "Microsoft Designer",
    "midjourney": "Midjourney",
    "nightcafe": "NightCafe",
    "novelai": "NovelAI",
    "openai-api": "OpenAI",
    "recraft": "Recraft",
    "sora": "Sora (OpenAI)",
    "stable diffusion": "Stable Diffusion",
    "stable diffusion xl": "Stable Diffusion XL",
    "stable diffusion web ui": "Stable Diffusion web UI",
    "stability ai": "Stability AI",
    "swarmui": "SwarmUI",
}
# Tools that change a part of a picture with AI, and say so by their name.
AI_EDITORS = {
    "apple photos clean up": "Apple Photos Clean Up",
    "apple photos generative edit": "Apple Photos",
    "magic editor": "Google Magic Editor",
}
EDITORS = {
    name.lower(): name
    for name in (
        "ACDSee",
        "Adobe ImageReady",
        "Adobe Lightroom",
        "Adobe Lightroom Classic",
        "Adobe Photoshop",
        "Adobe Photoshop Camera Raw",
        "Adobe Photoshop Elements",
        "Adobe Photoshop Express",
        "Adobe Photoshop Lightroom",
        "Adobe Photoshop Lightroom Classic",
        "Affinity Photo",
        "Capture One",
        "darktable",
        "DxO PhotoLab",
        "digiKam",
        "GIMP",
        "Luminar",
        "Paint Shop Pro",
        "paint.net",
        "Photo Mechanic",
        "PhotoScape",
        "Picasa",
        "Pixelmator Pro",
        "Polarr",
        "RawTherapee",
        "Snapseed",
        "VSCO",
    )
}
CAMERA_MAKERS = frozenset(
    """
    apple asus blackmagic canon casio concord dji dxo eastman epson fairphone fujifilm fuji garmin ge google gopro
    hasselblad hewlett-packard hmd hp honor htc huawei infinix insta360 jvc kodak konica kyocera leica lenovo lg lumix
    mamiya microsoft minolta motorola nikon nokia nothing nvidia olympus om oneplus oppo panasonic parrot pentax phase
    polaroid realme ricoh rollei samsung sanyo sharp sigma skydio sony tecno toshiba vivo vivitar xiaomi yuneec zte
    """.split()  # noqa: SIM905
)
# Signers of content credentials that certify a capture.
CAMERA_SIGNERS = ("canon", "fujifilm", "leica camera", "nikon", "panasonic", "sony", "pixel camera")

# What may follow a whole name: "26.9.0", "/26.9.0 (Windows)", " v2.4.3", " CC 2019".
_VERSION = re.compile(
    r"(?:[\s/_·-]*(?:v|version|cc|cs|pro|classic|express)?[\s./_-]*\(?[\d.]|\s*[(/]|$)", re.IGNORECASE
)


def find_name(value: str, table: dict[str, str]) -> str | None:
    """Return the shown name when the whole field is a known name, with or without a version."""
    text = " ".join(value.split()).casefold()
    if not text or len(text) > 200:
        return None
    best = ""
    for name in table:
        if len(name) > len(best) and text.startswith(name) and _VERSION.match(text, len(name)):
            best = name
    return table[best] if best else None


def is_camera_maker(make: str) -> bool:
    """Return True when an EXIF Make begins with a camera maker's name."""
    words = re.split(r"[\s,.]+", make.strip().casefold())
    return bool(words) and words[0] in CAMERA_MAKERS
