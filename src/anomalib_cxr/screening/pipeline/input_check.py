"""Input quality check before scoring: refuses what is no upright frontal chest X-ray.

A model scores whatever it is given, and a photograph or an X-ray upside down may well score as normal. A thumbnail is
checked in two ways: a logistic regression tells upright X-rays from the same ones turned, inverted or cropped and from
synthetic patterns, and its distance from the PCA subspace of upright X-rays is limited. Both are fitted to healthy
X-rays only. In addition, the segmented lungs must have plausible size and place.
"""

from __future__ import annotations

import io
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
from anomalib_cxr.segmentation.postprocessing import clean_mask, is_plausible
from anomalib_cxr.utils.files import atomic_path


def draw_patterns(count: int, side: int, seed: int) -> torch.Tensor:
    """Draw synthetic patterns: noise, clouds, blocks and waves in turn.

    Args:
        count: Number of patterns.
        side: Side in pixels.
        seed: Seed of the random numbers.

    Returns:
        Patterns that span [0, 1], `(count, 1, side, side)`.

    Example:
        >>> draw_patterns(4, 16, seed=0).shape
        torch.Size([4, 1, 16, 16])
    """
    rng = np.random.default_rng(seed)
    kinds = (_noise, _clouds, _blocks, _waves)
    patterns = [_stretch(kinds[index % len(kinds)](rng, side), rng) for index in range(count)]
    return torch.from_numpy(np.stack(patterns)[:, None].astype(np.float32))


def _noise(rng: np.random.Generator, side: int) -> np.ndarray:
    return rng.standard_normal((side, side))


def _clouds(rng: np.random.Generator, side: int) -> np.ndarray:
    return np.asarray(gaussian_filter(_noise(rng, side), side * rng.uniform(0.02, 0.16)))


