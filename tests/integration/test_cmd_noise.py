"""Noise of a detector by command: on all images of a training, at the size of its network."""

from __future__ import annotations

OVERLAY = """
data:
  init_args:
    augmentations:
      class_path: torchvision.transforms.v2.Compose
      init_args:
        transforms:
          - {class_path: torchvision.transforms.v2.Resize, init_args: {size: [32, 32]}}
          - {class_path: anomalib_cxr.DetectorNoise, init_args: {gain: 0.01, sigma: 0.3}}
"""


def test_train_with_noise(in_process, tmp_path, results, tiny, trained):
    (tmp_path / "noise.yaml").write_text(OVERLAY)
    in_process(tmp_path, *tiny, "--config", tmp_path / "noise.yaml", "--trainer.max_epochs", 2)
    noisy, clean = (each.table("scores.csv").set_index("image").score for each in (results, trained))
    assert sorted(noisy.index) == sorted(clean.index)
    assert (noisy - clean[noisy.index]).abs().gt(1e-3 * clean.abs().max()).all()
    assert (results.folder / "report" / "residuals.png").is_file()
