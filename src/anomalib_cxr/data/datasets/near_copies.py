"""Nearly identical X-rays, by a perceptual hash.

The hash is the usual one by the discrete cosine transform (C. Zauner, "Implementation and Benchmarking of Perceptual
Image Hash Functions", 2010), of 255 bits, since all chest X-rays look alike to the usual 64.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.fft import dctn

from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.functional import antialiased_resize
from anomalib_cxr.utils.threads import in_threads

from .image_cache import ImageCache
from .verification import SamplePaths

logger = logging.getLogger(__name__)

MAX_DISTANCE = 24
"""Bits by which the hashes of near copies differ at most.

Measured on 3 288 X-rays of three hospitals (5.4 million pairs): as JPEG of quality 40, at half the size, or with noise
an X-ray differs from itself by 12 at most; with a gamma of 0.7 by 22 and with 1 % cut off each side by 28, in 95 % of
the cases; with 3 % cut off by 58 in the median, which is not found. Two X-rays differ by 40 at least, but for one pair
of a patient, which is the same image twice. With each 4 bits less, pairs become 0.4 times as many: among 100 000 X-rays
some tens of pairs are to be expected by chance.
"""
ALIKE = 0.1, 4
"""Of images that all look alike, such as drawings, near copies are rarer still: they differ at most by a quarter of
what the most similar tenth of all pairs differ by. Those of X-rays differ by 90 to 104 bits, of phantoms by 50."""
_SAMPLE, _LEAST_SAMPLE = 500, 20
_SIDE, _FREQUENCIES = 64, 16
_N_BITS = _FREQUENCIES**2 - 1
_BLOCK = 512  # hashes that are compared with all others at once
_MAX_LISTED = 100


def perceptual_hash(image: torch.Tensor) -> NDArray[np.bool_]:
    """Return the signs of an image's low frequencies against their median.

    Args:
        image: X-ray in [0, 1], `(1, H, W)`.

    Returns:
        `(255,)`, bool.

    Example:
        >>> image = torch.rand(1, 128, 128)
        >>> int((perceptual_hash(image) != perceptual_hash(0.5 * image)).sum())
        0
    """
    small = antialiased_resize(image[None], (_SIDE, _SIDE))[0, 0].numpy()
    low = dctn(small, norm="ortho")[:_FREQUENCIES, :_FREQUENCIES].ravel()[1:]  # without the mean
    signs: NDArray[np.bool_] = low > np.median(low)
    return signs


class ImageHashes:
    """Perceptual hashes of X-rays, computed while their files are checked, or read from a cache.

    Example:
        >>> len(ImageHashes().of([], None))
        0
    """

    def __init__(self) -> None:
        self._known: dict[str, NDArray[np.bool_]] = {}

    def hash_and_size(self, paths: SamplePaths) -> tuple[int, ...]:
        """Hash an image while its size is read, as :class:`ReadSize` in a verification.

        Args:
            paths: Files of the sample.

        Returns:
            Height and width.
        """
        image = read_radiograph(paths.image, paths.sixteen_bit_white)
        self._known[paths.image] = perceptual_hash(image)
        return tuple(image.shape[-2:])

    def of(self, table: Sequence[SamplePaths], cache: ImageCache | None) -> NDArray[np.bool_]:
        """Return the hashes of X-rays.

        Args:
            table: Files of each sample.
            cache: Cache of the images that were not hashed before; None to read their files.

        Returns:
            `(N, 255)`, bool.
        """

        def add(paths: SamplePaths) -> None:
            if cache is None:
                self.hash_and_size(paths)
            else:
                self._known[paths.image] = perceptual_hash(cache.read(paths).image)

        missing = [paths for paths in table if paths.image not in self._known]
        list(in_threads(add, missing, "Comparing images"))
        return np.array([self._known[paths.image] for paths in table], dtype=bool).reshape(len(table), _N_BITS)


def largest_distance(hashes: NDArray[np.bool_]) -> int:
    """Return the bits by which the hashes of near copies among these images differ at most.

    Args:
        hashes: Hash of each image, `(N, 255)`.

    Returns:
        :data:`MAX_DISTANCE`, or less if the images are :data:`ALIKE`.

    Example:
        >>> largest_distance(np.random.default_rng(0).random((100, 255)) > 0.5)
        24
    """
    some = hashes[:: -(-len(hashes) // _SAMPLE) or 1]
    if len(some) < _LEAST_SAMPLE:
        return MAX_DISTANCE
    signs = some.astype(np.float32) * 2 - 1
    distances = ((_N_BITS - signs @ signs.T) / 2)[np.triu_indices(len(signs), 1)]
    share, divisor = ALIKE
    return min(MAX_DISTANCE, int(np.quantile(distances, share) / divisor))


def near_copies(
    hashes: NDArray[np.bool_], kinds: Sequence[object], max_distance: int = MAX_DISTANCE
) -> list[tuple[int, int]]:
    """Find pairs of different kinds whose hashes differ by few bits.

    Args:
        hashes: Hash of each X-ray, `(N, 255)`.
        kinds: Kind of each, such as its split and label.
        max_distance: Bits by which two hashes differ at most.

    Returns:
        Rows of each pair, in order.

    Example:
        >>> hashes = np.array([[True] * 255, [True] * 250 + [False] * 5, [False] * 255])
        >>> near_copies(hashes, ["train", "test", "test"])
        [(0, 1)]
    """
    signs = torch.from_numpy(hashes.astype(np.float32) * 2 - 1)
    codes = torch.from_numpy(pd.factorize(pd.Series(list(kinds), dtype=object))[0])
    least = _N_BITS - 2 * max_distance  # product of two hashes: bits that agree minus those that do not
    pairs = []
    for start in range(0, len(signs), _BLOCK):
        block = slice(start, start + _BLOCK)
        near = (signs[block] @ signs[start:].T >= least) & (codes[block, None] != codes[None, start:])
        first, second = torch.nonzero(near, as_tuple=True)
        pairs += [(start + i, start + j) for i, j in zip(first.tolist(), second.tolist(), strict=True) if i < j]
    return pairs


def warn_of_near_copies(samples: pd.DataFrame, hashes: NDArray[np.bool_]) -> None:
    """Warn of nearly identical X-rays in two splits or with two labels, by name.

    Args:
        samples: A samples table, split.
        hashes: Hash of each X-ray, `(N, 255)`.
    """
    used = np.flatnonzero(samples.split != "unused")
    places = (samples.split + ", " + samples.label).iloc[used].tolist()
    names = samples.image_path.iloc[used].tolist()
    pairs = near_copies(hashes[used], places, largest_distance(hashes[used]))
    if pairs:
        lines = [f"  {names[i]} ({places[i]}) and {names[j]} ({places[j]})" for i, j in pairs[:_MAX_LISTED]]
        rest = [f"  and {len(pairs) - _MAX_LISTED} more"] if len(pairs) > _MAX_LISTED else []
        logger.warning(
            "%d pairs of nearly identical X-rays are in two splits or have two labels. A test on images that trained "
            "is too good; check whether they are of the same person:\n%s",
            len(pairs),
            "\n".join([*lines, *rest]),
        )
