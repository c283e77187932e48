"""Networks, objectives, codecs, metrics, and export with its parity."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import scipy.fft
import scipy.ndimage
import torch

from export.onnx_export import TOLERANCE, export, fold_batch_norm, output_names, parity, round_weights
from export.quantize import quantize
from tests.conftest import noise
from tests.synthetic_collection import synthetic_collection
from training import metrics
from training.data import augment
from training.data.dataset import CHAINS, Collection, Generator, Sample, add_variants, crop
from training.data.sampler import Batches
from training.fit import heads_lines, heads_outputs
from training.fit.features import WindowFeatures, compute_features, extract_features
from training.fit.heads_embedding import fit_embedding as fitted_embedding
from training.fit.heads_embedding import rows_by_source
from training.fit.heads_lines import fit_lines
from training.fit.losses import (
    Proxies,
    Targets,
    Weights,
    fingerprint_constraints,
    supervised_contrastive_loss,
    training_losses,
)
from training.fit.optimizer import Muon, orthogonalize
from training.fit.train import Settings, add_training_variants, train
from training.fit.trainer import Trainer, build_optimizers
from training.fit.validation import Validation
from training.fit.warm_start import load_weights, matching_weights
from training.labels import CONTINUOUS, DISCRETE, FAMILIES, LOSSES, Labels
from training.model.network import Network, NetworkConfig, feature_count, pixel_shuffle, to_unit_range
from training.model.spectral import BlockSpectrum, SpectralLines, _residuals
from training.zoo.files import split_of_name, zoo_splits


def network(seed: int = 0) -> Network:
    """Random weights, and batch norms that do something."""
    torch.manual_seed(seed)
    made = Network(NetworkConfig(trunk=(32, 48, 64), hidden=64, compared=64, embedding=16))
    for name, buffer in made.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2)
    return made.eval()


def windows(count: int, seed: int = 0) -> np.ndarray:
    return np.stack([noise(128, 128, seed + i) for i in range(count)])


def test_outputs_follow_the_contract() -> None:
    with torch.no_grad():
        outputs = network()(torch.from_numpy(windows(3)))
    sizes = {"generated": 1, "family": len(FAMILIES), "continuous": 9, "losses": 10, "embedding": 16}
    sizes |= {name: len(values) for name, values in DISCRETE.items()}
    assert outputs["fingerprint"].shape == (3, 3, 128, 128)
    assert {name: tuple(value.shape) for name, value in outputs.items() if name != "fingerprint"} == {
        name: (3, size) for name, size in sizes.items()
    }
    assert torch.allclose(outputs["embedding"].norm(dim=1), torch.ones(3), atol=1e-5)


def test_pixel_shuffle_is_pytorchs() -> None:
    x = torch.randn(2, 12, 5, 7)
    assert torch.equal(pixel_shuffle(x), torch.nn.functional.pixel_shuffle(x, 2))


def test_block_spectrum_is_the_cosine_transform() -> None:
    x = torch.from_numpy(windows(1)).float().permute(0, 3, 1, 2) / 127.5 - 1
    got = BlockSpectrum()(x)[0] * 2.5 - 9
    red, _, blue = x[0].numpy()
    grey = x[0].numpy().mean(0)
    expected = []
    for plane in (grey, blue - grey, red - grey):
        blocks = plane.reshape(16, 8, 16, 8).swapaxes(1, 2)
        energy = scipy.fft.dctn(blocks, axes=(2, 3), norm="ortho") ** 2 + BlockSpectrum.FLOOR
        expected.append(np.stack([np.log(energy.mean((0, 1))), np.log(energy).mean((0, 1))]).reshape(2, 64))
    assert np.allclose(got, np.stack(expected, 1).ravel(), atol=1e-2)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(BlockSpectrum()(x)[0] * 2.5 - 9, got)


def lines_of(pixels: np.ndarray) -> np.ndarray:
    """float[6, 34] of a picture uint8[S, S, 3]."""
    return SpectralLines()(to_unit_range(torch.from_numpy(pixels[None]))).numpy().reshape(6, SpectralLines.FREQUENCIES)


def test_spectral_lines_are_the_transform_of_blocks() -> None:
    pixels = np.array(windows(1)[0] // 40 + 100)
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    x = to_unit_range(torch.from_numpy(pixels[None]))
    residual = torch.nn.functional.conv2d(x, _residuals())[0, 0].numpy()
    # But for weights that are rounded to eleven bits.
    assert np.allclose(residual, (grey - scipy.ndimage.gaussian_filter(grey, 0.8, radius=1))[1:-1, 1:-1], atol=5e-3)
    assert residual.std() > 0.1
    expected = []
    for plane in (np.clip(residual, -4, 4), np.minimum(np.abs(residual), 8)):
        waves = np.fft.rfft2(plane[:120, :120].reshape(15, 8, 15, 8).swapaxes(1, 2), norm="ortho")
        together, apart = np.abs(waves.mean((0, 1))) ** 2 * 225, (np.abs(waves) ** 2).mean((0, 1))
        ratio = np.log(together / (apart + SpectralLines.FLOOR) + SpectralLines.LEAST)
        # Of the columns that are their own conjugates the lower half; the frequencies whose waves are real come last.
        own = [(0, 0), (0, 4), (4, 0), (4, 4)]
        others = [(v, u) for v in range(8) for u in range(5) if (v <= 4 or u not in (0, 4)) and (v, u) not in own]
        expected.append([ratio[place] for place in (*others, *own)])
    got = lines_of(pixels)
    assert np.allclose(got[[0, 3]], expected, atol=1e-3)


def test_spectral_lines_see_what_repeats_and_not_what_is_shown() -> None:
    """Two grey levels in every second column, in noise of ten: nobody sees them, and they are there wherever the window is cut."""
    rng = np.random.default_rng(3)
    shown = 128 + rng.normal(0, 10, (140, 140, 1)).repeat(3, 2)
    grid = 2.0 * (np.arange(140) % 2 == 0)[None, :, None]
    columns = -3  # frequency (0, 4), among the last four

    def line(pixels: np.ndarray, top: int = 0, left: int = 0) -> float:
        return float(lines_of(pixels.round().astype(np.uint8)[top : top + 128, left : left + 128])[0, columns])

    assert line(shown + grid) > line(shown) + 1.5
    assert line(shown + grid, 3, 5) == pytest.approx(line(shown + grid), abs=0.7)
    with torch.autocast("cpu", torch.bfloat16):
        assert line(shown + grid) > line(shown) + 1.5


def test_first_convolution_in_bfloat16_sees_faint_traces() -> None:
    """A bright slope whose last bit is noise: little of what a filter without a mean makes of it is lost."""
    fen = network().fen
    slope = torch.arange(128)[:, None, None].expand(128, 128, 3) // 2 + 100
    pixels = slope + torch.from_numpy(np.random.default_rng(0).integers(0, 2, (1, 128, 128, 3)))
    x = (pixels.float() / 127.5 - 1).permute(0, 3, 1, 2)
    with torch.no_grad():
        wanted = fen.stem[0](x)
        with torch.autocast("cpu", torch.bfloat16):
            exact, plain = fen._first_in_bfloat16(x), fen.stem[0](x)

    def error(made: torch.Tensor) -> float:
        return float((made.float() - wanted)[:, :, 2:-2, 2:-2].std() / wanted[:, :, 2:-2, 2:-2].std())

    assert error(exact) < 0.03
    assert error(exact) < 0.8 * error(plain)


def test_folded_network_computes_the_same() -> None:
    original = network()
    folded = fold_batch_norm(original)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
    given = torch.from_numpy(windows(2))
    with torch.no_grad():
        a, b = original(given), folded(given)
    for name in a:
        assert torch.allclose(a[name], b[name], atol=1e-4), name


@pytest.mark.slow
def test_short_weights_compress_and_compute_about_the_same(tmp_path: Path) -> None:
    made = network()
    short = round_weights(made)
    given = torch.from_numpy(windows(8))
    with torch.no_grad():
        a, b = made(given), short(given)
    for name in a:
        error = float((a[name] - b[name]).abs().max() / a[name].std())
        assert 0 < error < 0.08, name
    assert torch.equal(short.fen.stem[0].weight, fold_batch_norm(made).fen.stem[0].weight)
    sizes = []
    for number, one in enumerate((made, short)):
        export(one, output_names(one), tmp_path / f"{number}.onnx")
        sizes.append(len(zlib.compress((tmp_path / f"{number}.onnx").read_bytes())))
    assert sizes[1] < 0.65 * sizes[0]


def test_onnx_parity_and_quantisation(tmp_path: Path) -> None:
    made = network()
    export(made, output_names(made), tmp_path / "model.onnx")
    for count in (1, 5):
        assert max(parity(made, tmp_path / "model.onnx", windows(count)).values()) <= TOLERANCE
    # Parity that cannot fail proves nothing: another network's file must be refused.
    with pytest.raises(ValueError, match="differs from PyTorch"):
        parity(network(1), tmp_path / "model.onnx", windows(1))
    quantize(tmp_path / "model.onnx", tmp_path / "model.int8.onnx", windows(16))
    sessions = [onnxruntime.InferenceSession(tmp_path / f) for f in ("model.onnx", "model.int8.onnx")]
    a, b = (s.run(["generated", "continuous"], {"windows": windows(4, 50)}) for s in sessions)
    for x, y in zip(a, b, strict=True):
        assert 0 < np.abs(x - y).max() < 0.25 * max(1.0, np.abs(x).max())
    # All but the waves of the spectra, which read the picture.
    assert made.spectrum is not None
    assert made.lines is not None
    waves = 4 * (made.spectrum.waves.numel() + made.lines.waves.numel())
    sizes = [(tmp_path / f).stat().st_size - waves for f in ("model.onnx", "model.int8.onnx")]
    assert sizes[1] < sizes[0] / 2.5
    # What reads the picture is not quantised, and heads are stored in half but computed in whole.
    graph = onnx.load(tmp_path / "model.int8.onnx").graph
    given = {node.output[0]: node for node in graph.node}
    kinds = {
        node.input[1]: (given[node.input[1]].op_type if node.input[1] in given else "", given[node.input[0]].op_type)
        for node in graph.node
        if node.op_type == "Conv"
    }
    assert kinds["network.fen.stem.0.weight"] == ("", "Transpose")
    for part in ("spectrum", "lines"):
        assert kinds[f"network.{part}.colours"] == ("", "Transpose")
        assert kinds[f"network.{part}.waves"] == ("", "Reshape")
    heads = {node.input[1]: given[node.input[1]].op_type for node in graph.node if node.op_type == "Gemm"}
    # What reads the same is one layer: two hidden ones, and a head for each question.
    assert sum(name.endswith("_merged_kernel") for name in heads) == 2
    assert set(heads) > {"network.by_lines.weight_kernel", "network.embedding.weight_kernel"}
    assert list(heads.values()) == ["Cast"] * 4
    splits = [node for node in graph.node if node.op_type == "Split"]
    assert sorted(len(node.output) for node in splits) == [2, len(made.heads)]
    assert sum(weight == "DequantizeLinear" for weight, _ in kinds.values()) == 11
    # A ReLU and the convolution before it are one: only of the last, whose output nothing else quantises, is there a pair between them.
    before = [given[node.input[0]].op_type for node in graph.node if node.op_type == "Relu" and node.input[0] in given]
    assert before.count("DequantizeLinear") == 1
    assert before.count("Conv") > 5


def test_training_begins_where_a_bundle_ends(tmp_path: Path) -> None:
    made = network()
    export(made, output_names(made), tmp_path / "model.onnx")
    begun = Network(made.config)
    load_weights(begun, (tmp_path / "model.onnx").read_bytes(), windows(8, 20))
    given = torch.from_numpy(windows(6))
    with torch.no_grad():
        a, b = made(given), begun(given)
        begun.train()
        c = begun(torch.from_numpy(windows(8, 20)))["embedding"]
        d = made(torch.from_numpy(windows(8, 20)))["embedding"]
    for name in a:
        assert torch.allclose(a[name], b[name], atol=1e-4), name
    # Statistics are those of what the norms see: on the same windows training computes what evaluation did, but for dropout.
    assert torch.allclose(c, d, atol=1e-3)
    assert begun.fen.stem[1].running_var.std() > 0

    with pytest.raises(ValueError, match="set the widths"):
        load_weights(Network(replace(made.config, fen_width=16)), (tmp_path / "model.onnx").read_bytes(), windows(2))


@pytest.mark.parametrize("shape", [(6, 40), (40, 6)])
def test_muon_moves_every_direction_equally_far(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    # Of one direction there is much more than of the others.
    steep = torch.randn(shape) + 20 * torch.outer(torch.randn(shape[0]), torch.randn(shape[1]))
    moved = orthogonalize(steep)
    roughly = torch.linalg.svdvals(orthogonalize(steep, torch.bfloat16))
    assert roughly.min() > 0.3
    assert roughly.max() < 1.3
    assert torch.linalg.svdvals(moved).min() > 0.3
    assert torch.linalg.svdvals(moved).max() < 1.3
    assert (moved * steep).sum() > 0

    kernel = torch.nn.Parameter(torch.randn(*shape, 1, 1))
    before = kernel.detach().clone()
    kernel.grad = steep[:, :, None, None]
    Muon([kernel], lr=0.1, weight_decay=0.0).step()
    scale = max(1, shape[0] / shape[1]) ** 0.5
    assert torch.allclose((before - kernel.detach()).flatten(1), 0.1 * scale * moved, atol=1e-3)


def test_answers_are_left_to_adam() -> None:
    made = network()
    muon, adam = build_optimizers(made, 1e-3)
    names = {id(value): name for name, value in made.named_parameters()}
    hidden = {names[id(value)] for group in muon.param_groups for value in group["params"]}
    others = {names[id(value)] for group in adam.param_groups for value in group["params"]}
    assert {"fen.stem.0.weight", "hidden.0.weight"} <= hidden
    assert {
        "embedding.weight",
        "heads.generated.weight",
        "hidden.0.bias",
        "fen.stem.1.weight",
    } <= others
    assert {*names.values()} - hidden - others == {"by_lines.weight", "by_lines.bias"}
    (alone,) = build_optimizers(made, 1e-3, muon=False)
    assert sum(len(group["params"]) for group in alone.param_groups) == len(names) - 2


def labels_of_a_vae() -> Labels:
    return Labels("vae", {"layers": 10.0}, {"normalization": "batch"}, ("L1",))


def test_objectives_mask_what_is_unknown() -> None:
    sources = [Generator("c", None, False, "train"), Generator("g", labels_of_a_vae(), True, "train")]
    sources.append(Generator("u", Labels(None, {}, {}, None), False, "train"))
    targets = Targets.from_sources(sources, torch.device("cpu"))
    made = network()
    outputs = made(torch.from_numpy(windows(6)))
    terms = training_losses(outputs, torch.tensor([0, 0, 1, 1, 2, 2]), targets, Weights(), Proxies(sources, 16))
    assert all(bool(torch.isfinite(term)) for term in terms.values())
    sum(terms.values()).backward()  # type: ignore[union-attr]
    # Only "layers" is known of the one generator: no other continuous output may learn anything.
    gradient = made.heads["continuous"].weight.grad
    assert gradient is not None
    known = list(CONTINUOUS).index("layers")
    assert gradient[known].abs().sum() > 0
    assert gradient.abs().sum() == gradient[known].abs().sum()


def test_lines_have_a_say_in_what_is_generated() -> None:
    made = network()
    given = torch.from_numpy(windows(2))
    assert made.by_lines is not None
    with torch.no_grad():
        before = made(given)["generated"]
        made.by_lines.bias += 1
        assert torch.allclose(made(given)["generated"], before + 1, atol=1e-4)
    # While the rest learns, it is right or wrong by itself.
    made.train()
    made(given)["generated"].sum().backward()
    assert made.by_lines.bias.grad is None


def test_lines_are_fitted_to_public_generators_and_whole_photos() -> None:
    """The zoo's pictures say the opposite, and are not asked."""

    def picture(seed: int, grid: bool) -> np.ndarray:
        columns = (np.arange(128) % 2 == 0)[None, :, None] * grid
        return noise(128, 128, seed) // 64 + 100 + columns.astype(np.uint8)

    sources = [Generator("camera", None, False, "train"), Generator("public", labels_of_a_vae(), False, "train")]
    sources += [Generator("crops", None, True, "train"), Generator("zoo", labels_of_a_vae(), True, "train")]
    samples = [
        # As many ways as training has, of which those with heavy edits are few.
        Sample(pixels, source, "train", variants=[pixels] * 10, chains=list(range(10)))
        for source, grid in enumerate((False, True, True, False))
        for pixels in (picture(100 * source + i, grid) for i in range(48))
    ]
    found = fit_lines(Collection(sources, samples), 0)
    made = network()
    made.load_state_dict(found, strict=False)
    assert made.lines is not None
    assert made.by_lines is not None
    unseen = np.stack([picture(1000 + i, grid) for grid in (False, True) for i in range(6)])
    with torch.no_grad():
        said = made.by_lines(made.lines(to_unit_range(torch.from_numpy(unseen))))[:, 0]
    assert said[:6].max() < said[6:].min()
    assert fit_lines(Collection(sources, samples[:48]), 0) == {}


