"""The networks that score: generator and second encoder, their input, and the scores of their reconstruction.

The discriminator is no part of them, because an exported model must not carry it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_cxr.errors import ScoreError
from anomalib_cxr.functional import DISTANCES, Distance, reconstructed_region
from anomalib_cxr.models.base.exposure import ExposureAdjustment, LungCrop, crop_lungs
from anomalib_cxr.models.base.healthy_maps import HealthyMaps
from anomalib_cxr.models.base.module import to_gray
from anomalib_cxr.models.base.segmenter import FrozenSegmenter
from anomalib_cxr.models.networks.dcgan import DcganGenerator, Generator, initialize_dcgan
from anomalib_cxr.models.networks.residual_unet import ResidualUnet

from .lung_frame import Inputs, LungFrames
from .scores import HealthyCodes, log_mean_square
from .settings import EnsembleSettings, GeneratorName, LungSettings, NetworkSettings, ScoreName

GENERATORS: dict[GeneratorName, type[DcganGenerator | ResidualUnet]] = {
    "dcgan": DcganGenerator,
    "residual_unet": ResidualUnet,
}
"""Networks that reconstruct, by the name that a configuration has for them."""


class Reconstruction(NamedTuple):
    """Output of a generator and both encoders, in the notation of GANomaly."""

    image: torch.Tensor
    """Reconstructed region of interest in [-1, 1], `(B, n_channels, H, W)`."""
    z: torch.Tensor
    """Code of the input, `(B, Z, 1, 1)`."""
    z_hat: torch.Tensor
    """Code of the reconstruction, `(B, Z, 1, 1)`."""


class Reconstructor(nn.Module):
    """A generator (first encoder and decoder), the second encoder, and statistics of healthy codes.

    Args:
        image_size: Side of the square image.
        settings: Settings of the networks.
        scores_codes: True where the score needs statistics of healthy codes.
    """

    generator: Generator
    codes: HealthyCodes | None

    def __init__(self, image_size: int, settings: NetworkSettings, *, scores_codes: bool) -> None:
        super().__init__()
        shape = (image_size, settings.latent_dim, settings.n_features, settings.max_features, settings.n_channels)
        kind = GENERATORS[settings.generator]
        self.generator = kind(*shape, settings.decoder_activation) if kind is DcganGenerator else kind(*shape)
        self.encoder = self.generator.new_encoder()
        self.apply(initialize_dcgan)
        self.codes = HealthyCodes(settings.latent_dim) if scores_codes else None

    def forward(self, image: torch.Tensor) -> Reconstruction:
        """Reconstruct the region of interest of an input, and encode both.

        Args:
            image: Inputs in [-1, 1], `(B, 1, H, W)`.

        Returns:
            Reconstruction and codes.
        """
        reconstructed, z = self.generator.reconstruct(image)  # (B, n_channels, H, W), (B, Z, 1, 1)
        return Reconstruction(reconstructed, z, self.encoder(reconstructed))


class Features(NamedTuple):
    """Quantities that scores are computed from, for each of `K` networks of an ensemble."""

    codes: torch.Tensor
    """Codes of the inputs, `(B, K, Z)`."""
    distances: torch.Tensor
    """Distances of the two codes, `(B, K)`."""
    residuals: torch.Tensor
    """Logarithm of the mean squared residual, `(B, K)`."""
    crops: LungCrop | None
    """Lung crops, if scores are adjusted for the exposure."""

    @staticmethod
    def concatenate(batches: Sequence[Features]) -> Features:
        """Concatenate features of several batches.

        Args:
            batches: The features of each.

        Returns:
            Those of all images.
        """
        codes, distances, residuals, crops = zip(*batches, strict=True)
        joined = None if crops[0] is None else LungCrop(*map(torch.cat, zip(*crops, strict=True)))
        return Features(torch.cat(codes), torch.cat(distances), torch.cat(residuals), joined)


class RoiSureGanomalyModel(nn.Module):
    """Scores an image by the distance of `z` and `z_hat`, the disagreement of the two encoders.

    On a healthy image both agree. On a sick one the generator, trained on healthy lungs only, reconstructs those.
    Other scores: the residual between input and reconstruction, or the distance of `z` from healthy codes. The score of
    an ensemble is the mean of theirs, each a logarithm.

    Args:
        image_size: Side of the square input of the networks, a power of two from 32 to 512.
        network: Settings of the networks.
        lungs: Settings of their input.
        ensemble: Settings of the ensemble.
        distance: Distance of the codes, by its name in :data:`anomalib_cxr.functional.DISTANCES`.
        whole_image: True where the target is the whole input: the anomaly map then covers all of it.
        score: `latent`, `residual` or `mahalanobis`.

    Example:
        >>> model = RoiSureGanomalyModel(64, NetworkSettings(latent_dim=10, n_features=8)).eval()
        >>> scores = model(torch.zeros(2, 3, 64, 64))
        >>> scores.pred_score.shape, scores.anomaly_map.shape
        (torch.Size([2]), torch.Size([2, 1, 64, 64]))
    """

    fitted: torch.Tensor

    def __init__(
        self,
        image_size: int = 256,
        network: NetworkSettings = NetworkSettings(),
        lungs: LungSettings = LungSettings(),
        ensemble: EnsembleSettings = EnsembleSettings(),
        *,
        distance: Distance = "euclidean",
        whole_image: bool = False,
        score: ScoreName = "latent",
    ) -> None:
        super().__init__()
        self.whole_image = whole_image
        self.distance = DISTANCES[distance]
        self.score = score
        self.frames = LungFrames(image_size, lungs.alignment, lungs.normalization, lungs.input_region == "lungs")
        self.ensemble = nn.ModuleList(
            Reconstructor(image_size, network, scores_codes=score == "mahalanobis") for _ in range(ensemble.n_folds)
        )
        needs_segmenter = lungs.needs_segmenter or ensemble.exposure_adjustment
        self.segmenter = FrozenSegmenter(image_size) if needs_segmenter else None
        self.exposure_adjustment = ExposureAdjustment(n_scores=1) if ensemble.exposure_adjustment else None
        self.healthy_maps = HealthyMaps((image_size, image_size))
        if self.learns_healthy:
            self.register_buffer("fitted", torch.tensor(False))

    @property
    def networks(self) -> list[Reconstructor]:
        """Return the networks of the ensemble."""
        return [each for each in self.ensemble if isinstance(each, Reconstructor)]

    @property
    def learns_healthy(self) -> bool:
        """Return True where scores need :meth:`fit_healthy`."""
        return self.score == "mahalanobis" or self.exposure_adjustment is not None

    def check_fitted(self) -> None:
        """Refuse to score without statistics of healthy images.

        Raises:
            ScoreError: If they are missing.
        """
        if self.learns_healthy and not self.fitted:
            missing = "healthy codes" if self.exposure_adjustment is None else "the exposure adjustment"
            raise ScoreError(
                f"a model without {missing}",
                "one whose training has reached the end of an epoch, where they are fitted to the training images",
                "train it, or load a checkpoint of a training that has",
            )

    def preprocess(self, images: torch.Tensor) -> Inputs:
        """Return the networks' input of X-rays.

        Args:
            images: X-rays in [-1, 1], `(B, C, H, W)`, their channels alike.

        Returns:
            The inputs, and their place in the X-rays.
        """
        return self._preprocess(to_gray(images))[0]

    def _preprocess(self, gray: torch.Tensor) -> tuple[Inputs, torch.Tensor | None]:
        """Return the inputs, and the probability of lung in the X-rays, `(B, 1, H, W)`."""
        probability = None if self.segmenter is None else self.segmenter(gray)
        return self.frames.preprocess(gray, probability if self.frames.needs_lungs else None), probability

    def reconstruct(self, images: torch.Tensor) -> torch.Tensor:
        """Reconstruct X-rays.

        Args:
            images: X-rays as the pre-processor leaves them, `(B, C, H, W)`.

        Returns:
            The mean of the ensemble's reconstructions in gray in [-1, 1], `(B, 1, H, W)`.
        """
        gray = to_gray(images)
        inputs = self.preprocess(gray)
        reconstructed = [to_gray(network(inputs.image).image) for network in self.networks]
        mean = torch.stack(reconstructed).mean(dim=0)  # (B, 1, S, S)
        return mean if inputs.frame.place is None else inputs.frame.back(mean + 1, gray) - 1

    def _residual(self, inputs: Inputs, reconstructed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the difference of input and reconstruction, and the region in which it counts, both `(B, 1, S, S)`.

        That is the lungs: as the rows' frame has them; else where a generator of lungs has reconstructed some, and for
        one of whole images where they were segmented, or all of the input without a segmenter.
        """
        residual = to_gray((inputs.image - reconstructed).abs())
        region = torch.ones_like(residual)
        if not self.whole_image and self.frames.alignment != "rows":
            region = reconstructed_region(to_gray(reconstructed))
        elif inputs.lungs is not None:
            region = inputs.lungs
        return residual, region if inputs.region is None else region * inputs.region

    def forward(self, images: torch.Tensor) -> InferenceBatch:
        """Score images.

        Args:
            images: X-rays in [-1, 1], `(B, C, H, W)`, their channels alike.

        Returns:
            `pred_score` `(B,)`, and `anomaly_map` `(B, 1, H, W)`: how much the difference of input and
            reconstruction deviates from that of healthy images, on the scale of
            :class:`~anomalib_cxr.models.base.healthy_maps.HealthyMaps`, on the X-ray; 0 where it does not count.

        Raises:
            ScoreError: If the score needs statistics of healthy images, and was not fitted to them.
        """
        return self.score_with_residuals(images)[0]

    def score_with_residuals(self, images: torch.Tensor) -> tuple[InferenceBatch, torch.Tensor]:
        """Score images; see :meth:`forward`.

        Args:
            images: X-rays as the pre-processor leaves them, `(B, C, H, W)`.

        Returns:
            Scores and maps, and what the maps are deviations of: the difference of input and reconstruction in the
            networks' frame, in [0, 1] where it counts and 0 elsewhere, `(B, 1, S, S)`; the mean over the ensemble.
        """
        if not torch.compiler.is_exporting():
            self.check_fitted()
        gray = to_gray(images)  # (B, 1, H, W)
        features, residual, inputs = self._features(gray)
        score = self.network_scores(features).mean(dim=1)  # (B,)
        if self.exposure_adjustment is not None:
            score = self.exposure_adjustment(score.unsqueeze(1), features.crops).squeeze(1)
        residual = residual / 2
        anomaly_map = inputs.frame.back(self.healthy_maps(residual), gray)
        return InferenceBatch(pred_score=score, anomaly_map=anomaly_map), residual

    def features(self, images: torch.Tensor) -> Features:
        """Return the quantities that scores are computed from.

        Args:
            images: X-rays as the pre-processor leaves them, `(B, C, H, W)`.

        Returns:
            The features of each network.
        """
        return self._features(to_gray(images))[0]

    def _features(self, gray: torch.Tensor) -> tuple[Features, torch.Tensor, Inputs]:
        """Return features, the mean residual map, `(B, 1, S, S)`, and the inputs."""
        inputs, probability = self._preprocess(gray)
        reconstructions = [network(inputs.image) for network in self.networks]
        residuals = [self._residual(inputs, each.image) for each in reconstructions]
        features = Features(
            torch.stack([each.z.flatten(1) for each in reconstructions], dim=1),
            torch.stack([self.distance(each.z_hat, each.z) for each in reconstructions], dim=1),
            torch.stack([log_mean_square(residual, region) for residual, region in residuals], dim=1),
            None if self.exposure_adjustment is None or probability is None else crop_lungs(gray, probability),
        )
        return features, torch.stack([residual * region for residual, region in residuals]).mean(dim=0), inputs

    def network_scores(self, features: Features) -> torch.Tensor:
        """Return the score of each network of the ensemble.

        Args:
            features: Features of `B` images.

        Returns:
            The scores, `(B, K)`.
        """
        if self.score == "residual":
            return features.residuals
        if self.score == "latent":
            return features.distances if len(self.ensemble) == 1 else features.distances.clamp(min=1e-12).log()
        statistics = [network.codes for network in self.networks]
        scores = [codes(features.codes[:, k]) for k, codes in enumerate(statistics) if codes is not None]
        return torch.stack(scores, dim=1)

    def fit_healthy(self, features: Features, folds: torch.Tensor) -> None:
        """Fit statistics of healthy codes, and the exposure adjustment.

        Each network has statistics of the codes of its own training images; an image's score, for the adjustment, is
        that of the one network that was not trained on it. A single network has statistics of all of them.

        Args:
            features: Features of `N` healthy images.
            folds: Fold of each image, `(N,)`; from 0.
        """
        for number, network in enumerate(self.networks):
            if network.codes is not None:
                trained_on = folds != number if len(self.ensemble) > 1 else torch.ones_like(folds, dtype=torch.bool)
                network.codes.fit(features.codes[trained_on, number])
        if self.exposure_adjustment is not None and features.crops is not None:
            scores = self.network_scores(features).gather(1, folds.unsqueeze(1))  # (N, 1)
            self.exposure_adjustment.fit(scores, features.crops)
        self.fitted.fill_(True)
