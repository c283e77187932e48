"""The index of a dataset: it gives back what the folders hold, wherever they lie, and says what is wrong with it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.conftest import noise
from training.data.augment import Jpeg, encoded
from training.data.dataset import Generator, Sample
from training.data.index import scan as scanning
from training.data.index.command import main
from training.data.index.load import collect, load
from training.data.index.records import read
from training.data.index.scan import scan
from training.data.public_generators import LABELS
from training.data.public_sets import FOLDS, TEST_FOLD, PublicPicture, folds_of, read_pictures, read_sets
from training.data.sources import jpeg_of_file
from training.labels import Labels
from training.zoo.files import differences

VAE, GAN = (
    Labels("vae", {"layers": 9}, {"up_sampling": "nearest"}, ("L1",)),
    Labels("gan", {"layers": 4}, {}, ("hinge",)),
)


TRAIN, TEST = "0.png", "1.png"
# kind, set, file, the photo that it was made from, owner.
ROWS = [
    ("generated", "ldm-fourier", "a.webp", None, "tester"),
    ("photos", "cq100", TRAIN, None, "trainer"),
    ("photos", "bsds500", TEST, None, "tester"),
    ("generated", "sd1", "b.webp", None, "trainer"),
    # Restored by a network, which is neither.
    ("generated", "fsrcnn-x2", "d.webp", None, "trainer"),
    ("generated", "taef2-reconstruction", "e.webp", f"photos/bsds500/{TEST}", "tester"),
    # Of a generator of the test split, from a photo of training: in no split.
    ("generated", "ldm-fourier", "f.webp", f"photos/cq100/{TRAIN}", "tester"),
    ("generated", "muse__muse-model", "g.webp", None, "trainer"),
]


@pytest.fixture(autouse=True)
def owners_lie_where_their_names_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "folds_of", lambda _: {"trainer": FOLDS - 1, "tester": TEST_FOLD})


PROCESSED = PublicPicture("generated/fsrcnn-x2/0.webp", read_sets()["fsrcnn-x2"], "fsrcnn-x2", jpeg=False)


def make(folder: Path) -> tuple[Path, Path]:
    """A data folder and a zoo of two generators, and of one that fails the quality rule."""
    data, zoo = folder / "data", folder / "zoo"
    zoo.mkdir(parents=True)
    rows = []
    for seed, (kind, name, file, photo, owner) in enumerate(ROWS):
        path = data / kind / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(40, 48, seed)).save(path, lossless=True)
        row = {"kind": kind, "set": name, "file": f"{kind}/{name}/{file}", "encoding": "lossless", "twin": photo or ""}
        rows.append(row | {"x": "", "y": "", "source": f"{owner}/repository"})
    with (data / "index.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    splits, sources = np.array(["train", "test"]), np.array([f"cq100/{TRAIN}", f"bsds500/{TEST}"])
    np.savez_compressed(zoo / "photos-32.npz", pixels=stack(50, 2), splits=splits, sources=sources)
    for number, (name, labels, twins, psnr) in enumerate(
        [("gan-002", GAN, [-1, -1], 25.0), ("vae-000", VAE, [1, 0], 25.0), ("vae-001", VAE, [1, 0], 15.0)]
    ):
        entry = json.dumps({"labels": labels.to_json(), "quality": {"psnr_db": psnr}})
        kept = differences(stack(60 + 10 * number, 2))
        np.savez_compressed(zoo / f"{name}.npz", differences=kept, splits=splits[twins], twins=twins, entry=entry)
    return data, zoo


@pytest.mark.parametrize("jpeg", [Jpeg(96, 0), Jpeg(75, 2), Jpeg(88, 1)])
def test_how_a_file_was_compressed_is_read_from_it(tmp_path: Path, jpeg: Jpeg) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(noise(32, 32), "JPEG", *jpeg))
    assert jpeg_of_file(path) == jpeg
    Image.fromarray(noise(32, 32)).convert("L").save(path, quality=jpeg.quality)
    assert jpeg_of_file(path) == Jpeg(jpeg.quality, 2)
    Image.fromarray(noise(32, 32)).save(tmp_path / "a.png")
    assert jpeg_of_file(tmp_path / "a.png") is None


def test_what_was_made_is_saved_as_its_photo_was(tmp_path: Path) -> None:
    data, zoo = make(tmp_path)
    # The photos of both splits are JPEG now, whatever their names say.
    for file, jpeg in ((f"cq100/{TRAIN}", Jpeg(96, 0)), (f"bsds500/{TEST}", Jpeg(90, 2))):
        (data / "photos" / file).write_bytes(encoded(noise(40, 48), "JPEG", *jpeg))
    found = {(e.source, e.group): e.jpeg for e in scan(data, zoo).entries}
    assert found["cq100", f"cq100/{TRAIN}"] is None
    assert found["zoo/vae-000", f"cq100/{TRAIN}"] == Jpeg(96, 0)
    assert found["taef2-reconstruction", f"bsds500/{TEST}"] == Jpeg(90, 2)
    assert found["zoo/vae-000", f"bsds500/{TEST}"] == Jpeg(90, 2)
    # Without a photo as one of training was.
    assert found["sd1", None] == found["zoo/gan-002", None] == Jpeg(96, 0)


def test_a_fraction_of_known_generators_is_for_attribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "held_out", lambda _: {"generated/sd1/b.webp"})
    entries = {entry.source: entry for entry in scan(*make(tmp_path)).entries}
    assert entries["sd1"].split in ("val", "test")
    assert entries["muse__muse-model"].split == "train"


def test_a_part_of_a_zoo_keeps_the_sides_of_the_whole(tmp_path: Path) -> None:
    """Also where it has not the generator whose labels another one's side hangs on; and what is known of those that it lacks."""
    data, zoo = make(tmp_path)
    assert scan(data, zoo).sources["zoo/gan-002"].split == "test"
    sides = {"gan-001": "train", "gan-002": "train", "vae-007": None, "vae-008": "test", "vae-009": "train"}
    entries = [{"name": name, "split": side, "labels": GAN.to_json()} for name, side in sides.items()]
    description = tmp_path / "zoo.json"
    description.write_text(json.dumps({"generators": entries}))
    index = tmp_path / "index.jsonl"
    arguments = [str(path) for path in (data, zoo, index)]
    done = CliRunner().invoke(main, ["write", *arguments, "--part-of", str(description)])
    assert done.exit_code == 0, done.output
    found = read(index)
    of_zoo = {s.name: s.split for s in found.sources.values() if s.zoo and s.labels}
    assert of_zoo == {"gan-001": "train", "gan-002": "train", "vae-009": "train"}
    assert {entry.source for entry in found.entries if entry.source.startswith("zoo/gan")} == {"zoo/gan-002"}


