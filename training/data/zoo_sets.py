"""Training pictures of the zoo, as sets beside the public ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.data.chains import Pixels
from training.data.public_sets import PictureSet, PublicPicture
from training.labels import Labels
from training.zoo.files import generator_files, passes, read_entry, zoo_splits
from training.zoo.files import read_pictures as read_generated

# Enough variety of content for one generator; more would only take memory.
MAX_PICTURES = 48


def read_zoo(folder: Path) -> tuple[list[PublicPicture], list[Pixels], dict[str, Labels]]:
    """Return the training pictures of all training generators, their pixels uint8[S, S, 3], and the generators' labels by set name.

    A picture that shows a photo's content has that photo as its twin.

    Raises:
        ValueError: the folder holds no photo crops, or they were written without corners.
    """
    crops = list(folder.glob("photos-*.npz"))
    if len(crops) != 1:
        raise ValueError(
            f"{folder} must hold one photos-SIZE.npz, got {len(crops)}; run `python -m training zoo build`"
        )
    with np.load(crops[0], allow_pickle=False) as file:
        if "corners" not in file:
            raise ValueError(f"{crops[0]} must hold the corners of its crops; delete it and build the zoo again")
        photos, corners = [f"photos/{source}" for source in file["sources"]], file["corners"].tolist()
    entries = {path: entry for path in generator_files(folder) if passes(entry := read_entry(path))}
    labels = {path.stem: Labels.from_json(entry["labels"]) for path, entry in entries.items()}
    splits = zoo_splits(labels)
    pictures: list[PublicPicture] = []
    pixels: list[Pixels] = []
    for path in entries:
        if splits[path.stem] != "train":
            continue
        with np.load(path, allow_pickle=False) as file:
            rows = np.flatnonzero(file["splits"] == "train")[:MAX_PICTURES]
            twins = file["twins"]
        # Copied, so that the other pictures are freed.
        pixels.extend(np.array(picture) for picture in read_generated(path)[rows])
        made_by = PictureSet(f"zoo/{path.stem}", "zoo", "zoo", "")
        for row in rows:
            photo, (top, left) = (None, (0, 0)) if twins[row] < 0 else (photos[twins[row]], corners[twins[row]])
            pictures.append(PublicPicture(f"{path.name}#{row}", made_by, "zoo", jpeg=False, twin=photo, x=left, y=top))
    return pictures, pixels, {f"zoo/{name}": values for name, values in labels.items()}
