"""Losses of RoiSureGanomaly; each term is one pure function, and the weighted sum reads like the equation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

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

from .settings import LossWeights, ReconstructionTerm
from .torch_model import Reconstruction

RISKS = ("sure", "pg_sure")
"""Terms that estimate the error against the clean region, from two passes."""
TERMS = {"l_adv": "adversarial", "l_enc": "latent", "l_rec": "reconstruction"}
"""Terms of the generator's loss, with the names of their weights."""


def feature_matching(real: torch.Tensor, generated: torch.Tensor, distance: Distance = "euclidean") -> torch.Tensor:
    """Return `|| f(Y) - f(Y_hat) ||_2`, the mean over the batch of the distance of the discriminator's features.

    Args:
        real: Features of the true region, `(B, C, H, W)`.
        generated: Features of the reconstruction, `(B, C, H, W)`.
        distance: `euclidean`; or `mean_squared`, as GANomaly has it.

    Returns:
        A scalar.
    """
    return DISTANCES[distance](real, generated).mean()


def latent_agreement(reconstruction: Reconstruction, distance: Distance = "euclidean") -> torch.Tensor:
    """Return `|| z - z_hat ||_2`, the mean over the batch of the distance of the two codes.

    Args:
        reconstruction: A reconstruction with both codes.
        distance: `euclidean`; or `mean_squared`, as GANomaly has it.

    Returns:
        A scalar.
    """
    return DISTANCES[distance](reconstruction.z, reconstruction.z_hat).mean()


def discriminator_loss(real_logits: torch.Tensor, generated_logits: torch.Tensor) -> torch.Tensor:
    """Return half the cross-entropy of each side, with label 1 for real regions and 0 for generated ones.

    Args:
        real_logits: Logits of the true regions, `(B,)`.
        generated_logits: Logits of the reconstructions, `(B,)`, detached from the generator.

    Returns:
        A scalar.
    """
    real = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
    generated = F.binary_cross_entropy_with_logits(generated_logits, torch.zeros_like(generated_logits))
    return 0.5 * generated + 0.5 * real


class ReconstructionValue(NamedTuple):
    """The reconstruction term of a batch and, where it is a risk estimate, the divergence in it."""

    loss: torch.Tensor
    divergence: torch.Tensor | None


class ReconstructionLoss(nn.Module):
    """Error of the reconstruction in the region of interest.

    Args:
        term: `sure`: estimated squared error against the CLEAN region, under Gaussian noise; `pg_sure`: the same under
            Poisson-Gaussian noise; `l2`: mean squared error against the observed one (the dissertation's Oracle);
            `l1`: mean absolute error (GANomaly).
        sigma: Standard deviation of the noise in the scale of [-1, 1], of `pg_sure` that of black, for both estimates.
        tau: Length of the finite difference in the scale of [-1, 1], for both estimates.
        gain: Growth of the noise's variance with the intensity in the scale of [-1, 1], for `pg_sure`.
    """

    def __init__(self, term: ReconstructionTerm, sigma: float, tau: float, gain: float = 0.0) -> None:
        super().__init__()
        self.term = term
        self.sigma = sigma
        self.tau = tau
        self.gain = gain

    def forward(
        self, image: torch.Tensor, mask: torch.Tensor | None, reconstructed: torch.Tensor, generator: Denoiser
    ) -> ReconstructionValue:
        """Compare a reconstruction with its region of interest.

        Args:
            image: X-rays in [-1, 1], `(B, 1, H, W)`.
            mask: Region of interest, `(B, 1, H, W)`, or None for the whole image.
            reconstructed: Reconstruction, `(B, C, H, W)`, each channel of which is to be the region; float32 for a risk
                estimate.
            generator: Called once more by a risk estimate.

        Returns:
            Scalars.
        """
        if self.term == "sure":
            divergence = probe_divergence(image, reconstructed, generator, mask, tau=self.tau)  # (B,)
            risk = gaussian_sure_from_divergence(image, reconstructed, divergence, self.sigma, mask)  # (B,)
            return ReconstructionValue(risk.mean(), divergence.mean())
        if self.term == "pg_sure":
            response = probe_response(image, reconstructed, generator, mask, tau=self.tau)  # (B, C, H, W)
            risk = poisson_gaussian_sure_from_response(
                image, reconstructed, response, self.gain, self.sigma, mask, tau=self.tau
            )
            return ReconstructionValue(risk.mean(), response.flatten(1).sum(1).mean() / self.tau)
        error = F.mse_loss if self.term == "l2" else F.l1_loss
        return ReconstructionValue(error(reconstructed, apply_roi(image, mask).expand_as(reconstructed)), None)


class GeneratorLoss(nn.Module):
    """`w_adv * l_adv + w_enc * l_enc + w_rec * l_rec`.

    Args:
        weights: The three weights.

    Example:
        >>> loss = GeneratorLoss(LossWeights(adversarial=1, latent=1, reconstruction=50))
        >>> loss(torch.tensor(0.5), torch.tensor(0.25), torch.tensor(0.01))
        tensor(1.2500)
    """

    def __init__(self, weights: LossWeights) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, l_adv: torch.Tensor, l_enc: torch.Tensor, l_rec: torch.Tensor) -> torch.Tensor:
        """Add the three terms, each a scalar.

        Args:
            l_adv: Adversarial term.
            l_enc: Distance of the codes.
            l_rec: Reconstruction term.

        Returns:
            A scalar.
        """
        weights = self.weights
        return weights.adversarial * l_adv + weights.latent * l_enc + weights.reconstruction * l_rec

    def shares(self, terms: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the share that each weighted term has in the sum of their absolute values.

        The reading of the distances moves it by an order of magnitude: plain Euclidean norms of features and codes are
        large beside a mean squared error.

        Args:
            terms: Terms by their names in :data:`TERMS`, scalars.

        Returns:
            `share_adv`, `share_enc` and `share_rec`, as far as their terms are given, detached; 0 where all terms are.

        Example:
            >>> loss = GeneratorLoss(LossWeights(adversarial=1, latent=1, reconstruction=50))
            >>> loss.shares({"l_adv": torch.tensor(3.0), "l_enc": torch.tensor(1.0), "l_rec": torch.tensor(0.02)})
            {'share_adv': tensor(0.6000), 'share_enc': tensor(0.2000), 'share_rec': tensor(0.2000)}
        """
        weighted = {name: getattr(self.weights, TERMS[name]) * term.detach().abs() for name, term in terms.items()}
        total = torch.stack(list(weighted.values())).sum().clamp(min=torch.finfo(torch.float32).tiny)
        return {f"share_{name.removeprefix('l_')}": term / total for name, term in weighted.items()}