def test_lines_do_not_take_what_has_no_colour_for_a_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture that is learnt from comes without colour, and generators leave their lines in colours."""

    def picture(seed: int, grid: bool) -> np.ndarray:
        columns = np.zeros((1, 128, 3), np.uint8)
        columns[:, ::2, 2] = 2 * grid
        return noise(128, 128, seed) // 64 + 100 + columns

    sources = [Generator("camera", None, False, "train"), Generator("public", labels_of_a_vae(), False, "train")]
    samples = [
        Sample(pixels, source, "train", variants=[pixels], chains=[0])
        for source in range(2)
        for pixels in (picture(100 * source + i, bool(source)) for i in range(24))
    ]
    made = network()
    assert made.lines is not None
    assert made.by_lines is not None
    said = {}
    for strong in (0, 4):
        monkeypatch.setattr(heads_lines, "STRONG_VARIANTS", strong)
        made.load_state_dict(fit_lines(Collection(sources, samples), 0), strict=False)
        unseen = np.stack([augment.grey(picture(1000 + i, True)) for i in range(12)])
        with torch.no_grad():
            said[strong] = float(made.by_lines(made.lines(to_unit_range(torch.from_numpy(unseen)))).mean())
    assert said[0] < -2
    assert said[4] > said[0] / 2


def test_a_budget_of_nothing_is_used_up() -> None:
    assert Settings(minutes=0).progress(0, 0) == 1
    assert Settings(minutes=2).progress(60, 0) == 0.5
    assert Settings(minutes=0, megapixels=4).progress(60, 1_000_000) == 0.25


def test_a_bundle_whose_embedding_shared_a_hidden_layer_goes_on_with_it(tmp_path: Path) -> None:
    before = Network(replace(network().config, compared=0)).eval()
    export(before, output_names(before), tmp_path / "model.onnx")
    begun = Network(replace(before.config, compared=before.config.hidden))
    load_weights(begun, (tmp_path / "model.onnx").read_bytes(), windows(8, 20))
    given = torch.from_numpy(windows(6))
    with torch.no_grad():
        a, b = before(given), begun.eval()(given)
    for name in a:
        assert torch.allclose(a[name], b[name], atol=1e-4), name


def test_an_embedding_that_is_learnt_anew_may_be_wider(tmp_path: Path) -> None:
    before = network()
    export(before, output_names(before), tmp_path / "model.onnx")
    model, given = (tmp_path / "model.onnx").read_bytes(), torch.from_numpy(windows(6))
    from_file, from_values = (Network(replace(before.config, compared=96, embedding=24)) for _ in range(2))
    with pytest.raises(ValueError, match=r"refit the embedding \(--head-epochs\)"):
        load_weights(from_file, model, windows(8, 20))
    load_weights(from_file, model, windows(8, 20), new_embedding=True)
    from_values.load_state_dict(matching_weights(from_values, before.state_dict()))
    for begun in (from_file, from_values):
        with torch.no_grad():
            a, b = before(given), begun.eval()(given)
        assert b["embedding"].shape == (6, 24)
        for name in a.keys() - {"embedding"}:
            assert torch.allclose(a[name], b[name], atol=1e-4), name
    # Other layers may not.
    with pytest.raises(ValueError, match=r"hidden\.0"):
        load_weights(Network(replace(before.config, hidden=48)), model, windows(8, 20), new_embedding=True)


@pytest.fixture
def striped() -> Collection:
    """Generators of the zoo whose stripes differ in width: three to train on, and two for validation that draw as two of these do."""
    widths = (2, 3, 6, 2, 6)
    sources = [Generator(f"g{i}", labels_of_a_vae(), True, "train" if i < 3 else "val") for i in range(5)]
    samples = []
    for i, width in enumerate(widths):
        stripes = (np.arange(160) % width == 0)[None, :, None] * 40
        for k in range(8):
            pixels = (noise(160, 160, 10 * i + k) // 8 + 60 + stripes).astype(np.uint8)
            samples.append(Sample(pixels, i, sources[i].split))
    return Collection(sources, samples)


@pytest.mark.slow
def test_embedding_is_learnt_by_itself(striped: Collection, capsys: pytest.CaptureFixture[str]) -> None:
    validation = Validation.from_collection(striped, 0)
    made = network()
    seen = extract_features(made, striped.select(split="train"), 6, 0)
    # Two more looks after heavy edits, and two windows each time.
    assert seen.features.shape == (8 * 24 * 2, feature_count(made.config))
    assert np.array_equal(np.bincount(seen.source), [128, 128, 128])
    heavy = np.flatnonzero(seen.unedited != np.arange(len(seen.unedited)))
    assert np.array_equal(heavy, np.arange(6 * 24 * 2, 8 * 24 * 2))
    assert np.array_equal(seen.source[seen.unedited], seen.source)
    # As the layers see them in the network, but for what float16 and bfloat16 round.
    before = {name: value.clone() for name, value in made.state_dict().items()}
    found = fitted_embedding(made, striped.sources, seen, validation, 0)
    assert {name.split(".")[0] for name in found} == {"compared", "embedding"}
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())
    untrained = validation.scores(made, torch.device("cpu"))["same_generator"]
    made.load_state_dict(before | found)
    learnt = validation.scores(made, torch.device("cpu"))["same_generator"]
    assert learnt > max(untrained, 0.8)
    # What chose the values saw the same: the mean and deviation of what was read are inside them.
    said = [float(line.rsplit(" ", 1)[1]) for line in capsys.readouterr().err.splitlines() if "validation" in line]
    assert learnt == pytest.approx(max(said), abs=0.02)


@pytest.mark.slow
def test_what_is_seen_is_kept(striped: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, samples = network(), striped.select(split="train")
    seen = extract_features(made, samples, 2, 0, kept=tmp_path)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 3 * 2
    for file in files:
        if file.stem.endswith("-001"):
            file.unlink()
    looked = []

    def counted(compute: object, windows: np.ndarray, place: torch.device) -> torch.Tensor:
        looked.append(len(windows))
        return compute_features(compute, windows, place)

    monkeypatch.setattr("training.fit.features.compute_features", counted)
    again = extract_features(made, samples, 3, 0, kept=tmp_path)
    # The first pass comes from its file, the others and one after heavy edits are looked at, and the same is seen in the second.
    assert sum(looked) == 3 * 24 * 2
    assert np.array_equal(again.unedited[3 * 24 * 2 :], np.arange(24 * 2))
    assert torch.equal(again.features[: len(seen.features)], seen.features)
    assert np.array_equal(again.source[: len(seen.source)], seen.source)
    # Of other pictures, by other weights, or with another seed other things are seen; the other two sources' pictures stay the same ones.
    saved = [replace(samples[0], jpeg=augment.Jpeg(75, 2)), *samples[1:]]
    for network_, samples_, seed, new in (
        (network(5), samples, 0, 24),
        (made, samples[1:], 0, 7),
        (made, saved, 0, 8),
        (made, samples, 1, 24),
    ):
        looked.clear()
        extract_features(network_, samples_, 1, seed, kept=tmp_path)
        assert sum(looked) == 2 * new


def test_no_two_sources_go_through_the_same_chains() -> None:
    """Of one picture, given as that of two sources and looked at twice, other windows are seen each time."""
    pixels = noise(256, 256, 3).astype(np.uint8)
    samples = [
        Sample(pixels if source == 0 or k else pixels[::-1], source, "train") for source in (0, 1) for k in (0, 1)
    ]
    seen = extract_features(network(), samples, 2, 0).features
    assert len(np.unique(seen.numpy(), axis=0)) == 2 * 2 * 4


def test_embedding_learns_from_fewer_edited_windows() -> None:
    plain = np.concatenate([np.arange(600), np.arange(300)])
    seen = WindowFeatures(torch.zeros((900, 1)), np.tile(np.arange(3), 300), plain)
    found = rows_by_source(seen, np.random.default_rng(0))
    assert all(np.all(seen.source[rows] == source) for source, rows in found.items())
    kept = np.concatenate(list(found.values()))
    assert np.array_equal(np.sort(kept[kept < 600]), np.arange(600))
    assert 120 < np.sum(kept >= 600) < 180


def test_embedding_stays_where_nobody_looks(striped: Collection) -> None:
    validation = Validation.from_collection(striped, 0)
    shared = Network(replace(network().config, compared=0)).eval()
    seen = extract_features(shared, striped.select(split="train"), 1, 0)
    assert fitted_embedding(shared, striped.sources, seen, validation, 0) == {}
    first = seen.source == 0
    alone = WindowFeatures(seen.features[first], seen.source[first], np.arange(first.sum()))
    assert fitted_embedding(network(), striped.sources, alone, validation, 0) == {}


@pytest.mark.slow
def test_answers_are_learnt_by_themselves(striped: Collection) -> None:
    made = network()
    sources = [*striped.sources, Generator("set", None, False, "train")]
    seen = extract_features(made, striped.select(split="train"), 2, 0)
    photos = [Sample(noise(160, 160, 50 + i), len(striped.sources), "train") for i in range(8)]
    of_photos = extract_features(made, photos, 2, 0)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    found = heads_outputs.fit_outputs(made, sources, seen, of_photos, 0)
    assert {name.split(".")[0] for name in found} == {"hidden", "heads"}
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())

    def logits(of: WindowFeatures) -> torch.Tensor:
        return made.heads["generated"](made.hidden(of.features.float()))[:, 0]

    apart = logits(seen).mean() - logits(of_photos).mean()
    made.load_state_dict(before | found)
    with torch.no_grad():
        assert logits(seen).min() > logits(of_photos).max()
        assert logits(seen).mean() - logits(of_photos).mean() > apart + 0.5
    assert heads_outputs.fit_outputs(made, sources, seen, extract_features(made, [], 2, 0), 0) == {}


@pytest.mark.slow
def test_after_heavy_edits_the_answer_is_learnt_that_was_given_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heavy edits that move all features are no reason for another answer."""
    made, rng = network(), torch.Generator().manual_seed(0)
    sources = [Generator("set", None, False, "train"), Generator("zoo", labels_of_a_vae(), True, "train")]

    def seen(source: int) -> WindowFeatures:
        plain = torch.randn((64, feature_count(made.config)), generator=rng)
        features = torch.cat([plain, plain])
        features[64:, :40] += 50
        return WindowFeatures(features.half(), np.full(128, source), np.tile(np.arange(64), 2))

    def said(of: WindowFeatures) -> np.ndarray:
        with torch.no_grad():
            chance: np.ndarray = made.heads["generated"](made.hidden(of.features.float()))[:, 0].sigmoid().numpy()
        return chance

    photos, pictures = seen(0), seen(1)
    before = said(photos)
    assert abs(before[64:].mean() - before[:64].mean()) > 0.2
    monkeypatch.setattr(heads_outputs, "LABEL_WEIGHT", 0.0)
    made.load_state_dict(made.state_dict() | heads_outputs.fit_outputs(made, sources, pictures, photos, 0))
    assert said(photos)[64:].mean() == pytest.approx(before[:64].mean(), abs=0.05)


