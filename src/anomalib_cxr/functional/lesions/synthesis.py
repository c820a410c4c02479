"""Which lesions an image gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType

import torch

from anomalib_cxr.errors import refuse_settings

from .drawing import Levels, gray_levels
from .kinds import (
    add_cut_paste,
    add_diffuse,
    add_effusion,
    add_lucency,
    add_miliary,
    add_nodules,
    add_patch,
    add_ring,
    add_streak,
    add_texture,
    add_warp,
)

AddLesion = Callable[[torch.Tensor, torch.Tensor, Levels, torch.Generator], torch.Tensor]
"""Paints one kind of lesion into each of several frames in [0, 1], `(B, 1, H, W)`, given where lung is, from 0 to 1, of
the same shape, and their levels; the result is not bounded to [0, 1]."""

KINDS: Mapping[str, AddLesion] = MappingProxyType(
    {
        "patch": add_patch,
        "nodules": add_nodules,
        "ring": add_ring,
        "miliary": add_miliary,
        "effusion": add_effusion,
        "streak": add_streak,
        "cut_paste": add_cut_paste,
        "texture": add_texture,
        "warp": add_warp,
        "lucency": add_lucency,
        "diffuse": add_diffuse,
    }
)
WEIGHTS: Mapping[str, float] = MappingProxyType({kind: 2.0 if kind == "patch" else 1.0 for kind in KINDS})
"""How often a kind is chosen, as against the others."""
ANOTHER = 0.55
"""Chance that an image with a lesion gets another one, each time."""
_PARTS, _LEAST = 4, 4  # an image gets its kind with a part of the batch, so that painters work on several at once


def add_lesions(
    lungs: torch.Tensor,
    inside: torch.Tensor,
    generator: torch.Generator,
    *,
    kinds: Sequence[str] = tuple(KINDS),
    weights: Mapping[str, float] = WEIGHTS,
    share: float = 0.8,
    most: int = 3,
) -> torch.Tensor:
    """Paint lesions of random kinds into a share of the images.

    Args:
        lungs: Frames with both lungs side by side, gray values in [0, 1], dense is bright, `(B, 1, H, W)`.
        inside: Lung, from 0 to 1, in the same frame, `(B, 1, H, W)`.
        generator: Source of the draws, on the CPU.
        kinds: Kinds of lesions to choose from; keys of `KINDS`.
        weights: How often a kind is chosen as against the others.
        share: Chance that an image gets lesions, from 0 to 1; the others stay exactly as they are.
        most: Greatest number of lesions in an image.

    Returns:
        Painted frames in [0, 1], `(B, 1, H, W)`.

    Raises:
        SettingError: If a kind is unknown or has no weight above 0, or another setting is outside its range.

    Example:
        >>> lungs, inside = torch.full((4, 1, 96, 96), 0.3), torch.ones(4, 1, 96, 96)
        >>> lungs[..., :8] = 0.8  # the chest wall
        >>> painted = add_lesions(lungs, inside, torch.Generator().manual_seed(0), kinds=["nodules"], share=1.0)
        >>> painted.shape, bool((painted >= lungs).all()), bool((painted > lungs).flatten(1).any(dim=1).all())
        (torch.Size([4, 1, 96, 96]), True, True)
    """
    _check(kinds, weights, share, most)
    levels = gray_levels(lungs, inside)
    painted = lungs.clone()
    chances = torch.tensor([float(weights[kind]) for kind in kinds])
    sick = torch.rand(len(lungs), generator=generator) < share
    for number in range(most):
        again = torch.rand(len(lungs), generator=generator) < (ANOTHER if number else 1)
        for part in _parts(sick & again, generator):
            paint = KINDS[kinds[int(torch.multinomial(chances, 1, generator=generator))]]
            some = part.to(lungs.device)
            painted[some] = paint(painted[some], inside[some], Levels(*(level[some] for level in levels)), generator)
    return painted.clamp(0, 1)


def _parts(chosen: torch.Tensor, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Deal the numbers of the chosen images out to a few parts by chance."""
    numbers = chosen.nonzero().flatten()
    shuffled = numbers[torch.randperm(len(numbers), generator=generator)]
    size = max(_LEAST, len(numbers) // _PARTS)
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