def stack(seed: int, count: int) -> np.ndarray:
    return np.stack([noise(32, 32, seed + i) for i in range(count)])


def run_write(data: Path, zoo: Path, index: Path) -> None:
    done = CliRunner().invoke(main, ["write", str(data), str(zoo), str(index)], catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """Beside the data folder and the zoo, and below neither."""
    (tmp_path / "elsewhere").mkdir()
    run_write(*make(tmp_path), tmp_path / "elsewhere" / "index.jsonl")
    return tmp_path / "elsewhere" / "index.jsonl"


def test_what_is_loaded_is_what_the_folders_hold(index: Path) -> None:
    found = load(index)
    assert found.sources == [
        Generator("ldm-fourier", LABELS["ldm-fourier"], False, "test"),
        Generator("cq100", None, False, "train"),
        Generator("bsds500", None, False, "train"),
        Generator("sd1", LABELS["sd1"], False, "train"),
        Generator("taef2-reconstruction", LABELS["taef2-reconstruction"], False, "test"),
        Generator("muse__muse-model", Labels(None, {}, {}, None), False, "train"),
        Generator("cq100", None, True, "train"),
        Generator("bsds500", None, True, "train"),
        Generator("gan-002", GAN, True, "test"),
        Generator("vae-000", VAE, True, "train"),
    ]
    expected = [
        Sample(noise(40, 48, 0), 0, "test", made=True),
        Sample(noise(40, 48, 1), 1, "train", f"cq100/{TRAIN}"),
        Sample(noise(40, 48, 2), 2, "test", f"bsds500/{TEST}"),
        Sample(noise(40, 48, 3), 3, "train", made=True),
        Sample(noise(40, 48, 5), 4, "test", f"bsds500/{TEST}", made=True),
        Sample(noise(40, 48, 7), 5, "train", made=True),
        Sample(noise(32, 32, 50), 6, "train", f"cq100/{TRAIN}"),
        Sample(noise(32, 32, 51), 7, "test", f"bsds500/{TEST}"),
        Sample(noise(32, 32, 60), 8, "test", made=True),
        Sample(noise(32, 32, 61), 8, "test", made=True),
        Sample(noise(32, 32, 70), 9, "test", f"bsds500/{TEST}", made=True),
        Sample(noise(32, 32, 71), 9, "train", f"cq100/{TRAIN}", made=True),
    ]
    assert [(s.source, s.split, s.photo, s.made) for s in found.samples] == [
        (s.source, s.split, s.photo, s.made) for s in expected
    ]
    for mine, theirs in zip(found.samples, expected, strict=True):
        assert np.array_equal(mine.pixels, theirs.pixels)
        assert mine.pixels.dtype == np.uint8


def test_lines_say_what_is_known_and_no_more(index: Path) -> None:
    lines = [json.loads(line) for line in index.read_text().splitlines()]
    sources = {line["source"]: line for line in lines if "picture" not in line}
    assert sources["zoo/vae-000"] == {
        "source": "zoo/vae-000",
        "name": "vae-000",
        "kind": "generated",
        "zoo": True,
        "split": "train",
        "family": "vae",
        "labels": {"continuous": {"layers": 9}, "discrete": {"up_sampling": "nearest"}, "losses": ["L1"]},
    }
    assert (sources["cq100"]["kind"], sources["cq100"]["family"], sources["cq100"]["labels"]) == ("camera", None, None)
    assert sources["muse__muse-model"]["labels"] == {"continuous": {}, "discrete": {}, "losses": None}
    places = read(index).entries
    assert places[4].twin == places[2].place
    assert places[10].twin == places[7].place
    assert places[0].twin is None


def test_unknown_labels_may_be_left_out(index: Path) -> None:
    edit(index, 5, lambda fields: [fields.pop(name) for name in ("family", "labels")])
    assert load(index).sources[5].labels == Labels(None, {}, {}, None)


def test_an_index_moves_with_what_lies_below_it(tmp_path: Path) -> None:
    data, zoo = make(tmp_path / "here")
    run_write(data, zoo, tmp_path / "here" / "index.jsonl")
    before = load(tmp_path / "here" / "index.jsonl")
    assert str(tmp_path) not in (tmp_path / "here" / "index.jsonl").read_text()
    shutil.move(tmp_path / "here", tmp_path / "there")
    after = load(tmp_path / "there" / "index.jsonl")
    assert [s.pixels.tobytes() for s in after.samples] == [s.pixels.tobytes() for s in before.samples]


def test_what_is_narrowed_is_all_that_is_read(index: Path) -> None:
    found = read(index)
    (index.parent.parent / "zoo" / "gan-002.npz").unlink()
    some = collect(replace(found, entries=[entry for entry in found.entries if entry.source == "zoo/vae-000"][1:]))
    assert some.sources == list(found.sources.values())
    assert [sample.pixels.tobytes() for sample in some.samples] == [noise(32, 32, 71).tobytes()]
    with pytest.raises(
        FileNotFoundError, match=r"gan-002\.npz is listed in the index but does not exist; .*training index write"
    ):
        load(index)


def edit(index: Path, line: int, change: Callable[[dict], object]) -> None:
    lines = [json.loads(text) for text in index.read_text().splitlines()]
    change(lines[line])
    index.write_text("".join(json.dumps(fields) + "\n" for fields in lines))


@pytest.mark.parametrize(
    ("line", "change", "says"),
    [
        (-1, {"source": "zoo/vae-999"}, r"line 22: source must be described by an earlier line, got zoo/vae-999"),
        (-1, {"split": "dev"}, "split must be one of train, val, test, got 'dev'"),
        (-1, {"twin": "nowhere.png"}, r"twin must be a camera picture of this index, got nowhere\.png"),
        (
            0,
            {"labels": {"discrete": {"normalisation": "group"}}},
            "discrete parameter must be one of .*, got 'normalisation'",
        ),
        (
            0,
            {"labels": {"discrete": {"normalization": "layer"}}},
            "normalization must be one of none, batch, .*, got 'layer'",
        ),
        (0, {"labels": {"losses": ["l1"]}}, "loss must be one of L1, .*, got 'l1'"),
        (0, {"family": "painter"}, "family must be one of .*, got 'painter'"),
        (0, {"kind": "real"}, "kind must be one of camera, generated, got 'real'"),
        (1, {"source": "ldm-fourier"}, "source must be unique, got ldm-fourier twice"),
    ],
)
def test_a_faulty_line_is_named(index: Path, line: int, change: dict, says: str) -> None:
    edit(index, line, lambda fields: fields.update(change))
    with pytest.raises(ValueError, match=says) as error:
        read(index)
    assert "index.jsonl, line" in str(error.value)
    assert "training index write" in str(error.value)


def test_what_is_no_index_is_named(tmp_path: Path, index: Path) -> None:
    edit(index, -1, lambda fields: fields.pop("split"))
    with pytest.raises(ValueError, match="line 22: field 'split' is missing"):
        read(index)
    for text in ("kind,set,file\n", "[]\n"):
        (tmp_path / "other.jsonl").write_text(text)
        with pytest.raises(ValueError, match="line 1"):
            read(tmp_path / "other.jsonl")


def test_a_picture_beyond_the_file_is_named(index: Path) -> None:
    edit(index, -1, lambda fields: fields.update(picture=fields["picture"].replace("#1", "#7")))
    with pytest.raises(ValueError, match=r"picture number must be below 2 for .*vae-000\.npz, got 7"):
        load(index)


def test_a_folder_without_one_set_of_crops_is_no_zoo(tmp_path: Path) -> None:
    data, zoo = make(tmp_path)
    shutil.copy(zoo / "photos-32.npz", zoo / "photos-64.npz")
    with pytest.raises(ValueError, match=r"must hold one photos-SIZE\.npz, got 2"):
        run_write(data, zoo, tmp_path / "index.jsonl")


def test_folds_are_those_of_all_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restored pictures are not in the index, but the folds of owners depend on them too."""
    data, zoo = make(tmp_path)
    asked: list[int] = []

    def folds(pictures: list[PublicPicture]) -> dict[str, int]:
        asked.append(len(pictures))
        return folds_of(pictures)

    monkeypatch.setattr(scanning, "folds_of", folds)
    monkeypatch.setattr(scanning, "read_pictures", lambda folder: [*read_pictures(folder), PROCESSED])
    scan(data, zoo)
    assert set(asked) == {len(read_pictures(data)) + 1}
