"""Simulated detector noise as a transform."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from torchvision.transforms.v2 import Transform
from torchvision.tv_tensors import Image, TVTensor

from anomalib_cxr.data.phantom.drawing import NoiseModel
from anomalib_cxr.errors import CxrError, SettingError


class DetectorNoise(Transform):  # type: ignore[misc]  # torchvision has no types
    r"""Poisson-Gaussian noise, always the same for the same image.

    The noise is that of :class:`anomalib_cxr.data.phantom.drawing.NoiseModel`: an image x in [0, 1] becomes one with
    the mean x and the variance :math:`gain \cdot x + \sigma^2`. Nothing is clipped: the risk estimators assume so, and
    batches, pre-processing and models accept values outside [0, 1].

    The random generator is seeded by `seed` and the content of the image. So the noise does not depend on the order of
    the images, the epoch, or the process that reads them: every image is one acquisition.

    Resizing averages noise away. For noise of the given strength, resize first, to the input size of the network and
    in the same way as the model does, which then leaves the image as it is:

    .. code-block:: yaml

        data:
          init_args:
            augmentations:
              class_path: torchvision.transforms.v2.Compose
              init_args:
                transforms:
                  - {class_path: torchvision.transforms.v2.Resize, init_args: {size: [64, 64]}}
                  - {class_path: anomalib_cxr.DetectorNoise, init_args: {gain: 0.01, sigma: 0.05}}

    Args:
        gain: Gray value of one photon, on the scale [0, 1]; 0 for no Poisson part.
        sigma: Standard deviation of the Gaussian part, on the scale [0, 1]; 0 for none. In the scale of the networks,
            [-1, 1], both double.
        seed: Seed of the noise, at least 0.

    Raises:
        SettingError: If `gain` or `sigma` is negative or not finite, or `seed` negative.

    Example:
        >>> image = Image(torch.full((1, 64, 64), 0.5))
        >>> noisy = DetectorNoise(gain=0.02, sigma=0.1)(image)
        >>> round((noisy - image).var().item(), 2), round(0.02 * 0.5 + 0.1**2, 2)
        (0.02, 0.02)
    """

    def __init__(self, gain: float = 0.0, sigma: float = 0.0, seed: int = 0) -> None:
        super().__init__()
        if seed < 0:
            raise SettingError(f"seed = {seed}", "seed >= 0", "correct the seed of the noise")
        self.noise = NoiseModel(gain, sigma)
        self.seed = seed

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Add noise to an image; masks and other inputs are returned unchanged.

        Args:
            inpt: Image `(C, H, W)` of floats, 0 for black; or another input.
            params: Not used.

        Returns:
            The noisy image, or the input.

        Raises:
            CxrError: If the image is not of floats, or has negative values.
        """
        del params
        if isinstance(inpt, TVTensor) and not isinstance(inpt, Image):
            return inpt
        if not inpt.is_floating_point() or inpt.min() < 0:
            raise CxrError(
                f"an image of {inpt.dtype} with values from {inpt.min():g} to {inpt.max():g}",
                "floats from 0 (black) to 1 (white)",
                "add the noise once, and before the image is normalized",
            )
        clean = np.ascontiguousarray(inpt.numpy())
        content = int.from_bytes(hashlib.blake2b(clean.tobytes(), digest_size=16).digest(), "little")
        noisy = self.noise.apply(clean, np.random.default_rng([self.seed, content]))
        return Image(torch.from_numpy(noisy))
