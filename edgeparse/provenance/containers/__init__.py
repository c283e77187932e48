"""Walk containers of images and movies: every metadata block with its place, nothing outside the format's structure."""

from __future__ import annotations

from edgeparse.provenance.containers import isobmff, isomedia, jpeg, png, riff, simple
from edgeparse.provenance.containers.blocks import Block, Container, ContainerError

__all__ = ["Block", "Container", "ContainerError", "walk"]

_WALKERS = (jpeg.walk, png.walk, riff.walk, isobmff.walk, isomedia.walk, simple.walk)


def walk(data: bytes) -> Container:
    """Return the container's format, size and metadata blocks.

    The format comes from the bytes, never from a file name. A damaged container gives what could be
    read before the damage. An unknown one has format None and no blocks.
    """
    for walker in _WALKERS:
        container = walker(data)
        if container is not None:
            return container
    return Container(None)
