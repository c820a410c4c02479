"""The gate before scoring: what no frontal chest X-ray is, or none that the model was validated on, is refused.

A model scores whatever it is shown, and a photograph or an X-ray upside down may well score as normal. The gate looks
at a thumbnail in two ways. It tells upright X-rays from the same ones turned, inverted or cropped and from drawn
patterns, by logistic regression; and it tells how far the thumbnail is from the subspace of upright ones. Both learn
from healthy X-rays only. Beside that, two lungs have to be where lungs are.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.special import softmax

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.segmentation.augmentation import augment
from anomalib_cxr.segmentation.postprocessing import are_plausible, clean_lungs
from anomalib_cxr.utils.files import atomic_path


def draw_patterns(count: int, side: int, seed: int) -> torch.Tensor:
    """Draw patterns, the four kinds in turn.

    Args:
        count: Patterns.
        side: In pixels.
        seed: Of the drawing.

    Returns:
        In [0, 1], each from black to white, `(count, 1, side, side)`.

    Example:
        >>> draw_patterns(4, 16, seed=0).shape
        torch.Size([4, 1, 16, 16])
    """
    rng = np.random.default_rng(seed)
    kinds = (_noise, _clouds, _blocks, _waves)
    drawn = [_spread(kinds[index % len(kinds)](rng, side), rng) for index in range(count)]
    return torch.from_numpy(np.stack(drawn)[:, None].astype(np.float32))


def _noise(rng: np.random.Generator, side: int) -> np.ndarray:
    return rng.standard_normal((side, side))


def _clouds(rng: np.random.Generator, side: int) -> np.ndarray:
    return np.asarray(gaussian_filter(_noise(rng, side), side * rng.uniform(0.02, 0.16)))


def _blocks(rng: np.random.Generator, side: int) -> np.ndarray:
    drawn = np.zeros((side, side))
    for _ in range(rng.integers(2, 12)):
        top, left = rng.integers(0, side, 2)
        height, width = rng.integers(side // 16, side // 2, 2) + 1
        drawn[top : top + height, left : left + width] += rng.normal()
    return drawn


def _waves(rng: np.random.Generator, side: int) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    turn, phase = rng.uniform(0, 2 * np.pi, 2)
    return np.asarray(np.sin((x * np.cos(turn) + y * np.sin(turn)) * rng.uniform(0.5, 15) + phase))


def _spread(drawn: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add some noise, and stretch to [0, 1]."""
    noisy = drawn + rng.uniform(0, 0.5) * drawn.std() * rng.standard_normal(drawn.shape)
    return np.asarray((noisy - noisy.min()) / (np.ptp(noisy) + 1e-6))


SIDE = 32
"""Pixels of a thumbnail along each side."""
LEAST_UPRIGHT = 0.1
"""An X-ray is refused as turned, inverted or cropped if the probability that it is none of these is less."""
LEAST_REFERENCES = 20
_COPIES = 3  # moved and otherwise exposed, of each X-ray
_VIEW_COMPONENTS = 100
_COMPONENTS = 60
_FOLDS = 5


