"""Synthetic frontal chest radiographs: drawn, not photographed, so that they can be shared and their truth is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from anomalib_cxr.errors import SettingError

from .anatomy import Field
from .findings import FINDINGS, Finding
from .thorax import draw_thorax

SMALLEST, LARGEST = 32, 2048
FINEST = 256  # a smaller image is the mean over the pixels of one at least this large, so that ribs do not alias
NOTICEABLE = 0.03  # change of the clean gray value that a reader can see
FOG, SHOULDER = 0.05, 0.95  # gray values of bare and of saturated film; the margins keep the noise from being clipped


@dataclass(frozen=True)
class NoiseModel:
    r"""Poisson-Gaussian noise: :math:`y = gain \cdot Poisson(x / gain) + N(0, sigma^2)`.

    The variance at the gray value x is gain * x + sigma^2.

    Args:
        gain: Gray value of one photon, on the scale [0, 1]; 0 for no Poisson part.
        sigma: Standard deviation of the Gaussian part, on the scale [0, 1].

    Raises:
        SettingError: If one of them is negative or not finite.

    Example:
        >>> NoiseModel(gain=0.0, sigma=0.0).apply(np.full((2, 2), 0.5), np.random.default_rng(0)).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """

    gain: float = 0.0002
    sigma: float = 0.01

    def __post_init__(self) -> None:
        for name, value in (("gain", self.gain), ("sigma", self.sigma)):
            if not (np.isfinite(value) and value >= 0):
                raise SettingError(
                    f"{name} = {value}", f"{name} >= 0", "give the noise in the scale [0, 1] of the image"
                )

    def apply(self, clean: Field, rng: np.random.Generator) -> Field:
        """Add noise to an image in [0, 1] of any shape; nothing is clipped."""
        counted = self.gain * rng.poisson(clean / self.gain) if self.gain else clean
        return np.asarray(counted + rng.normal(0.0, self.sigma, clean.shape), np.float32)


@dataclass(frozen=True)
class Phantom:
    """One synthetic radiograph with its truth.

    Attributes:
        image: What the detector shows, in [0, 1], bright where dense, (H, W) float32.
        clean: The same before the noise, (H, W) float32.
        lungs: The visible lung fields of the anatomy, without the lung behind the heart, (H, W) bool.
        lesion: Where the finding changed the clean gray value noticeably, (H, W) bool.
        finding: Name of the finding, or None for a healthy person.
        age: In years.
        sex: "M" or "F".
    """

    image: Field
    clean: Field
    lungs: NDArray[np.bool_]
    lesion: NDArray[np.bool_]
    finding: Finding | None
    age: int
    sex: str


DEFAULT_NOISE = NoiseModel()


def draw_phantom(
    rng: np.random.Generator, size: int = 256, finding: Finding | None = None, noise: NoiseModel = DEFAULT_NOISE
) -> Phantom:
    """Draw one radiograph. The same generator state gives the same anatomy at any size, with and without a finding.

    Args:
        rng: Source of all that varies: pose, build, exposure, finding, noise.
        size: Height and width in pixels, 32 to 2048.
        finding: Disease to add, or None.
        noise: Noise of the detector.

    Returns:
        The radiograph with its lung and lesion masks.

    Raises:
        SettingError: If the size or the finding is not one of those above.

    Example:
        >>> phantom = draw_phantom(np.random.default_rng(0), size=64, finding="effusion")
        >>> phantom.image.shape, bool((phantom.lesion & ~phantom.lungs).mean() < 0.05)
        ((64, 64), True)
    """
    _check(size, finding)
    fine = -(-FINEST // size) if size < FINEST else 1
    thorax = draw_thorax(rng, size * fine)
    film = Film.random(rng)
    healthy = clean = _shrink(film.expose(thorax.path), fine)
    if finding is not None:
        clean = _shrink(film.expose(thorax.path + FINDINGS[finding](rng, thorax)), fine)
    return Phantom(
        image=np.clip(noise.apply(clean, rng), 0, 1),
        clean=clean,
        lungs=_shrink(thorax.lungs.fields, fine) > 0.5,  # noqa: PLR2004
        lesion=np.abs(clean - healthy) > NOTICEABLE,
        finding=finding,
        age=thorax.build.age,
        sex=thorax.build.sex,
    )


@dataclass(frozen=True)
class Film:
    """Response of the film: a sigmoid of the logarithm of the exposure, which is linear in the path."""

    contrast: float  # per cm of water
    speed: float  # path that gives half the density, cm of water
    gamma: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> Film:
        """Draw the exposure of one radiograph."""
        return cls(rng.uniform(0.30, 0.36), rng.uniform(12.2, 13.4), rng.uniform(0.92, 1.08))

    def expose(self, path: Field) -> Field:
        """Return the gray value in [0, 1] for paths in cm of water."""
        density = expit(self.contrast * (path - self.speed)) ** self.gamma
        return np.asarray(FOG + (SHOULDER - FOG) * density, np.float32)


def _check(size: int, finding: str | None) -> None:
    if not SMALLEST <= size <= LARGEST:
        raise SettingError(
            f"size = {size}", f"{SMALLEST} <= size <= {LARGEST}", "choose a size in pixels in this range"
        )
    if finding is not None and finding not in FINDINGS:
        raise SettingError(f"finding = {finding!r}", f"one of {', '.join(FINDINGS)}, or None", "correct the name")


def _shrink(image: Field, factor: int) -> Field:
    """Average over blocks of factor x factor pixels."""
    size = image.shape[0] // factor
    return np.asarray(image.reshape(size, factor, size, factor).mean(axis=(1, 3)), np.float32)