@pytest.mark.slow
def test_teachers_say_what_is_generated(striped: Collection, tmp_path: Path) -> None:
    """Of a teacher that takes all for generated a network learns that, whatever the labels say. Its lines are left out."""
    teacher = network(5)
    with torch.no_grad():
        teacher.heads["generated"].weight.zero_()
        teacher.heads["generated"].bias.fill_(4.0)
        teacher.by_lines.weight.fill_(-100.0)
    torch.save({"config": teacher.config.to_json(), "network": teacher.state_dict()}, tmp_path / "teacher.pt")
    collection = Collection([*striped.sources, Generator("set", None, False, "train")], list(striped.samples))
    collection.samples += [Sample(noise(160, 160, 50 + i), len(striped.sources), "train") for i in range(4)]
    add_variants(collection.select(split="train"), 2, 1)
    how = Settings(megapixels=3.0, generators=2, pictures=2, sizes=((1.0, 64),), online_augment=True)
    said = {}
    for name, teacher in (("labels", ()), ("taught", (str(tmp_path / "teacher.pt"),))):
        torch.manual_seed(1)
        (tmp_path / name).mkdir()
        learnt = Network(NetworkConfig(trunk=(32, 48, 64), hidden=64, embedding=16))
        train(
            learnt,
            collection,
            Validation({}, np.empty(0, np.int64)),
            replace(how, teacher=teacher),
            tmp_path / name,
        )
        stored = torch.load(tmp_path / name / "network.pt", weights_only=True)
        assert stored["online_augment"]
        assert stored["teacher"] == [tmp_path.name] * len(teacher)
        learnt.by_lines.weight.data.zero_()
        with torch.no_grad():
            said[name] = learnt.eval()(torch.from_numpy(windows(8, 50)))["generated"]
    assert said["taught"].min() > 1.5
    assert said["labels"].mean() < said["taught"].mean() - 1


