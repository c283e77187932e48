"""The index of a dataset: one JSONL file that training, evaluation and the test set read.

Lines of sources come first. A source is a generator or a set of camera photos:

    {"source": "zoo/vae-000", "name": "vae-000", "kind": "generated", "zoo": true, "split": "train", "family": "vae",
     "labels": {"continuous": {"layers": 9}, "discrete": {"up_sampling": "nearest"}, "losses": ["L1"]}}

`kind` is `camera` or `generated`. Unknown labels of a generator are left out or null, and no loss or metric uses them. `family` and
`labels`
of a camera are null. The `split` of a generator says whether training may use it. Lines of pictures follow:

    {"picture": "vae-000.npz#3", "source": "zoo/vae-000", "split": "train", "group": "cq100/1.png", "twin": "photos-192.npz#17",
     "made": true, "jpeg": [96, 0]}

- `picture`: path of a file, absolute or relative to the index's folder. `#N` is picture N of a zoo's `.npz` file.
- `split`: `train`, `val` or `test`.
- `group`: the photo that the picture shows. Pictures of one group stay in one split. Null if no other picture shows the same content.
- `twin`: the camera picture that the picture was made from, if the index holds it.
- `made`: true if the picture is as its generator made it, false or null for photos and pictures that were published as files.
- `jpeg`: quality and subsampling (0: 4:4:4, 1: 4:2:2, 2: 4:2:0) of the JPEG compression that is applied to a picture with `made`.
  Photos mostly
  come as JPEG, so generated pictures get the setting of their photo, or of a training photo. Null if that photo is lossless.

`python -m training index write DATA ZOO INDEX` writes the index.
"""
