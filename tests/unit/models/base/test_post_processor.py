"""Post-processing that leaves maps on their scale, beside anomalib's own."""

from __future__ import annotations

import pytest
import torch
from anomalib.data import ImageBatch, InferenceBatch
from anomalib.post_processing import PostProcessor

from anomalib_cxr.models.base.post_processor import FixedMapPostProcessor


@pytest.fixture
def batch():
    maps = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return ImageBatch(
        image=torch.zeros(6, 3, 8, 8),
        pred_score=torch.tensor([0.1, 0.2, 3.0, 4.0, 0.3, 5.0]),
        gt_label=torch.tensor([0, 0, 1, 1, 0, 1]),
        anomaly_map=maps,
        gt_mask=(maps > 0.9).squeeze(1),
    )


def validated(post_processor, batch):
    post_processor.on_validation_batch_end(None, None, batch)
    post_processor.on_validation_epoch_end(None, None)
    return post_processor(InferenceBatch(pred_score=batch.pred_score, anomaly_map=batch.anomaly_map))


def test_maps_stay_as_they_are(batch):
    found = validated(FixedMapPostProcessor(), batch)
    torch.testing.assert_close(found.anomaly_map, batch.anomaly_map)
    assert torch.equal(found.pred_mask, batch.anomaly_map > 0.5)


def test_scores_are_anomalib_s(batch):
    found, expected = (validated(kind, batch) for kind in (FixedMapPostProcessor(), PostProcessor()))
    assert torch.equal(found.pred_score, expected.pred_score)
    assert torch.equal(found.pred_label, expected.pred_label)
    assert not torch.allclose(expected.anomaly_map, batch.anomaly_map)