@pytest.mark.parametrize("hard_labels_for_zoo", [True, False])
def test_the_zoo_may_be_learnt_from_labels_beside_teachers(hard_labels_for_zoo: bool) -> None:
    """A teacher that takes everything for a photo says so of photos and public generators, and of the zoo where nobody else does."""
    teacher = network(5).requires_grad_(False)
    teacher.by_lines = None
    teacher.heads["generated"].weight.zero_()
    teacher.heads["generated"].bias.fill_(-4.0)
    sources = [Generator("set", None, False, "train"), Generator("crops", None, True, "train")]
    sources += [
        Generator("public", labels_of_a_vae(), False, "train"),
        Generator("g0", labels_of_a_vae(), True, "train"),
    ]
    trainer = Trainer(
        network(), sources, lr=1e-3, weights=Weights(), teachers=[teacher], hard_labels_for_zoo=hard_labels_for_zoo
    )
    taught = trainer._soft_labels(torch.from_numpy(windows(4)), torch.arange(4))
    assert taught is not None
    said = 1 / (1 + np.exp(4))
    assert taught.tolist() == pytest.approx([said, said, said, 1.0 if hard_labels_for_zoo else said], abs=1e-3)


def test_proxies_stand_for_generators_that_a_batch_has_not() -> None:
    torch.manual_seed(0)
    sources = [Generator("camera", None, False, "train"), Generator("unseen", labels_of_a_vae(), True, "val")]
    sources += [Generator(f"g{i}", labels_of_a_vae(), True, "train") for i in range(3)]
    proxies = Proxies(sources, 4)
    # None for photos, and none for what is not trained on.
    assert proxies.directions.shape == (3, 4)
    chosen = torch.tensor([3])
    at = torch.nn.functional.normalize(proxies.directions, dim=1)
    assert proxies(at[1:2], chosen) < proxies(at[0:1], chosen)
    # What is not in the batch is pushed away from what is.
    proxies(at[0:1].detach(), chosen).backward()
    gradient = proxies.directions.grad
    assert gradient is not None
    assert (gradient.norm(dim=1) > 0).all()


