"""The networks that score: painter and second encoder, what they see, and what is made of their painting.

The discriminator is no part of them, because an exported model must not carry it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from anomalib.data import InferenceBatch
from torch import nn

from anomalib_cxr.errors import ScoreError
from anomalib_cxr.functional import DISTANCES, Distance, reconstructed_region
from anomalib_cxr.models.base.exposure import Boxed, ExposedScore, boxed
from anomalib_cxr.models.base.module import to_gray
from anomalib_cxr.models.base.segmenter import FrozenSegmenter

from .lung_frame import Seen, View
from .members import GeneratorName, Member, Networks
from .scores import ScoreName, log_mean_square


class Look(NamedTuple):
    """All that scores are made of, for each member `K`."""

    codes: torch.Tensor
    """Of the images, `(B, K, Z)`."""
    distances: torch.Tensor
    """Of the two codes, `(B, K)`."""
    residuals: torch.Tensor
    """Logarithm of the mean squared residual, `(B, K)`."""
    boxed: Boxed | None
    """What the exposure is measured in, if scores are calibrated by it."""


class RoiSureGanomalyModel(Member):
    """Scores an image by the distance of `z_full` and `z_painted`, the disagreement of the two encoders.

    On a healthy image both agree. On a sick one the painter, which has only learned healthy lungs, paints those.
    Other scores: the residual between what is seen and the painting, or the distance of `z_full` from healthy codes.

    With several members it is the first of them itself. A member's score is then a logarithm, and theirs the mean.

    Args:
        image_size: Side of the square that the networks see, a power of two from 32 to 512.
        latent_dim: Length of the codes.
        n_features: Channels after the first convolution.
        max_features: Cap on the channels; None for none.
        generator: Network that paints, and whose encoder has the layout of the second one, by its name in
            :data:`anomalib_cxr.models.roi_sure_ganomaly.members.GENERATORS`.
        distance: Distance of the codes, by its name in :data:`anomalib_cxr.functional.DISTANCES`.
        n_channels: Channels of the networks: 1, or 3 copies of the gray one.
        whole_image: True where the target is all that is seen: the anomaly map then covers all of it.
        view: What the networks see; None for the whole X-ray as it comes, at `image_size`.
        score: `latent`, `residual` or `mahalanobis`.
        exposure_calibrated: True where scores are to be calibrated by exposure.
        n_folds: Members.

    Example:
        >>> model = RoiSureGanomalyModel(64, latent_dim=10, n_features=8).eval()
        >>> scores = model(torch.zeros(2, 3, 64, 64))
        >>> scores.pred_score.shape, scores.anomaly_map.shape
        (torch.Size([2]), torch.Size([2, 1, 64, 64]))
    """

    def __init__(
        self,
        image_size: int = 256,
        latent_dim: int = 100,
        n_features: int = 64,
        max_features: int | None = None,
        *,
        generator: GeneratorName = "dcgan",
        distance: Distance = "euclidean",
        n_channels: int = 1,
        whole_image: bool = False,
        view: View | None = None,
        score: ScoreName = "latent",
        exposure_calibrated: bool = False,
        n_folds: int = 1,
    ) -> None:
        networks = Networks(
            image_size, latent_dim, n_features, max_features, generator, n_channels, score == "mahalanobis"
        )
        super().__init__(networks)
        self.whole_image = whole_image
        self.distance = DISTANCES[distance]
        self.score = score
        self.view = view or View(image_size)
        self.others = nn.ModuleList(Member(networks) for _ in range(n_folds - 1)) if n_folds > 1 else None
        needs_lungs = self.view.needs_lungs or exposure_calibrated
        self.lungs = FrozenSegmenter(image_size) if needs_lungs else None
        self.calibration = ExposedScore() if exposure_calibrated else None
        if self.learns_healthy:
            self.register_buffer("fitted", torch.tensor(False))

    fitted: torch.Tensor

    @property
    def members(self) -> list[Member]:
        """Return all members, this one first."""
        return [self, *(each for each in self.others or () if isinstance(each, Member))]

    @property
    def learns_healthy(self) -> bool:
        """Whether scores need :meth:`fit_healthy`."""
        return self.codes is not None or self.calibration is not None

    def check_fitted(self) -> None:
        """Refuse to score without what healthy images say.

        Raises:
            ScoreError: If it is missing.
        """
        if self.learns_healthy and not self.fitted:
            missing = "healthy codes" if self.calibration is None else "the calibration by exposure"
            raise ScoreError(
                f"a model without {missing}",
                "one whose training has reached the end of an epoch, where they are fitted to the training images",
                "train it, or load a checkpoint of a training that has",
            )

    def see(self, images: torch.Tensor) -> Seen:
        """Take from X-rays in [-1, 1], `(B, C, H, W)`, their channels alike, what the networks are to see."""
        return self._see(to_gray(images))[0]

    def _see(self, gray: torch.Tensor) -> tuple[Seen, torch.Tensor | None]:
        probability = None if self.lungs is None else self.lungs(gray)
        return self.view.show(gray, probability if self.view.needs_lungs else None), probability

    def painting_of(self, images: torch.Tensor) -> torch.Tensor:
        """Paint images as the pre-processor leaves them, `(B, C, H, W)`, in gray in [-1, 1], `(B, 1, H, W)`."""
        gray = to_gray(images)
        seen = self.see(gray)
        painted = torch.stack([to_gray(member.paint(seen.image).painted) for member in self.members]).mean(dim=0)
        return painted if seen.frame.place is None else seen.frame.back(painted + 1, gray) - 1

    def _residual(self, seen: Seen, painted: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return how far a painting is from what is seen, and where that counts, both `(B, 1, S, S)`.

        It counts in the lungs: the rows' frame says itself where they are; else they are where a painter of lungs has
        painted, and for one of whole images where they were found, or all of what is seen where nothing finds them.
        """
        residual = to_gray((seen.image - painted).abs())
        region = torch.ones_like(residual)
        if not self.whole_image and self.view.alignment != "rows":
            region = reconstructed_region(to_gray(painted))
        elif seen.lungs is not None:
            region = seen.lungs
        return residual, region if seen.region is None else region * seen.region

    def forward(self, images: torch.Tensor) -> InferenceBatch:
        """Score images.

        Args:
            images: X-rays in [-1, 1], `(B, C, H, W)`, their channels alike.

        Returns:
            `pred_score` `(B,)`, and `anomaly_map` `(B, 1, H, W)`: the difference between what is seen and the painting
            in [0, 1] where it counts, 0 elsewhere, on the X-ray; the mean over members.

        Raises:
            ScoreError: If the score needs what healthy images say, and was not fitted to them.
        """
        if not torch.compiler.is_exporting():
            self.check_fitted()
        gray = to_gray(images)
        look, residual, seen = self._look(gray)
        score = self.member_scores(look).mean(dim=1)
        if self.calibration is not None:
            score = self.calibration(score, look.boxed)
        return InferenceBatch(pred_score=score, anomaly_map=seen.frame.back(residual / 2, gray))

    def look(self, images: torch.Tensor) -> Look:
        """Return what the scores of images as the pre-processor leaves them, `(B, C, H, W)`, are made of."""
        return self._look(to_gray(images))[0]

    def _look(self, gray: torch.Tensor) -> tuple[Look, torch.Tensor, Seen]:
        seen, probability = self._see(gray)
        paintings = [member.paint(seen.image) for member in self.members]
        residuals = [self._residual(seen, painting.painted) for painting in paintings]
        shown = [residual * region for residual, region in residuals]
        look = Look(
            torch.stack([painting.z_full.flatten(1) for painting in paintings], dim=1),
            torch.stack([self.distance(painting.z_painted, painting.z_full) for painting in paintings], dim=1),
            torch.stack([log_mean_square(*each) for each in residuals], dim=1),
            None if self.calibration is None or probability is None else boxed(gray, probability),
        )
        return look, torch.stack(shown).mean(dim=0), seen

    def member_scores(self, look: Look) -> torch.Tensor:
        """Return each member's score, `(B, K)`."""
        if self.score == "residual":
            return look.residuals
        if self.score == "latent":
            return look.distances if self.others is None else look.distances.clamp(min=1e-12).log()
        known = [member.codes for member in self.members]
        scored = [codes(look.codes[:, k]) for k, codes in enumerate(known) if codes is not None]
        return torch.stack(scored, dim=1)

    def fit_healthy(self, look: Look, folds: torch.Tensor) -> None:
        """Learn what healthy images say: of their codes, and of their scores by exposure.

        Each member knows the codes of the images that it has learned from; an image's score is that of the one member
        that knows nothing of it. With a single member, that knows all of them.

        Args:
            look: At healthy images `N`.
            folds: Of each image, `(N,)`; from 0.
        """
        for number, member in enumerate(self.members):
            if member.codes is not None:
                known = folds != number if self.others is not None else torch.ones_like(folds, dtype=torch.bool)
                member.codes.fit(look.codes[known, number])
        if self.calibration is not None and look.boxed is not None:
            own = self.member_scores(look).gather(1, folds.unsqueeze(1)).squeeze(1)
            self.calibration.fit(own, look.boxed)
        self.fitted.fill_(True)
