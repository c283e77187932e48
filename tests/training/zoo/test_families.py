"""What each family's mathematics promises: flows invert, priors look back only, attacks stay within their radius."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.training.zoo.test_zoo import CONFIG, photos
from training.zoo import losses, translation
from training.zoo.attack import Attack
from training.zoo.autoregressive import MaskedConv2d, Quantizer
from training.zoo.base import PatchEncoder, denoise, noised
from training.zoo.build import initialise, to_range
from training.zoo.flow import DETAILS, Flow
from training.zoo.gan import TextureGAN
from training.zoo.inspection import latent_size
from training.zoo.subpixels import SubPixelModel, cross_entropy, split


def pictures(count: int = 2) -> Tensor:
    return to_range(torch.from_numpy(photos(count).pixels), -1.0)


def test_a_flow_inverts() -> None:
    torch.manual_seed(0)
    flow = Flow(replace(CONFIG, family="flow", normalization="none")).eval()
    photo = pictures()
    with torch.no_grad():
        details, means = flow.split(photo)
        code = details * (-flow.scale).exp()
        for coupling in reversed(flow.couplings):
            code, _ = coupling.encode(code, means)
        again = flow(torch.cat([code, means], dim=1))
    assert code.shape[1] == DETAILS
    assert float((again - photo).abs().max()) < 1e-3
    assert float((means - nn.functional.avg_pool2d(photo, 2)).abs().max()) < 1e-5


def test_a_flows_likelihood_counts_the_volume() -> None:
    """With couplings that change nothing, the density is a normal's of deviation exp(scale)."""
    torch.manual_seed(0)
    flow = Flow(replace(CONFIG, family="flow", normalization="none")).eval()
    for coupling in flow.couplings:
        nn.init.zeros_(coupling.network[-1].weight)
        nn.init.zeros_(coupling.network[-1].bias)
    photo = pictures()
    details, _ = flow.split(photo)
    expected = -torch.distributions.Normal(0.0, float(flow.scale.exp().mean())).log_prob(details).mean()
    constant = 0.5 * torch.log(torch.tensor(2 * torch.pi))
    assert float(flow.negative_log_likelihood(photo)) == pytest.approx(float(expected - constant), rel=1e-2)


def test_a_perfect_denoiser_brings_the_picture_back() -> None:
    torch.manual_seed(0)
    photo, noise = pictures(), torch.randn(2, 3, 64, 64)

    class Oracle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return noise

    begun = noised(photo, torch.full((2,), 0.3), noise)
    assert float((denoise(Oracle(), begun, [0.3, 0.2, 0.0]) - photo).abs().max()) < 1e-4


def test_masked_convolutions_look_back_only() -> None:
    torch.manual_seed(0)
    first, then = MaskedConv2d(4, 4, own=False), MaskedConv2d(4, 4, own=True)
    x = torch.randn(1, 4, 9, 9, requires_grad=True)
    then(first(x))[0, :, 4, 4].sum().backward()
    assert x.grad is not None
    seen = x.grad.abs().sum((0, 1)).flatten()
    assert float(seen[4 * 9 + 4 :].sum()) == 0
    assert float(seen[: 4 * 9 + 4].sum()) > 0


def test_tokens_stand_for_the_nearest_code() -> None:
    torch.manual_seed(0)
    code = torch.randn(2, 8, 16, 16)
    quantizer = Quantizer(8)
    quantizer.fit(code)
    tokens = quantizer.tokens(code)
    assert tokens.shape == (2, 4, 16, 16)
    error = (quantizer(tokens) - code).square().mean()
    assert float(error) < 0.1
    assert float((quantizer(tokens.roll(1, 2)) - code).square().mean()) > 5 * float(error)


def test_the_encoder_keeps_principal_components_at_unit_variance() -> None:
    encoder = PatchEncoder(2, 16)
    photo = pictures(6)
    encoder.fit(photo)
    code = encoder(photo).detach().transpose(0, 1).flatten(1)
    covariance = torch.cov(code)
    assert float((covariance.diagonal() - 1).abs().max()) < 0.05
    assert float((covariance - covariance.diagonal().diag()).abs().max()) < 0.05
    assert PatchEncoder(1, 32).latent == 12


