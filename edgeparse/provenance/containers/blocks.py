"""What a walk over a container returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

BlockKind = Literal["exif", "xmp", "iptc", "c2pa", "text", "comment"]

# Largest metadata block in bytes, largest text, most text of one file, and most blocks of one file.
MAX_BLOCK = 32 * 1024 * 1024
MAX_TEXT = 4 * 1024 * 1024
MAX_TEXTS = 16 * 1024 * 1024
MAX_BLOCKS = 2000


class ContainerError(ValueError):
    """A container's structure is damaged."""


@dataclass(frozen=True)
class Block:
    """One metadata block.

    Attributes:
        kind: What the block holds: "exif" is TIFF data, "c2pa" JUMBF, "text" a keyword with its value.
        where: Its place, for example "JPEG APP1/Exif".
        data: The payload without the container's header.
        key: The keyword of a text block.
    """

    kind: BlockKind
    where: str
    data: bytes
    key: str = ""


@dataclass
class Container:
    """Format, pixel size and metadata blocks of a file.

    Attributes:
        format: "JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF", "JXL", "GIF", "BMP", "MP4", "MOV", or None.
        width: Width in pixels from the header, 0 when unknown.
        height: Height in pixels from the header, 0 when unknown.
        lossless: True when the pixels are stored without loss.
        blocks: Metadata blocks in file order.
        end: Offset of the first byte after the picture, or None when it was not searched.
        damage: Why the walk stopped early, or None.
    """

    format: str | None
    width: int = 0
    height: int = 0
    lossless: bool = False
    blocks: list[Block] = field(default_factory=list)
    end: int | None = None
    damage: str | None = None
    text_left: int = MAX_TEXTS

    def add(self, block: Block) -> None:
        """Append a block.

        Raises:
            ContainerError: There are too many blocks, or the block is too large.
        """
        if len(self.blocks) >= MAX_BLOCKS:
            raise ContainerError(f"metadata blocks must be at most {MAX_BLOCKS}")
        if len(block.data) > MAX_BLOCK:
            raise ContainerError(f"{block.where} must hold at most {MAX_BLOCK} bytes, got {len(block.data)}")
        self.blocks.append(block)

    def of(self, kind: BlockKind) -> list[Block]:
        """Return the blocks of one kind."""
        return [block for block in self.blocks if block.kind == kind]
