"""The index of a dataset: one JSONL file that training, evaluation and the evaluation pack read, with the pictures beside it.

First a line a source, a generator or a set of camera photos:

    {"source": "zoo/vae-000", "name": "vae-000", "kind": "generated", "zoo": true, "split": "train", "family": "vae",
     "labels": {"continuous": {"layers": 9}, "discrete": {"up_sampling": "nearest"}, "losses": ["L1"]}}

`kind` is `camera` or `generated`. What is not known of a generator is left out or null, and no objective or figure looks at it; of a
camera `family` and `labels` are null. The `split` of a generator says whether training may see it. Then a line a picture:

    {"picture": "vae-000.npz#3", "source": "zoo/vae-000", "split": "train", "group": "cq100/1.png", "twin": "photos-192.npz#17",
     "made": true, "jpeg": [96, 0]}

- `picture`: a file, by its path from the index's folder or absolute; `#N` for picture N of a zoo's `.npz` file.
- `split`: `train`, `val` or `test`.
- `group`: the photo that it shows, by which pictures are kept in one split; null where it shares its content with no other.
- `twin`: the camera picture that it was made from, where that one is in the index too.
- `made`: as a generator made it; null or false where it is a photo, or came as they do.
- `jpeg`: photos mostly come as JPEG, so a picture that was made is first saved as the photo that it shows, or as some photo of training:
  quality and subsampling (0: 4:4:4, 1: 4:2:2, 2: 4:2:0); null where that one is lossless.

`python -m training index write DATA ZOO INDEX` writes it.
"""
