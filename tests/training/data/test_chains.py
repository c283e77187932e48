from __future__ import annotations

import numpy as np
import pytest

from training.data.chains import Chain, JpegTables, apply_chain, draw_chain, encode

NO_TABLES = JpegTables([])


def textured(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)


@pytest.mark.parametrize("size", [64, 96, 128])
def test_every_chain_gives_a_window(size: int) -> None:
    rng = np.random.default_rng(0)
    picture = textured(200)
    for _ in range(60):
        chain = draw_chain(rng, size, 200)
        part = picture[: min(chain.region, 200), : min(chain.region, 200)]
        window = apply_chain(part, chain, NO_TABLES, saved_first=0.65)
        assert (window.shape, window.dtype) == ((size, size, 3), np.uint8)


def test_a_picture_smaller_than_the_window_is_extended() -> None:
    window = apply_chain(textured(50), Chain(64, 1.0, 3), NO_TABLES, saved_first=0.0)
    assert window.shape == (64, 64, 3)


def test_a_chain_is_reproducible_and_chains_differ() -> None:
    picture = textured(120)
    first, again, other = (
        apply_chain(picture, Chain(64, 0.9, seed), NO_TABLES, saved_first=0.65) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_photo_and_its_twin_stay_in_step() -> None:
    """Where the pixels are the same, the windows are the same: neither position nor edits depend on the picture."""
    rng = np.random.default_rng(0)
    picture = textured(160)
    for _ in range(40):
        chain = draw_chain(rng, 64, 160)
        assert np.array_equal(*(apply_chain(p, chain, NO_TABLES, saved_first=0.65) for p in (picture, picture.copy())))


def test_small_pictures_are_not_shrunk_below_a_window() -> None:
    rng = np.random.default_rng(0)
    scales = [draw_chain(rng, 128, 192).scale for _ in range(300)]
    assert min(scales) >= (128 + 24) / (192 - 8)
    assert max(scales) > 1.1
    assert 0.4 < np.mean(np.array(scales) == 1.0) < 0.7


def test_camera_tables_are_used() -> None:
    coarse = {"qtables": [[255] * 64, [255] * 64], "subsampling": 0}
    picture = textured(160)
    rng = np.random.default_rng(0)
    chains = [Chain(64, 1.0, int(seed)) for seed in rng.integers(2**62, size=80)]
    spread = [
        [apply_chain(picture, chain, tables, saved_first=0.65).std() for chain in chains]
        for tables in (NO_TABLES, JpegTables([coarse]))
    ]
    assert min(spread[1]) < 0.6 * min(spread[0])


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "AVIF"])
def test_encode_changes_pixels_and_keeps_the_shape(file_format: str) -> None:
    picture = textured(48)
    decoded = encode(picture, file_format, quality=50)
    assert decoded.shape == picture.shape
    assert not np.array_equal(decoded, picture)
