"""Published architectures and losses of the public generators. Values that are unknown or counted differently are left out."""

from __future__ import annotations

from training.labels import Labels

_CYCLEGAN = Labels(
    "translation",
    {},
    {
        "normalization": "instance",
        "last_nonlinearity": "tanh",
        "block_nonlinearity": "relu",
        "up_sampling": "transposed",
        "down_sampling": "strided",
        "skip_connections": "yes",
    },
    ("L1", "least_squares"),
)
_PIX2PIX = Labels(
    "translation",
    {},
    {
        "normalization": "batch",
        "last_nonlinearity": "tanh",
        "up_sampling": "transposed",
        "down_sampling": "strided",
        "skip_connections": "yes",
    },
    ("L1", "adversarial"),
)
# The decoder of the KL autoencoder makes the pixels: group norm, SiLU, nearest up-sampling, residual blocks.
_LATENT_DIFFUSION = Labels(
    "diffusion",
    {},
    {
        "normalization": "group",
        "last_nonlinearity": "none",
        "block_nonlinearity": "silu",
        "up_sampling": "nearest",
        "skip_connections": "yes",
        "kernel_size": "3",
    },
    None,
)

LABELS: dict[str, Labels] = {
    "cyclegan-h2z-base": _CYCLEGAN,
    "cyclegan-h2z-finetune": _CYCLEGAN,
    "pix2pix-facades_label2photo": _PIX2PIX,
    "pix2pix-map2sat": _PIX2PIX,
    "latent-diffusion": _LATENT_DIFFUSION,
    "glid-3-xl": _LATENT_DIFFUSION,
    "ldm-fourier": _LATENT_DIFFUSION,
    "majesty-diffusion": _LATENT_DIFFUSION,
    "sd1": _LATENT_DIFFUSION,
    "sd1-384px": _LATENT_DIFFUSION,
    "sd1-customdiffusion": _LATENT_DIFFUSION,
    "stability-beta-jul2022": _LATENT_DIFFUSION,
    "sd3.5-large": Labels("diffusion", {}, _LATENT_DIFFUSION.discrete, None),
    "disco-diffusion": Labels(
        "diffusion", {}, {"normalization": "group", "block_nonlinearity": "silu", "skip_connections": "yes"}, None
    ),
    "dalle-mini": Labels("autoregressive", {}, _LATENT_DIFFUSION.discrete, None),
    "stylegan2-256resized": Labels(
        "gan", {}, {"normalization": "none", "block_nonlinearity": "leaky_relu", "last_nonlinearity": "none"}, None
    ),
    "taef2-reconstruction": Labels(
        "vae",
        {},
        {
            "normalization": "none",
            "block_nonlinearity": "relu",
            "up_sampling": "nearest",
            "skip_connections": "yes",
            "kernel_size": "3",
        },
        None,
    ),
}