def _quarters(images: torch.Tensor) -> torch.Tensor:
    """Return a quarter of each image, the four in turn, at the full size."""
    side = images.shape[-1]
    half = side // 2
    places = [(top, left) for top in (0, side - half) for left in (0, side - half)]
    parts = [
        image[:, top : top + half, left : left + half]
        for image, (top, left) in zip(images, places * (len(images) // 4 + 1), strict=False)
    ]
    return antialiased_resize(torch.stack(parts), (side, side))


# Each acts on `(N, 1, H, W)`. "upright" comes first; the last kind is drawn.
_KINDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "upright": lambda images: images,
    "turned by 90 degrees to the left": lambda images: images.rot90(1, (-2, -1)),
    "turned by 180 degrees": lambda images: images.rot90(2, (-2, -1)),
    "turned by 90 degrees to the right": lambda images: images.rot90(3, (-2, -1)),
    "upside down as in a mirror": lambda images: images.flip(-2),
    "inverted, dense tissue dark": lambda images: 1 - images,
    "cropped to a part of the chest": _quarters,
}
_PATTERN = "no chest X-ray"


@dataclass(frozen=True)
class Gate:
    """What the gate has learned.

    Args:
        kinds: What a thumbnail may be, `upright` first, `(K,)`.
        weights: Of each kind for each pixel, `(K, SIDE * SIDE)`.
        bias: Of each kind, `(K,)`.
        mean: Of upright thumbnails, `(SIDE * SIDE,)`.
        components: Of upright thumbnails, `(C, SIDE * SIDE)`.
        limit: Greatest distance from their subspace, root mean square.
    """

    kinds: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    components: np.ndarray
    limit: np.ndarray

    def refusals(self, reduced: torch.Tensor, lungs: np.ndarray) -> list[str]:
        """Return why an image is no upright frontal chest X-ray; empty if it can be one.

        Args:
            reduced: The image in [0, 1], `(1, S, S)`.
            lungs: Probability of lung there, `(S, S)`.
        """
        if float(reduced.max() - reduced.min()) < 1 / 255:
            return ["blank"]
        thumbnail = _thumbnails(reduced[None])  # (1, SIDE * SIDE)
        found = []
        chances = softmax(thumbnail @ self.weights.T + self.bias, axis=1)[0]
        if chances[0] < LEAST_UPRIGHT:
            found.append(str(self.kinds[1:][chances[1:].argmax()]))
        if _distances(thumbnail, self.mean, self.components)[0] > self.limit:
            found.append("unlike any X-ray that the gate has learned from")
        if not are_plausible(clean_lungs(lungs > 0.5)):  # noqa: PLR2004  # more likely than not
            found.append("no two lungs of plausible size and place")
        return found

    def save(self, path: Path) -> None:
        """Write what was learned, whole or not at all."""
        with atomic_path(path) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Gate:
        """Read what :meth:`save` wrote.

        Raises:
            ScreeningError: If the file is missing or something else.
        """
        try:
            with np.load(path, allow_pickle=False) as content:
                return cls(**{field.name: content[field.name] for field in fields(cls)})
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ScreeningError(
                f"{path}: {error}", "the gate that a calibration wrote", "run `anomalib-cxr calibrate` anew"
            ) from error


def fit_gate(reduced: torch.Tensor, lungs: np.ndarray, seed: int) -> Gate:
    """Learn what upright frontal X-rays look like.

    Args:
        reduced: Healthy X-rays in [0, 1], `(N, 1, S, S)`.
        lungs: Probability of lung there, `(N, S, S)`.
        seed: Of the copies that are moved and exposed otherwise, and of the patterns.

    Raises:
        ScreeningError: If there are too few.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415  # a second that only fitting is to cost

    if len(reduced) < LEAST_REFERENCES:
        raise ScreeningError(
            f"{len(reduced)} healthy X-rays for the gate to learn from",
            f"at least {LEAST_REFERENCES}",
            "add healthy X-rays",
        )
    draw = torch.Generator().manual_seed(seed)
    masks = torch.from_numpy(lungs)[:, None]
    copies = [(augment(2 * reduced - 1, masks, draw)[0] + 1) / 2 for _ in range(_COPIES)]
    upright = torch.cat([reduced, *copies])
    kinds = {name: _thumbnails(make(upright)) for name, make in _KINDS.items()}
    kinds[_PATTERN] = _thumbnails(draw_patterns(len(upright), reduced.shape[-1], seed))
    weights, bias = _fit_kinds(kinds, seed)
    thumbnails = kinds["upright"]
    subspace = PCA(min(_COMPONENTS, len(reduced) // 2), random_state=seed).fit(thumbnails)
    limit = _greatest_distance(thumbnails.reshape(_COPIES + 1, len(reduced), -1), subspace.n_components_, seed)
    return Gate(np.array(list(kinds)), weights, bias, subspace.mean_, subspace.components_, np.array(limit))


def _greatest_distance(thumbnails: np.ndarray, n_components: int, seed: int) -> float:
    """Return the greatest distance of an X-ray from the subspace of others: that from its own is too small.

    The copies count too: the opacities in them keep disease from being taken for something else than an X-ray.

    Args:
        thumbnails: The X-rays and their copies, `(1 + _COPIES, N, SIDE * SIDE)`.
        n_components: Of the subspace.
        seed: Of the subspace.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415
    from sklearn.model_selection import KFold  # noqa: PLC0415

    greatest = 0.0
    for rest, held_out in KFold(_FOLDS, shuffle=True, random_state=seed).split(thumbnails[0]):
        others = PCA(n_components, random_state=seed).fit(thumbnails[:, rest].reshape(-1, thumbnails.shape[-1]))
        unseen = thumbnails[:, held_out].reshape(-1, thumbnails.shape[-1])
        greatest = max(greatest, float(_distances(unseen, others.mean_, others.components_).max()))
    return greatest


def _fit_kinds(kinds: dict[str, np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit the regression on the main components, and return its weights on the pixels themselves."""
    from sklearn.decomposition import PCA  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    pixels = np.concatenate(list(kinds.values()))
    labels = np.repeat(np.arange(len(kinds)), [len(each) for each in kinds.values()])
    subspace = PCA(min(_VIEW_COMPONENTS, len(pixels) // 2), random_state=seed).fit(pixels)
    fitted = LogisticRegression(C=0.1, class_weight="balanced", max_iter=500).fit(subspace.transform(pixels), labels)
    weights = fitted.coef_ @ subspace.components_
    return weights, fitted.intercept_ - weights @ subspace.mean_


def _thumbnails(images: torch.Tensor) -> np.ndarray:
    """Reduce images to thumbnails of mean 0 and standard deviation 1, `(N, 1, S, S)` to `(N, SIDE * SIDE)`."""
    small = antialiased_resize(images, (SIDE, SIDE)).flatten(1).double().numpy()
    return np.asarray((small - small.mean(1, keepdims=True)) / (small.std(1, keepdims=True) + 1e-3))


def _distances(thumbnails: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Return the root mean square of what the subspace leaves of each thumbnail, `(N,)`."""
    moved = thumbnails - mean
    rest = moved - moved @ components.T @ components
    return np.asarray(np.sqrt((rest**2).mean(axis=1)))
