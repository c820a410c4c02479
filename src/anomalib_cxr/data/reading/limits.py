"""Limits of an image's size."""

from __future__ import annotations

from pathlib import Path

from anomalib_cxr.errors import RadiographError

MIN_SIDE = 16  # px; smaller is a thumbnail or an icon
MAX_PIXELS = 2**26  # a film of 35 x 43 cm, digitized at 0.05 mm, has 60 million; a detector about 20 million


def check_size(path: Path, size: tuple[int, int]) -> None:
    """Refuse an image that is too small or too large.

    Args:
        path: The file.
        size: Height and width in pixels.

    Raises:
        RadiographError: A side is below 16 px, or the image has more than 67 million pixels.

    Example:
        >>> check_size(Path("chest.png"), (2048, 2500))
    """
    if min(size) < MIN_SIDE:
        raise RadiographError(
            path,
            f"too small: {size_text(size)}",
            f"at least {MIN_SIDE} px a side",
            "use the original instead of a thumbnail",
        )
    if size[0] * size[1] > MAX_PIXELS:
        raise too_large(path, size_text(size))


def too_large(path: Path, size: str) -> RadiographError:
    """Return the error of an image with too many pixels.

    Args:
        path: The file.
        size: Its size as it was found.

    Returns:
        The error, to be raised.

    Example:
        >>> too_large(Path("chest.png"), "20000 x 20000 px").reason
        'too large: 20000 x 20000 px'
    """
    return RadiographError(path, f"too large: {size}", f"at most {MAX_PIXELS:,} px", "make the image smaller")


def size_text(size: tuple[int, ...]) -> str:
    """Return a size for a message.

    Args:
        size: Height and width in pixels.

    Returns:
        The text.

    Example:
        >>> size_text((32, 24))
        '32 x 24 px'
    """
    return f"{size[0]} x {size[1]} px"
