"""The study: what each run changes, resuming, and the published network."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from tests.synthetic_collection import synthetic_collection
from training import metrics
from training.data.dataset import Collection, photo_encoded
from training.evaluate.targets import TARGETS
from training.experiments import ablations, published_network
from training.experiments.ablations import perform, prepare, smaller_zoo
from training.experiments.study_runs import RUNS, Run
from training.fit.losses import Proxies, Targets, Weights, training_losses
from training.fit.train import load
from training.fit.validation import Validation
from training.model.network import Network, NetworkConfig
from training.report import accuracy, sources

FEW = frozenset({"sd1", "glid-3-xl", "disco-diffusion", "ldm-fourier"})
# The first run, of a small network.
# Validation that has no pictures to judge by.
NOTHING = Validation({}, np.empty(0, np.int64))
RUN = replace(RUNS[0], network=NetworkConfig(fen_width=16, fen_blocks=1, trunk=(16,), hidden=16, embedding=8))
# A budget that one batch uses up.
LITTLE = 1e-3


def few() -> Collection:
    return synthetic_collection(FEW, frozenset({"imagenet1k", "dreambooth_unsplash"}))


def run(name: str) -> Run:
    (found,) = (run for run in RUNS if run.name == name)
    return found


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evaluation without what it repeats hundreds of times for intervals."""
    monkeypatch.setattr(metrics, "interval_over_groups", lambda *_: [0.0, 1.0])
    monkeypatch.setattr(metrics, "random_macro_f1", lambda _known, _truth: 0.0)


def test_runs_change_what_they_describe() -> None:
    assert len({run.name for run in RUNS}) == len(RUNS)
    baseline = RUN.settings(5)
    assert baseline == ablations.Settings(megapixels=5)
    assert run("no-twins").settings(5) == replace(baseline, paired=False)
    assert run("no-public").settings(5) == replace(baseline, public_fraction=0.0)
    assert run("seed-2").settings(5) == replace(baseline, seed=2)
    assert run("no-emphasis").settings(5) == replace(baseline, hard_example_weight=0.0)
    assert run("no-tones").settings(5) == replace(baseline, toned=0.0)
    assert run("no-muon").settings(5) == replace(baseline, muon=False)
    assert run("published").published_settings(3) == ablations.Settings(3, sizes=((1.0, 64),))
    assert run("published-adamw").published_settings(3) == ablations.Settings(
        3, lr=5e-4, muon=False, sizes=((1.0, 64),)
    )
    assert run("published-long").published_settings(3) == ablations.Settings(12, sizes=((1.0, 64),))
    for name in ("magnitude", "low-frequency", "repetitive", "symmetric"):
        term = name.replace("-", "_")
        assert run(f"no-{name}").settings(5) == replace(baseline, weights=replace(Weights(), **{term: 0.0}))
    assert run("no-proxies").settings(5) == replace(baseline, weights=replace(Weights(), proxy=0.0))
    assert run("no-metric").settings(5) == replace(baseline, weights=replace(Weights(), metric=0.0, proxy=0.0))


def test_smaller_zoos_are_balanced_and_nested() -> None:
    def trained(count: int | None) -> set[str]:
        collection = smaller_zoo(few(), count)
        sources = [collection.sources[s.source] for s in collection.samples]
        return {s.name for s in sources if s.zoo and s.labels is not None and s.split == "train"}

    assert len(trained(None)) == 8
    assert sorted(name[:3] for name in trained(4)) == ["flo", "flo", "vae", "vae"]
    assert trained(2) < trained(4) < trained(None)
    held = [s for s in smaller_zoo(few(), 2).sources if s.split in ("val", "test")]
    assert held == [s for s in few().sources if s.split in ("val", "test")]


def test_clean_and_shrunk_variants() -> None:
    collection = few()
    prepare(collection, run("no-codecs"))
    trained = collection.select(split="train", source_split="train")
    assert trained
    for sample in trained:
        (variant,) = sample.variants
        assert np.array_equal(variant, photo_encoded(sample))
    shrunk = few()
    prepare(shrunk, run("published"))
    shapes = {variant.shape for sample in shrunk.samples for variant in sample.variants}
    assert shapes == {(64, 64, 3)}
    assert all(
        bool(s.variants) == (s.split == "train") for s in shrunk.samples if shrunk.sources[s.source].labels is None
    )