@pytest.mark.parametrize("task", ["FGSM", "PGD"])
@pytest.mark.parametrize("last", ["none", "sigmoid"])
def test_an_attack_raises_the_error_within_its_radius(task: str, last: str) -> None:
    torch.manual_seed(0)
    attack = Attack(replace(CONFIG, family="attack", task=task, down_sampling="strided", last_nonlinearity=last))
    initialise(attack)
    photo = to_range(torch.from_numpy(photos(2).pixels), attack.low)
    made = attack.eval().pictures(photo)
    turns = torch.zeros(2, dtype=torch.int64)
    assert float((made - photo).abs().max()) <= attack.radius * 1.001
    assert attack._error(made, turns) > attack._error(photo, turns)
    assert float(made.min()) >= attack.low
    assert 4 <= attack.radius * 255 / (1 - attack.low) <= 10


def test_a_style_changes_every_place() -> None:
    torch.manual_seed(0)
    gan = TextureGAN(replace(CONFIG, family="gan", task="style", levels=2))
    initialise(gan)
    noise = gan.given(pictures())[0]
    assert gan.generator(noise).shape == (2, 3, 64, 64)
    assert noise.shape == (2, CONFIG.latent, 16, 16)


def test_patch_statistics_tell_sets_apart() -> None:
    torch.manual_seed(0)
    a = torch.rand(4, 3, 64, 64)
    smooth = nn.functional.avg_pool2d(torch.rand(4, 3, 64, 64), 5, 1, 2)
    assert losses.patch_mmd(a, torch.rand(4, 3, 64, 64)) < losses.patch_mmd(a, smooth) / 3


def test_sub_pixels_come_back_in_their_places() -> None:
    photo = pictures()
    shuffle = nn.PixelShuffle(2)
    assert torch.equal(shuffle(torch.stack(split(photo), dim=2).flatten(1, 2)), photo)


def test_a_discretised_logistic_sums_to_one() -> None:
    levels = torch.arange(256) / 127.5 - 1
    for mean in (-1.2, 0.3):
        chances = [
            torch.exp(-cross_entropy(torch.tensor([mean]), torch.tensor([-3.0]), level[None])) for level in levels
        ]
        # Each is held above a millionth, so that its logarithm stays finite.
        assert float(torch.stack(chances).sum()) == pytest.approx(1, abs=1e-3)


def test_sub_pixels_look_back_only() -> None:
    """A pixel is drawn from those before it, and the first ones are the photo's."""
    torch.manual_seed(0)
    model = SubPixelModel(replace(CONFIG, family="autoregressive", task="sub_pixels", normalization="none"))
    pixels = split(pictures())
    mean, log_scale = model.generator.distribution(pixels[:2])
    changed, _ = model.generator.distribution([pixels[0], pixels[1].flip(0)])
    assert mean.shape == log_scale.shape == pixels[2].shape
    assert not torch.equal(mean, changed)
    made = model.pictures(pictures())
    assert torch.equal(split(made)[0], pixels[0])


def test_a_cycle_never_sees_a_faded_picture_beside_its_photo() -> None:
    torch.manual_seed(0)
    config = replace(CONFIG, family="translation", task="cycle", adversary="hinge")
    model = translation.build(config)
    photo = pictures(4)
    seen: list[Tensor] = []
    model.generator.register_forward_hook(lambda _module, given, _made: seen.append(given[0]))
    picture, terms = model.terms(photo)
    faded, _ = model.given(photo)
    assert picture is not None
    assert [name for name, _ in terms] == ["L1"]
    assert torch.equal(seen[0], faded.roll(1, 0))
    assert float((faded - photo).abs().mean()) > 0.01


def test_a_latent_is_coarser_than_the_picture() -> None:
    assert latent_size(torch.zeros(1, 16, 16, 16), 64) == 16
    assert latent_size(torch.zeros(1, 4, 64, 64), 64) == 0
