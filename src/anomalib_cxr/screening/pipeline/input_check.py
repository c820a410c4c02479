"""Input check before scoring: refuses what is no upright frontal chest X-ray.

A model scores whatever it is given, and a photograph or an X-ray upside down may well score as normal. A network that
comes with the package classifies a thumbnail, whatever the hospital. In addition, the segmented lungs must have
plausible size and place. Its card, with data, training and measurements: `docs/reference/input_check.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import openvino
from safetensors import SafetensorError
from safetensors.numpy import load

from anomalib_cxr.data.reading.downsampling import downsample
from anomalib_cxr.deploy.inference import ThreadedNetwork
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.segmentation.postprocessing import LungMask, is_plausible
from anomalib_cxr.utils.packaged_file import read_packaged

from .frontal_graph import KINDS, SIDE, build_graph

Images = npt.NDArray[np.float32]

WEIGHTS = Path(__file__).with_name("frontal.safetensors")
"""File of the weights inside the package."""
SHA256 = "fa0b312a97d491caf9178dcbb6284f97fe7cba15a712e2038d1144a2a28f9fd7"
"""SHA-256 of that file, as trained; another file is refused."""
LEAST_FRONTAL = 0.2
"""Lowest probability of an upright frontal chest X-ray at which an image is accepted."""


NO_FRONTAL = "no upright frontal chest X-ray"
"""What is said of images that the network does not take for one; of what else they look like it knows less."""
_LEAST_RIGHTED = 0.5  # probability of a frontal X-ray after it was turned back or inverted: more likely than not
_RIGHTED: Mapping[str, Callable[[Images], list[Images]]] = {
    "turned by 90 degrees": lambda image: [np.rot90(image, times) for times in (1, -1)],
    "upside down": lambda image: [np.rot90(image, 2)],
    "inverted, dense tissue dark": lambda image: [1 - image],
}
"""Ways to undo a kind. To which side an image is turned is not known, since its mirror image counts as well."""


class InputCheck:
    """Input check with a trained network.

    Args:
        network: Graph of the network.

    Example:
        >>> check = InputCheck.load(WEIGHTS)
        >>> check.refusals(np.zeros((128, 128), np.float32), np.zeros((64, 64), bool))
        ['blank']
    """

    def __init__(self, network: openvino.Model) -> None:
        self._network = ThreadedNetwork(network, "CPU", [0])

    def refusals(self, radiograph: Images, lungs: LungMask, probabilities: Images | None = None) -> list[str]:
        """Return the reasons to refuse an image; an empty list accepts it.

        Args:
            radiograph: Image in [0, 1], `(H, W)`.
            lungs: Mask of its lungs, `(S, S)`.
            probabilities: Its :meth:`probabilities`, where they were computed in a batch.

        Returns:
            Reasons in a few words each, such as `upside down`.
        """
        if not radiograph.max() - radiograph.min() >= 1 / 255:  # NaN is refused
            return ["blank"]
        reasons = []
        if probabilities is None:
            probabilities = self.probabilities(radiograph)
        if not probabilities[0] >= LEAST_FRONTAL:  # refuses NaN, too
            reasons.append(self._describe(radiograph, probabilities))
        if not is_plausible(lungs):
            reasons.append("no two lungs of plausible size and place")
        return reasons

    def _describe(self, radiograph: Images, probabilities: Images) -> str:
        """Describe a refused image: that it is turned or inverted only if it is frontal when that is undone."""
        kind = KINDS[1:][int(probabilities[1:].argmax())]
        if kind in _RIGHTED:
            frontal = [float(self.probabilities(image)[0]) for image in _RIGHTED[kind](radiograph)]
            return kind if max(frontal) >= _LEAST_RIGHTED else NO_FRONTAL
        return NO_FRONTAL if kind == KINDS[-1] else f"{NO_FRONTAL}; most like {kind}"

    @staticmethod
    def reduce(radiograph: Images) -> Images:
        """Reduce an image to the thumbnail that the network looks at, `(H, W)` to `(SIDE, SIDE)`."""
        return downsample(radiograph, (SIDE, SIDE))

    def probabilities(self, radiograph: Images) -> Images:
        """Compute the probability of each kind of image, mean of the image and its mirror image.

        Args:
            radiograph: Image in [0, 1], `(H, W)`.

        Returns:
            Probabilities of :data:`~anomalib_cxr.screening.pipeline.frontal_graph.KINDS`, `(K,)`.
        """
        (probabilities,) = self.probabilities_of_thumbnails(self.reduce(radiograph)[None])
        return np.asarray(probabilities)

    def probabilities_of_thumbnails(self, thumbnails: Images) -> Images:
        """Compute :meth:`probabilities` of several images at once.

        Args:
            thumbnails: Images after :meth:`reduce`, `(B, SIDE, SIDE)`.

        Returns:
            Probabilities, `(B, K)`.
        """
        mirrored = np.ascontiguousarray(thumbnails[..., ::-1])
        mean: Images = np.mean([self._network(images[:, None])[0] for images in (thumbnails, mirrored)], axis=0)
        return mean

    @classmethod
    def load(cls, path: Path, content: bytes | None = None) -> InputCheck:
        """Read a check from the file of its weights.

        Args:
            path: File to read.
            content: Its bytes, where they were read before; the path is then only for errors.

        Returns:
            The check.

        Raises:
            ScreeningError: If the file is missing, damaged or of another kind.

        Example:
            >>> InputCheck.load(WEIGHTS).probabilities(np.zeros((64, 64), np.float32)).shape
            (9,)
        """
        try:
            weights = load(path.read_bytes() if content is None else content)
            network = build_graph({name: weight.astype(np.float32) for name, weight in weights.items()})
        except (OSError, SafetensorError, RuntimeError, KeyError, ValueError) as error:
            raise ScreeningError(
                f"{path}: {error}", "the input check of a calibration", "run `anomalib-cxr calibrate` anew"
            ) from error
        return cls(network)


def packaged_input_check() -> bytes:
    """Return the content of the weights that come with the package, after a check of their SHA-256.

    Raises:
        ScreeningError: If the file is missing or not the one that was packaged.

    Example:
        >>> len(packaged_input_check()) < 500_000
        True
    """
    return read_packaged(WEIGHTS, SHA256, ScreeningError)
