"""Pure functions on tensors, independent of anomalib and Lightning."""

from .distance import DISTANCES, Distance, euclidean_distance, mean_squared_distance
from .penalty import gradient_penalty
from .poisson_risk import poisson_gaussian_sure, poisson_gaussian_sure_from_response
from .resize import antialiased_resize
from .risk import (
    frozen_running_statistics,
    gaussian_sure,
    gaussian_sure_from_divergence,
    probe_divergence,
    probe_response,
)
from .roi import paint_region, painted_region

__all__ = [
    "DISTANCES",
    "Distance",
    "antialiased_resize",
    "euclidean_distance",
    "frozen_running_statistics",
    "gaussian_sure",
    "gaussian_sure_from_divergence",
    "gradient_penalty",
    "mean_squared_distance",
    "paint_region",
    "painted_region",
    "poisson_gaussian_sure",
    "poisson_gaussian_sure_from_response",
    "probe_divergence",
    "probe_response",
]