def test_each_network_gets_inputs_of_its_size() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    shapes = {"fold-0": (2, 128, 128, 3), "published": (1, 64, 64, 3), "published-windows": (8, 64, 64, 3)}
    for name, shape in shapes.items():
        assert run(name).frame(pixels).shape == shape
        assert run(name).cut(pixels, np.random.default_rng(0)).shape == shape[1:]
    collection = few()
    prepare(collection, run("published-windows"))
    assert {v.shape for s in collection.samples for v in s.variants} != {(64, 64, 3)}


def test_published_network_trains_a_step() -> None:
    torch.manual_seed(0)
    made = published_network.PublishedNetwork(published_network.PublishedConfig(depth=4))
    collection = few()
    chosen = [s for s in collection.samples if collection.sources[s.source].labels is None][:1]
    # Two of one generator, for the metric loss.
    chosen += [s for s in collection.samples if collection.sources[s.source].name == "vae-000"][:2]
    given = torch.from_numpy(np.concatenate([published_network.frame(sample.pixels) for sample in chosen]))
    source = torch.tensor([sample.source for sample in chosen])
    targets = Targets.from_sources(collection.sources, torch.device("cpu"))
    outputs = made(given)
    assert outputs["fingerprint"].shape == (3, 3, 64, 64)
    reference = Network(NetworkConfig(fen_width=16, fen_blocks=1, trunk=(16,), hidden=16, embedding=64))
    with torch.no_grad():
        shapes = {name: value.shape for name, value in reference.eval()(given).items()}
    assert {name: value.shape for name, value in outputs.items()} == shapes
    loss = sum(training_losses(outputs, source, targets, Weights(), Proxies(collection.sources, 64)).values())
    assert isinstance(loss, torch.Tensor)
    before = made.fen.layers[0][0].weight.detach().clone()  # type: ignore[index, union-attr]
    optimizer = torch.optim.AdamW(made.parameters(), 1e-3)
    loss.backward()
    optimizer.step()
    assert torch.isfinite(loss)
    assert not torch.equal(before, made.fen.layers[0][0].weight)  # type: ignore[index, union-attr]


@pytest.mark.usefixtures("small")
def test_the_first_batch_has_the_configured_size(tmp_path: Path) -> None:
    seen = []

    class Watched(Network):
        def forward(self, windows: torch.Tensor) -> dict[str, torch.Tensor]:
            seen.append(windows.shape[1])
            return super().forward(windows)

    collection = few()
    prepare(collection, RUN)
    how = ablations.Settings(megapixels=LITTLE, sizes=((1.0, 32),))
    ablations.train(Watched(RUN.network), collection, NOTHING, how, tmp_path)
    assert seen == [32]


@pytest.mark.usefixtures("small")
@pytest.mark.skipif(shutil.which("g++") is None, reason="TorchInductor needs a C++ compiler")
def test_a_compiled_network_is_stored_like_any_other(tmp_path: Path) -> None:
    collection = few()
    prepare(collection, RUN)
    made = Network(RUN.network)
    how = ablations.Settings(megapixels=LITTLE, sizes=((1.0, 32),), compiled=True)
    ablations.train(made, collection, NOTHING, how, tmp_path)
    assert made.fen.stem[1].num_batches_tracked == 1
    stored, _ = load(tmp_path / "network.pt")
    assert stored.state_dict().keys() == made.state_dict().keys()


def test_multiply_accumulates() -> None:
    # 2.28 billion of the FEN and 0.15 of the head.
    published = published_network.PublishedNetwork(published_network.PublishedConfig())
    assert ablations.multiply_accumulates(published, 64) / 1e9 == pytest.approx(2.43, abs=0.02)
    weight = numpy_helper.from_array(np.zeros((5, 3, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])],
        "one",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    assert sources.multiply_accumulates(model.SerializeToString()) == 4 * 4 * 5 * 27


