"""Random selection of the synthetic lesions of each image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches

import torch

from anomalib_cxr.errors import refuse_settings

from .drawing import Levels, gray_levels
from .kinds import KINDS, WEIGHTS

REPEAT_PROBABILITY = 0.55
"""Probability of each further lesion of an image that has one."""
_PARTS, _MIN_PART = 4, 4  # parts of a batch that get the same kind, and their minimum size: several images at once


def add_lesions(
    frames: torch.Tensor,
    lung_mask: torch.Tensor,
    generator: torch.Generator,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    weights: Mapping[str, float] = WEIGHTS,
    share: float = 0.8,
    most: int = 3,
) -> torch.Tensor:
    """Add lesions of random kinds to a share of the images.

    Args:
        frames: Frames with both lungs side by side, gray values in [0, 1], dense tissue bright, `(B, 1, H, W)`.
        lung_mask: Lung mask of the frames, 0 to 1, `(B, 1, H, W)`.
        generator: Source of the draws, on the CPU.
        kinds: Kinds of lesions to choose from; keys of `KINDS`.
        weights: Relative frequency of each kind.
        share: Probability that an image gets lesions, 0 to 1; the others remain unchanged.
        most: Maximum number of lesions of an image.

    Returns:
        Frames with lesions in [0, 1], `(B, 1, H, W)`.

    Raises:
        SettingError: If a kind is unknown or has no weight above 0, or another setting is outside its range.

    Example:
        >>> frames, lung_mask = torch.full((4, 1, 96, 96), 0.3), torch.ones(4, 1, 96, 96)
        >>> frames[..., :8] = 0.8  # the chest wall
        >>> result = add_lesions(frames, lung_mask, torch.Generator().manual_seed(0), kinds=["nodules"], share=1.0)
        >>> result.shape, bool((result >= frames).all()), bool((result > frames).flatten(1).any(dim=1).all())
        (torch.Size([4, 1, 96, 96]), True, True)
    """
    _check(kinds, weights, share, most)
    levels = gray_levels(frames, lung_mask)
    result = frames.clone()
    probabilities = torch.tensor([float(weights[kind]) for kind in kinds])
    selected = torch.rand(len(frames), generator=generator) < share
    for number in range(most):
        again = torch.rand(len(frames), generator=generator) < (REPEAT_PROBABILITY if number else 1)
        for indices in _split(selected & again, generator):
            add_lesion = KINDS[kinds[int(torch.multinomial(probabilities, 1, generator=generator))]]
            part = indices.to(frames.device)
            part_levels = Levels(*(level[part] for level in levels))
            result[part] = add_lesion(result[part], lung_mask[part], part_levels, generator)
    return result.clamp(0, 1)


def _split(chosen: torch.Tensor, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Split the indices of the chosen images at random into a few parts."""
    numbers = chosen.nonzero().flatten()
    shuffled = numbers[torch.randperm(len(numbers), generator=generator)]
    size = max(_MIN_PART, len(numbers) // _PARTS)
    for first in range(0, len(numbers), size):
        yield shuffled[first : first + size]


def _check(kinds: Sequence[str], weights: Mapping[str, float], share: float, most: int) -> None:
    """Refuse kinds that do not exist or are never chosen, and settings outside their range."""
    unknown = [kind for kind in kinds if kind not in KINDS]
    near = {name for kind in unknown for name in get_close_matches(kind, KINDS, n=3, cutoff=0.4)}
    wrong: dict[str, object] = {}
    if unknown or not kinds:
        wrong["kinds"] = unknown
    elif any(not weights.get(kind, 0) > 0 for kind in kinds):
        wrong["weights"] = dict(weights)
    wrong |= {} if 0 <= share <= 1 else {"share": share}
    wrong |= {} if most >= 1 else {"most": most}
    nearest = f" (nearest: {', '.join(sorted(near))})" if near else ""
    expected = {
        "kinds": f"at least one of {', '.join(KINDS)}{nearest}",
        "weights": "above 0 for each kind",
        "share": "in [0, 1]",
        "most": ">= 1",
    }
    refuse_settings(wrong, expected, "the settings of the lesions")
