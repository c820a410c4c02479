"""Synthetic frontal chest radiographs with lung and lesion masks."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from anomalib_cxr.utils.settings import NonNegativeFloat, between, check_settings

from .findings import FINDINGS, FindingName
from .geometry import FloatImage
from .thorax import draw_thorax

PhantomSize = Annotated[int, between(32, 2048)]
"""Height and width of a phantom in pixels."""
VISIBLE = 0.03  # change of the noise-free gray value that a reader can see
_MIN_DRAWN = 256  # smaller images are downsampled from at least this size, so that ribs do not alias
_FOG, _SATURATION = 0.05, 0.95  # gray values of bare and of saturated film; the margins keep noise from being clipped


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

    gain: NonNegativeFloat = 0.0002
    sigma: NonNegativeFloat = 0.01

    def __post_init__(self) -> None:
        check_settings(NoiseModel, vars(self), "the noise, in the scale [0, 1] of the image")

    def apply(self, clean: FloatImage, rng: np.random.Generator) -> FloatImage:
        """Add noise to an image.

        Args:
            clean: Image in [0, 1], of any shape.
            rng: Random generator.

        Returns:
            Noisy image, not clipped to [0, 1].
        """
        poisson = self.gain * rng.poisson(clean / self.gain) if self.gain else clean
        return np.asarray(poisson + rng.normal(0.0, self.sigma, clean.shape), np.float32)


@dataclass(frozen=True)
class Phantom:
    """Synthetic radiograph with its ground truth.

    Attributes:
        image: Radiograph in [0, 1], dense tissue bright, (H, W) float32.
        clean: Radiograph without noise, (H, W) float32.
        lungs: Mask of the visible lung fields, without the lung behind the heart, (H, W) bool.
        lesion: Mask of the pixels whose noise-free gray value the finding changes visibly, (H, W) bool.
        finding: Name of the finding, or None for a healthy person.
        age: Age in years.
        sex: "M" or "F".
    """

    image: FloatImage
    clean: FloatImage
    lungs: NDArray[np.bool_]
    lesion: NDArray[np.bool_]
    finding: FindingName | None
    age: int
    sex: str


DEFAULT_NOISE = NoiseModel()


def draw_phantom(
    rng: np.random.Generator,
    size: PhantomSize = 256,
    finding: FindingName | None = None,
    noise: NoiseModel = DEFAULT_NOISE,
) -> Phantom:
    """Draw one radiograph.

    Args:
        rng: Random generator of pose, anatomy, exposure, finding and noise. The same state gives the same anatomy at
            any size, with and without a finding.
        size: Height and width in pixels, 32 to 2048.
        finding: Name of a finding, or None for a healthy person.
        noise: Noise of the detector.

    Returns:
        The radiograph with its lung and lesion masks.

    Raises:
        SettingError: If the size is outside its range or the finding unknown.

    Example:
        >>> phantom = draw_phantom(np.random.default_rng(0), size=64, finding="effusion")
        >>> phantom.image.shape, bool((phantom.lesion & ~phantom.lungs).mean() < 0.05)
        ((64, 64), True)
    """
    check_settings(draw_phantom, {"size": size, "finding": finding}, "the settings of the phantom")
    factor = ceil(_MIN_DRAWN / size)
    thorax = draw_thorax(rng, size * factor)
    film = _FilmResponse.random(rng)
    healthy = clean = _downsample(film.expose(thorax.path), factor)
    if finding is not None:
        clean = _downsample(film.expose(thorax.path + FINDINGS[finding](rng, thorax)), factor)
    return Phantom(
        image=np.clip(noise.apply(clean, rng), 0, 1),
        clean=clean,
        lungs=_downsample(thorax.lungs.fields, factor) > 0.5,  # noqa: PLR2004
        lesion=np.abs(clean - healthy) > VISIBLE,
        finding=finding,
        age=thorax.anatomy.age,
        sex=thorax.anatomy.sex,
    )


@dataclass(frozen=True)
class _FilmResponse:
    """Characteristic curve of the film: a sigmoid of the log exposure, which is linear in the path length.

    Attributes:
        contrast: Slope per cm of water.
        half_path: Path length of half the maximum, cm of water.
        gamma: Exponent of the gray values.
    """

    contrast: float
    half_path: float
    gamma: float

    @classmethod
    def random(cls, rng: np.random.Generator) -> _FilmResponse:
        """Return the response for a random exposure."""
        return cls(rng.uniform(0.30, 0.36), rng.uniform(12.2, 13.4), rng.uniform(0.92, 1.08))

    def expose(self, path: FloatImage) -> FloatImage:
        """Return gray values in [0, 1] for path lengths in cm of water."""
        density = expit(self.contrast * (path - self.half_path)) ** self.gamma
        return np.asarray(_FOG + (_SATURATION - _FOG) * density, np.float32)


def _downsample(image: FloatImage, factor: int) -> FloatImage:
    """Return the means over blocks of factor x factor pixels."""
    size = image.shape[0] // factor
    return np.asarray(image.reshape(size, factor, size, factor).mean(axis=(1, 3)), np.float32)
