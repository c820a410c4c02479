"""Pure functions on tensors, independent of anomalib and Lightning."""

from .adversarial import DISTANCES, Distance, euclidean_distance, gradient_penalty, mean_squared_distance
from .resize import antialiased_resize
from .roi import apply_roi, reconstructed_region
from .sure import (
    frozen_running_statistics,
    gaussian_sure,
    gaussian_sure_from_divergence,
    poisson_gaussian_sure,
    poisson_gaussian_sure_from_response,
    probe_divergence,
    probe_response,
)

__all__ = [
    "DISTANCES",
    "Distance",
    "antialiased_resize",
    "apply_roi",
    "euclidean_distance",
    "frozen_running_statistics",
    "gaussian_sure",
    "gaussian_sure_from_divergence",
    "gradient_penalty",
    "mean_squared_distance",
    "poisson_gaussian_sure",
    "poisson_gaussian_sure_from_response",
    "probe_divergence",
    "probe_response",
    "reconstructed_region",
]
