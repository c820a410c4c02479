"""Pure functions on tensors, independent of anomalib and Lightning."""

from .distance import euclidean_distance
from .penalty import gradient_penalty
from .resize import antialiased_resize
from .risk import frozen_running_statistics, gaussian_sure, gaussian_sure_from_divergence, probe_divergence
from .roi import paint_region, painted_region

__all__ = [
    "antialiased_resize",
    "euclidean_distance",
    "frozen_running_statistics",
    "gaussian_sure",
    "gaussian_sure_from_divergence",
    "gradient_penalty",
    "paint_region",
    "painted_region",
    "probe_divergence",
]