def test_what_is_frequent_is_given_and_not_learnt() -> None:
    """Three of four training generators normalise by batch: an output that says nothing is right about them as often as the prior is."""
    kinds = ["batch", "batch", "batch", "group"]
    sources = [Generator(k, Labels("vae", {}, {"normalization": k}, None), True, "train") for k in kinds]
    targets = Targets.from_sources(sources, torch.device("cpu"))
    place = list(DISCRETE).index("normalization")
    prior = targets.prior[place].exp()
    values = list(DISCRETE["normalization"])
    assert prior[values.index("batch")] == pytest.approx(4 / (4 + len(values)))
    assert prior[values.index("group")] == pytest.approx(2 / (4 + len(values)))
    assert float(prior.sum()) == pytest.approx(1)
    made = network()
    for head in made.heads.values():
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    outputs = made(torch.from_numpy(windows(4)))
    terms = training_losses(outputs, torch.arange(4), targets, Weights(), Proxies(sources, 16))
    terms["discrete"].backward()
    gradient = made.heads["normalization"].bias.grad
    assert gradient is not None
    # Of what the prior says nothing is left to learn but for its one more of each, and label smoothing.
    assert gradient.abs().max() < 0.05


def test_fingerprint_constraints_prefer_what_the_method_wants() -> None:
    def cost(fingerprint: torch.Tensor, **weights: float) -> float:
        nothing = dict.fromkeys(("magnitude", "low_frequency", "repetitive", "symmetric"), 0.0)
        return float(fingerprint_constraints(fingerprint, Weights(**(nothing | weights))))

    torch.manual_seed(0)
    random = torch.randn(1, 3, 128, 128)
    grid = torch.ones(1, 3, 128, 128)
    grid[..., ::2, :] *= -1
    assert cost(random * 2, magnitude=1) > cost(random, magnitude=1)
    assert cost(torch.ones(1, 3, 128, 128), low_frequency=1) > 100 * cost(grid, low_frequency=1) + 1
    assert cost(grid, repetitive=1) < cost(random, repetitive=1)
    assert cost(random + random.transpose(2, 3), symmetric=1) < cost(random, symmetric=1)


