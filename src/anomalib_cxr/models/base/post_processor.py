"""Post-processing of models whose anomaly maps have a fixed scale."""

from __future__ import annotations

from typing import Any

from anomalib.post_processing import PostProcessor


class FixedMapPostProcessor(PostProcessor):
    """anomalib's post-processor for anomaly maps in [0, 1] that mean the same in every image.

    Scores are normalized and thresholded by the validation set, as in anomalib. Maps stay as they are, and pixels above
    0.5 are marked: anomalib would stretch the maps by the validation set's extremes, and shift their zero.

    Args:
        kwargs: Settings of anomalib's post-processor.

    Example:
        >>> import torch
        >>> from anomalib.data import InferenceBatch
        >>> maps = torch.tensor([[[[0.0, 0.6]]]])
        >>> found = FixedMapPostProcessor()(InferenceBatch(pred_score=torch.ones(1), anomaly_map=maps))
        >>> torch.equal(found.anomaly_map, maps), found.pred_mask.tolist()
        (True, [[[[False, True]]]])
    """

    def __init__(self, **kwargs: Any) -> None:
        # Scores and maps are of different scales: one threshold for both would black out each map.
        super().__init__(enable_threshold_matching=False, **kwargs)
        self.pixel_min.fill_(0.0)
        self.pixel_max.fill_(1.0)
        self._pixel_threshold.fill_(0.5)

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any, **kwargs: Any) -> None:
        """Count the scores of a batch; its maps do not matter."""
        del trainer, pl_module, args, kwargs
        if self.enable_thresholding:
            self._image_threshold_metric.update(outputs)
        if self.enable_normalization:
            self._image_min_max_metric.update(outputs)