def _blocks(rng: np.random.Generator, side: int) -> np.ndarray:
    pattern = np.zeros((side, side))
    for _ in range(rng.integers(2, 12)):
        top, left = rng.integers(0, side, 2)
        height, width = rng.integers(side // 16, side // 2, 2) + 1
        pattern[top : top + height, left : left + width] += rng.normal()
    return pattern


def _waves(rng: np.random.Generator, side: int) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    turn, phase = rng.uniform(0, 2 * np.pi, 2)
    return np.asarray(np.sin((x * np.cos(turn) + y * np.sin(turn)) * rng.uniform(0.5, 15) + phase))


def _stretch(pattern: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise, and stretch to [0, 1]."""
    noisy = pattern + rng.uniform(0, 0.5) * pattern.std() * rng.standard_normal(pattern.shape)
    return np.asarray((noisy - noisy.min()) / (np.ptp(noisy) + 1e-6))


SIDE = 32
"""Side of a thumbnail in pixels."""
LEAST_UPRIGHT = 0.1
"""Lowest probability of "upright" at which an X-ray is accepted."""
LEAST_REFERENCES = 20
"""Smallest number of healthy X-rays to fit the check to."""
_COPIES = 3  # augmented copies of each X-ray
_CLASSIFIER_COMPONENTS = 100
_SUBSPACE_COMPONENTS = 60
_FOLDS = 5


def _quarters(images: torch.Tensor) -> torch.Tensor:
    """Return one quarter of each image, the four in turn, enlarged to the full size."""
    side = images.shape[-1]
    half = side // 2
    places = [(top, left) for top in (0, side - half) for left in (0, side - half)]
    parts = [
        image[:, top : top + half, left : left + half]
        for image, (top, left) in zip(images, places * (len(images) // 4 + 1), strict=False)
    ]
    return antialiased_resize(torch.stack(parts), (side, side))


# Functions of `(N, 1, H, W)`, "upright" first. Synthetic patterns are a further kind.
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
class InputCheck:
    """Fitted input quality check.

    Args:
        kinds: Classes of the regression, `upright` first, `(K,)`.
        weights: Weights of the regression, `(K, SIDE * SIDE)`.
        bias: Intercepts of the regression, `(K,)`.
        mean: Mean of upright thumbnails, `(SIDE * SIDE,)`.
        components: Principal components of upright thumbnails, `(C, SIDE * SIDE)`.
        limit: Largest accepted distance from their subspace, root mean square.
    """

    kinds: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    mean: np.ndarray
    components: np.ndarray
    limit: np.ndarray

    def refusals(self, reduced: torch.Tensor, lungs: np.ndarray) -> list[str]:
        """Return the reasons to refuse an image; an empty list accepts it.

        Args:
            reduced: Image in [0, 1], `(1, S, S)`.
            lungs: Lung probability of the image, `(S, S)`.

        Returns:
            Reasons in a few words each, such as `turned by 180 degrees`.
        """
        if float(reduced.max() - reduced.min()) < 1 / 255:
            return ["blank"]
        thumbnail = _thumbnails(reduced[None])  # (1, SIDE * SIDE)
        reasons = []
        probabilities = softmax(thumbnail @ self.weights.T + self.bias, axis=1)[0]  # (K,)
        if probabilities[0] < LEAST_UPRIGHT:
            reasons.append(str(self.kinds[1:][probabilities[1:].argmax()]))
        if _distances(thumbnail, self.mean, self.components)[0] > self.limit:
            reasons.append("unlike the X-rays that the input check was fitted to")
        if not is_plausible(clean_mask(lungs > 0.5)):  # noqa: PLR2004  # more likely than not
            reasons.append("no two lungs of plausible size and place")
        return reasons

    def save(self, path: Path) -> None:
        """Write the fitted check as `.npz`, whole or not at all.

        Args:
            path: File to write.
        """
        with atomic_path(path) as unfinished, unfinished.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path, content: bytes | None = None) -> InputCheck:
        """Read a check that :meth:`save` wrote.

        Args:
            path: File to read.
            content: Its bytes, where they were read before; the path is then only for errors.

        Returns:
            The fitted check.

        Raises:
            ScreeningError: If the file is missing, damaged or of another kind.
        """
        try:
            file = io.BytesIO(path.read_bytes() if content is None else content)
            with np.load(file, allow_pickle=False) as arrays:
                return cls(**{field.name: arrays[field.name] for field in fields(cls)})
        except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ScreeningError(
                f"{path}: {error}", "the input check of a calibration", "run `anomalib-cxr calibrate` anew"
            ) from error


def fit_input_check(reduced: torch.Tensor, lungs: np.ndarray, seed: int) -> InputCheck:
    """Fit the input quality check to healthy X-rays.

    Args:
        reduced: Healthy X-rays in [0, 1], `(N, 1, S, S)`.
        lungs: Their lung probabilities, `(N, S, S)`.
        seed: Seed of augmentation, patterns and cross-validation.

    Returns:
        The fitted check.

    Raises:
        ScreeningError: If there are too few X-rays.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415  # a second that only fitting should cost

    from anomalib_cxr.segmentation.training import augment  # noqa: PLC0415  # the same

    if len(reduced) < LEAST_REFERENCES:
        raise ScreeningError(
            f"{len(reduced)} healthy X-rays to fit the input check to",
            f"at least {LEAST_REFERENCES}",
            "add healthy X-rays",
        )
    generator = torch.Generator().manual_seed(seed)
    masks = torch.from_numpy(lungs)[:, None]
    copies = [(augment(2 * reduced - 1, masks, generator)[0] + 1) / 2 for _ in range(_COPIES)]
    upright = torch.cat([reduced, *copies])
    kinds = {name: _thumbnails(transform(upright)) for name, transform in _KINDS.items()}
    kinds[_PATTERN] = _thumbnails(draw_patterns(len(upright), reduced.shape[-1], seed))
    weights, bias = _fit_kinds(kinds, seed)
    thumbnails = kinds["upright"]
    subspace = PCA(min(_SUBSPACE_COMPONENTS, len(reduced) // 2), random_state=seed).fit(thumbnails)
    limit = _largest_distance(thumbnails.reshape(_COPIES + 1, len(reduced), -1), subspace.n_components_, seed)
    return InputCheck(np.array(list(kinds)), weights, bias, subspace.mean_, subspace.components_, np.array(limit))


def _largest_distance(thumbnails: np.ndarray, n_components: int, seed: int) -> float:
    """Return the largest distance of an X-ray or its copies from the subspace of the other folds.

    Copies have opacities, which keep disease from being refused.

    Args:
        thumbnails: X-rays and their copies, `(1 + _COPIES, N, SIDE * SIDE)`.
        n_components: Number of components of the subspace.
        seed: Seed of the folds and the subspace.
    """
    from sklearn.decomposition import PCA  # noqa: PLC0415
    from sklearn.model_selection import KFold  # noqa: PLC0415

    largest = 0.0
    for training, held_out in KFold(_FOLDS, shuffle=True, random_state=seed).split(thumbnails[0]):
        subspace = PCA(n_components, random_state=seed).fit(thumbnails[:, training].reshape(-1, thumbnails.shape[-1]))
        unseen = thumbnails[:, held_out].reshape(-1, thumbnails.shape[-1])
        largest = max(largest, float(_distances(unseen, subspace.mean_, subspace.components_).max()))
    return largest


def _fit_kinds(kinds: dict[str, np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Fit the regression on principal components; return its weights `(K, SIDE * SIDE)` on pixels, and intercepts."""
    from sklearn.decomposition import PCA  # noqa: PLC0415
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    pixels = np.concatenate(list(kinds.values()))
    labels = np.repeat(np.arange(len(kinds)), [len(thumbnails) for thumbnails in kinds.values()])
    subspace = PCA(min(_CLASSIFIER_COMPONENTS, len(pixels) // 2), random_state=seed).fit(pixels)
    fitted = LogisticRegression(C=0.1, class_weight="balanced", max_iter=500).fit(subspace.transform(pixels), labels)
    weights = fitted.coef_ @ subspace.components_
    return weights, fitted.intercept_ - weights @ subspace.mean_


def _thumbnails(images: torch.Tensor) -> np.ndarray:
    """Reduce images to thumbnails of mean 0 and standard deviation 1, `(N, 1, S, S)` to `(N, SIDE * SIDE)`."""
    small = antialiased_resize(images, (SIDE, SIDE)).flatten(1).double().numpy()
    return np.asarray((small - small.mean(1, keepdims=True)) / (small.std(1, keepdims=True) + 1e-3))


def _distances(thumbnails: np.ndarray, mean: np.ndarray, components: np.ndarray) -> np.ndarray:
    """Return the root mean square residual of each thumbnail outside the subspace, `(N,)`."""
    centered = thumbnails - mean
    residual = centered - centered @ components.T @ components
    return np.asarray(np.sqrt((residual**2).mean(axis=1)))
