"""Losses of RoiSureGanomaly; each term is one pure function, and the weighted sum reads like the equation."""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812  # the name that torch's users know

from anomalib_cxr.functional import (
    DISTANCES,
    Distance,
    apply_roi,
    gaussian_sure_from_divergence,
    poisson_gaussian_sure_from_response,
    probe_divergence,
    probe_response,
)
from anomalib_cxr.functional.sure import Denoiser

from .members import Painting

Reconstruction = Literal["sure", "l2", "l1", "pg_sure"]
RECONSTRUCTIONS: tuple[str, ...] = get_args(Reconstruction)
RISKS = ("sure", "pg_sure")
"""Those that estimate the error against the clean region, from two passes."""


def feature_matching(real: torch.Tensor, painted: torch.Tensor, distance: Distance = "euclidean") -> torch.Tensor:
    """Return `|| f(Y) - f(Y_hat) ||_2`, the mean over the batch of the distance of the discriminator's features.

    Args:
        real: Features of the true region, `(B, C, H, W)`.
        painted: Features of the painted region, `(B, C, H, W)`.
        distance: `euclidean`; or `mean_squared`, as GANomaly has it.
    """
    return DISTANCES[distance](real, painted).mean()


def latent_agreement(painting: Painting, distance: Distance = "euclidean") -> torch.Tensor:
    """Return `|| z_full - z_painted ||_2`, the mean over the batch of the distance of the two codes.

    Args:
        painting: A painting with both codes.
        distance: `euclidean`; or `mean_squared`, as GANomaly has it.
    """
    return DISTANCES[distance](painting.z_full, painting.z_painted).mean()


def discriminator_loss(real_logits: torch.Tensor, painted_logits: torch.Tensor) -> torch.Tensor:
    """Return half the cross-entropy of each side: real regions are to be called 1, painted ones 0.

    Args:
        real_logits: Logits of the true regions, `(B,)`.
        painted_logits: Logits of the painted regions, `(B,)`, detached from the painter.
    """
    real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    fake = F.binary_cross_entropy_with_logits(painted_logits, torch.zeros_like(painted_logits))
    return 0.5 * fake + 0.5 * real


class ReconstructionTerms(NamedTuple):
    """The reconstruction term of a batch and, where it is a risk estimate, the divergence in it."""

    loss: torch.Tensor
    divergence: torch.Tensor | None


class ReconstructionLoss(nn.Module):
    """How far the painting is from the region of interest, in one of four ways.

    Args:
        reconstruction: `sure`: estimated squared error against the CLEAN region, under Gaussian noise; `pg_sure`: the
            same under Poisson-Gaussian noise; `l2`: mean squared error against the observed one (the dissertation's
            Oracle); `l1`: mean absolute error (GANomaly).
        sigma: Standard deviation of the noise in the scale of [-1, 1], of `pg_sure` that of black, for both estimates.
        tau: Length of the finite difference in the scale of [-1, 1], for both estimates.
        gain: Growth of the noise's variance with the intensity in the scale of [-1, 1], for `pg_sure`.
    """

    def __init__(self, reconstruction: Reconstruction, sigma: float, tau: float, gain: float = 0.0) -> None:
        super().__init__()
        self.reconstruction = reconstruction
        self.sigma = sigma
        self.tau = tau
        self.gain = gain

    def forward(
        self, image: torch.Tensor, mask: torch.Tensor | None, painted: torch.Tensor, painter: Denoiser
    ) -> ReconstructionTerms:
        """Compare a painting with its region of interest.

        Args:
            image: X-rays in [-1, 1], `(B, 1, H, W)`.
            mask: Region of interest, `(B, 1, H, W)`, or None for the whole image.
            painted: The painting, `(B, C, H, W)`, each channel of which is to be the region; float32 for an estimate.
            painter: Called once more by an estimate.
        """
        if self.reconstruction == "sure":
            divergence = probe_divergence(image, painted, painter, mask, tau=self.tau)
            risk = gaussian_sure_from_divergence(image, painted, divergence, self.sigma, mask)
            return ReconstructionTerms(risk.mean(), divergence.mean())
        if self.reconstruction == "pg_sure":
            response = probe_response(image, painted, painter, mask, tau=self.tau)
            risk = poisson_gaussian_sure_from_response(
                image, painted, response, self.gain, self.sigma, mask, tau=self.tau
            )
            return ReconstructionTerms(risk.mean(), response.flatten(1).sum(1).mean() / self.tau)
        distance = F.mse_loss if self.reconstruction == "l2" else F.l1_loss
        return ReconstructionTerms(distance(painted, apply_roi(image, mask).expand_as(painted)), None)


class GeneratorLoss(nn.Module):
    """`w_adv * l_adv + w_enc * l_enc + w_rec * l_rec`.

    Args:
        w_adv: Weight of the adversary's term.
        w_enc: Weight of the agreement of the codes.
        w_rec: Weight of the reconstruction.

    Example:
        >>> loss = GeneratorLoss(w_adv=1, w_enc=1, w_rec=50)
        >>> loss(torch.tensor(0.5), torch.tensor(0.25), torch.tensor(0.01))
        tensor(1.2500)
    """

    def __init__(self, w_adv: float = 1.0, w_enc: float = 1.0, w_rec: float = 50.0) -> None:
        super().__init__()
        self.w_adv = w_adv
        self.w_enc = w_enc
        self.w_rec = w_rec

    def forward(self, l_adv: torch.Tensor, l_enc: torch.Tensor, l_rec: torch.Tensor) -> torch.Tensor:
        """Add the three terms, each a scalar."""
        return self.w_adv * l_adv + self.w_enc * l_enc + self.w_rec * l_rec