@pytest.mark.usefixtures("small")
def test_a_killed_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(ablations, "evaluate_run", killed)
        with pytest.raises(KeyboardInterrupt):
            perform(RUN, few, LITTLE, tmp_path, "cpu", 1)
    trained = (tmp_path / RUN.name / "network.pt").read_bytes()
    assert not ablations.is_done(RUN, LITTLE, tmp_path)
    # What is there was not made with another budget.
    with pytest.raises(ValueError, match="other settings"):
        perform(RUN, few, 2 * LITTLE, tmp_path, "cpu", 1)
    # Nor is what does not say with which taken for this one's.
    kept = (tmp_path / RUN.name / "settings.json").rename(tmp_path / "settings.json")
    with pytest.raises(ValueError, match="other settings"):
        perform(RUN, few, LITTLE, tmp_path, "cpu", 1)
    kept.rename(tmp_path / RUN.name / "settings.json")
    with monkeypatch.context() as patched:
        patched.setattr(ablations, "train_network", killed)
        perform(RUN, few, LITTLE, tmp_path, "cpu", 1)
    assert (tmp_path / RUN.name / "network.pt").read_bytes() == trained
    assert ablations.is_done(RUN, LITTLE, tmp_path)
    with pytest.raises(ValueError, match="other settings"):
        ablations.is_done(RUN, 1.0, tmp_path)

    result = json.loads((tmp_path / RUN.name / "result.json").read_text())
    assert result["training"]["steps"] == 1
    assert set(result["evaluation"]["detection_public"]) == {"clean", "social media", "mixed"}
    assert set(result["evaluation"]["detection_public"]["clean"]["by_generator"]) == {"ldm-fourier"}
    # What is done is not done again: nothing is read from this index.
    index = tmp_path / "index.jsonl"
    index.touch()
    monkeypatch.setattr(ablations, "RUNS", (RUN, *RUNS[1:]))
    command = ["run", str(index), str(tmp_path), "--megapixels", str(LITTLE), "--only", RUN.name]
    assert CliRunner().invoke(ablations.main, command, catch_exceptions=False).exit_code == 0

    found = ablations.collect(tmp_path)
    (entry,) = found["runs"]  # type: ignore[misc]
    assert set(entry["figures"]) <= {target.key for target in TARGETS}
    assert entry["unseen_photos"] == ["dreambooth_unsplash"]
    # Of ImageNet a third is for test in this collection, of the other all.
    assert {name: of["pictures"] for name, of in entry["photos"].items()} == {"dreambooth_unsplash": 6, "imagenet1k": 2}
    # What there was of other runs is kept, but not of those that would be other ones today.
    others = [
        {"run": json.loads(json.dumps(asdict(run))) | changed, "budget_megapixels": LITTLE, "training": {}}
        for run, changed in ((RUNS[1], {}), (RUNS[2], {"seed": 9}), (run("published"), {"network": {}}))
    ]
    # From before the width of the embedding's hidden layer could be chosen.
    of_one_width = json.loads(json.dumps(others[0]))
    of_one_width["run"]["network"]["compared"] = True
    assert ablations.collect(tmp_path, [of_one_width])["runs"] == [entry, of_one_width]
    again = ablations.collect(tmp_path, [*found["runs"], *others])  # type: ignore[misc]
    assert again["runs"] == [entry, others[0], others[2]]
    assert ablations.collect(tmp_path / "nothing", [entry])["runs"] == [entry]
    assert ablations.collect(tmp_path, [others[0] | {"budget_megapixels": 1.0}])["runs"] == [entry]
    # One that was done before its settings were changed is no run of this study.
    monkeypatch.setattr(ablations, "RUNS", (replace(RUN, toned=0.0), *RUNS[1:]))
    with pytest.raises(ValueError, match="other settings"):
        ablations.collect(tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_the_largest_photo_source_is_left_out_of_one_of_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = tuple(replace(run(name), network=RUN.network) for name in ("with-largest", "without-largest"))
    assert [of.photos_left_out for of in pair] == [(), ("imagenet1k",)]
    assert replace(pair[1], name=pair[0].name, changed=pair[0].changed, photos_left_out=()) == pair[0]
    monkeypatch.setattr(ablations, "RUNS", pair)
    learnt = []
    learn = ablations.train_network

    def watched(run: Run, collection: Collection, *others: object) -> None:
        learnt.append({s.photo.split("/")[0] for s in collection.samples if s.photo and s.split != "test"})
        learn(run, collection, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(ablations, "train_network", watched)
    for of in pair:
        perform(of, three_sources, LITTLE, tmp_path, "cpu", 1)
    assert learnt == [{"imagenet1k", "bsds500"}, {"bsds500"}]
    found = ablations.collect(tmp_path)
    seen, unseen = found["runs"]  # type: ignore[misc]
    assert seen["unseen_photos"] == ["dreambooth_unsplash"]
    assert unseen["unseen_photos"] == ["dreambooth_unsplash", "imagenet1k"]
    assert (seen["photos"]["imagenet1k"]["pictures"], unseen["photos"]["imagenet1k"]["pictures"]) == (2, 6)
    page = "\n".join(accuracy._study(replace(sources.Sources.read(), study=found)))
    # Neither is one of the folds.
    assert "| metric | fold 0 |" not in page
    share = unseen["photos"]["imagenet1k"]["mixed"]
    assert f"calls {100 * share:.1f}% of its 6 photos generated" in page


def three_sources() -> Collection:
    return synthetic_collection(FEW, frozenset({"imagenet1k", "dreambooth_unsplash", "bsds500"}))