def test_contrastive_loss_prefers_clusters() -> None:
    source = torch.tensor([0, 0, 1, 1])
    together = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert supervised_contrastive_loss(together, source) < supervised_contrastive_loss(together[[0, 2, 1, 3]], source)


def test_chains_repeat_and_twins_share_them() -> None:
    pixels = noise(224, 224)
    a, b = (augment.random_chain(pixels, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(a, b)
    for name, condition in augment.CONDITIONS.items():
        out = condition(pixels)
        assert out.dtype == np.uint8, name
        assert out.shape[0] in (224, 168, 112), name
    samples = [Sample(pixels, 0, "train", "set/a.png"), Sample(pixels, 1, "train", "set/a.png")]
    add_variants(samples, 10, 1)
    first, second = (sorted(v.tobytes() for v in sample.variants) for sample in samples)
    assert first == second


def test_heavy_chains_repeat_and_keep_about_the_size() -> None:
    pixels = noise(150, 170)
    seen = set()
    for seed in range(40):
        a, b = (augment.strong_chain(pixels, np.random.default_rng(seed)) for _ in range(2))
        assert a.dtype == np.uint8
        assert np.array_equal(a, b)
        # What is kept of variants has room for no more (`training.data.sampler.grown`).
        assert all(
            0.9 * side < now <= augment.SCALES[1] * side for now, side in zip(a.shape, pixels.shape, strict=False)
        )
        seen.add(a.tobytes())
    assert len(seen) == 40


@pytest.mark.parametrize("edit", augment.EDITS)
def test_every_edit_of_a_heavy_chain_changes_a_picture(edit: augment.Change) -> None:
    pixels = noise(96, 120)
    edited = edit(pixels, np.random.default_rng(1))
    assert edited.dtype == np.uint8
    assert not np.array_equal(edited, pixels)


def test_crops_extend_small_pictures() -> None:
    rng = np.random.default_rng(0)
    assert crop(noise(60, 300), rng).shape == (128, 128, 3)
    assert crop(noise(200, 300), rng, 96).shape == (96, 96, 3)


def test_what_is_missed_is_drawn_more_often() -> None:
    sources = [
        Generator("camera", None, False, "train"),
        *(Generator(n, labels_of_a_vae(), True, "train") for n in "abc"),
    ]
    samples = [Sample(noise(64, 64, i), i, "train", variants=[noise(64, 64, i)], chains=[0]) for i in range(4)]
    batches = Batches(Collection(sources, samples), 0, generators=1, pictures=1, hard_example_weight=4.0)
    batches.size = 32
    assert np.allclose(batches.zoo_probabilities(), 1 / 3)
    for _ in range(200):
        batches.update_losses(np.array([1, 1, 2, 3]), np.array([0.0, 0.0, np.log(2), 5.0]))
    shares = batches.zoo_probabilities()
    assert np.allclose(shares, np.array([1, 5, 5]) / 11)
    drawn = np.array([batches()[1][0] for _ in range(400)])
    assert 0.04 < np.mean(drawn == 1) < 0.15
    plain = Batches(Collection(sources, samples), 0, generators=1, pictures=1)
    plain.update_losses(np.array([1]), np.array([0.0]))
    assert np.allclose(plain.zoo_probabilities(), 1 / 3)


def test_zoo_splits_are_disjoint_and_balanced() -> None:
    splits = zoo_splits(
        {f"{family}-{i:03d}": Labels(family, {"layers": i}, {}, ()) for family in ("vae", "gan") for i in range(12)}
    )
    for family in ("vae", "gan"):
        mine = [split for name, split in splits.items() if name.startswith(family)]
        assert (mine.count("train"), mine.count("val"), mine.count("test")) == (8, 2, 2)
    assert splits == {name: split_of_name(name) for name in splits}


@pytest.mark.parametrize("variants", [0, 2])
def test_spectral_lines_have_what_they_learn_from(variants: int) -> None:
    collection = synthetic_collection()
    add_training_variants(collection, variants, 0)
    trained = collection.select(split="train", source_split="train")
    public = [sample for sample in trained if not collection.sources[sample.source].zoo]
    assert all(len(sample.variants) == CHAINS for sample in public)
    made = collection.select(split="train", zoo=True, camera=False, source_split="train")
    assert {len(sample.variants) for sample in made} == {variants}
    assert all(not sample.variants for sample in collection.samples if sample.split != "train")


def test_a_zoo_that_grows_is_tested_on_the_same_generators() -> None:
    def labels(number: int) -> Labels:
        return Labels("vae", {"layers": number}, {}, ())

    before = zoo_splits({f"vae-{i:03d}": labels(i) for i in range(50)})
    # Number 2 is for test, and the last has its labels.
    after = zoo_splits({f"vae-{i:03d}": labels(i) for i in range(74)} | {"vae-074": labels(2)})
    assert {name: after[name] for name in before} == before
    assert {split for name, split in after.items() if name not in before and name != "vae-074"} == {"train"}
    assert after["vae-074"] == after["vae-002"] == "test"


def test_scaling_of_labels() -> None:
    vector = labels_of_a_vae().continuous_vector()
    assert np.isnan(vector).sum() == 8
    assert CONTINUOUS["parameters"].scale(1e8) == pytest.approx(1)
    assert labels_of_a_vae().loss_vector().tolist() == [float(name == "L1") for name in LOSSES]


def test_metrics_against_known_values() -> None:
    low, high = np.array([0.1, 0.2, 0.3]), np.array([0.8, 0.9])
    assert metrics.auc(low, high) == 1
    assert metrics.auc(high, low) == 0
    assert metrics.average_precision(low, high) == 1
    assert metrics.expected_calibration_error(np.array([0.05] * 10), np.zeros(10)) == pytest.approx(0.05)
    assert metrics.expected_calibration_error(np.array([0.95] * 10), np.zeros(10)) == pytest.approx(0.95)
    assert metrics.oscr(np.array([0.9, 0.8]), np.array([True, True]), np.array([0.1, 0.2])) == pytest.approx(1)
    assert metrics.oscr(np.array([0.9, 0.8]), np.array([False, False]), np.array([0.1])) == 0
    # Half of the known ones are right, and one of two strangers scores as high as one of these: ties count as accepted.
    half = np.array([True, False])
    assert metrics.oscr(np.array([0.9, 0.5]), half, np.array([0.9, 0.1])) == pytest.approx(0.375)
    assert metrics.macro_f1(np.array([0, 1]), np.array([0, 0])) == pytest.approx((2 / 3) / 2)
    assert metrics.coverage(np.array([0.0, 1.0]), np.array([0.1, 0.5]), 0.2) == 0.5
    groups = np.repeat(np.arange(5), 10)
    low_end, high_end = metrics.interval_over_groups(lambda rows: float(groups[rows].mean()), groups)
    assert low_end < 2 < high_end
