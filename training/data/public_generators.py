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

_RRDB = {
    "normalization": "none",
    "block_nonlinearity": "leaky_relu",
    "last_nonlinearity": "none",
    "up_sampling": "nearest",
    "down_sampling": "none",
    "skip_connections": "yes",
    "kernel_size": "3",
}
_STYLE = {
    "last_nonlinearity": "tanh",
    "block_nonlinearity": "relu",
    "normalization": "instance",
    "up_sampling": "transposed",
}
# Labels of every generator with this category and lineage (`public_sets.csv`) that has no others, from the published code of the last
# stage.
LINEAGES: dict[tuple[str, str], Labels] = {
    **{
        ("text_to_image", lineage): _LATENT_DIFFUSION
        for lineage in ("kl_f8_4ch", "sdxl_kl_f8", "kl_f8_16ch", "kl_f8_32ch")
    },
    **{
        ("text_to_image", lineage): Labels("diffusion", {}, {}, None)
        for lineage in ("movq", "wan_vae_16ch", "paella_vqgan_f4")
    },
    ("super_resolution", "rrdb"): Labels("translation", {"parameters": 16_697_987}, _RRDB, None),
    ("super_resolution", "dpsr"): Labels("translation", {}, {}, None),
    ("translation", "hrfae"): Labels("translation", {}, {}, None),
    ("stylisation", "cartoongan"): Labels("translation", {"parameters": 11_129_667}, _STYLE, None),
    ("stylisation", "johnson_style"): Labels("translation", {}, _STYLE, None),
    ("stylisation", "adain"): Labels(
        "translation",
        {},
        {
            "normalization": "none",
            "block_nonlinearity": "relu",
            "last_nonlinearity": "none",
            "up_sampling": "nearest",
            "kernel_size": "3",
        },
        None,
    ),
    ("gan", "stylegan2"): Labels(
        "gan",
        {},
        {
            "normalization": "none",
            "block_nonlinearity": "leaky_relu",
            "last_nonlinearity": "none",
            "up_sampling": "transposed",
        },
        None,
    ),
    ("gan", "stylegan3"): Labels("gan", {}, {"normalization": "none", "block_nonlinearity": "leaky_relu"}, None),
    ("gan", "r3gan"): Labels("gan", {}, {"normalization": "none", "block_nonlinearity": "leaky_relu"}, None),
    ("gan", "biggan_deep"): Labels(
        "gan",
        {},
        {
            "normalization": "batch",
            "block_nonlinearity": "relu",
            "last_nonlinearity": "tanh",
            "up_sampling": "nearest",
            "skip_connections": "yes",
        },
        None,
    ),
}
