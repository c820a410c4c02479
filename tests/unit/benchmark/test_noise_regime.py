"""The figures of `benchmarks/noise_regime.py`, by reconstructions whose errors are known."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import pytest
import torch

SCRIPT = run_path(str(Path(__file__).resolve().parents[3] / "benchmarks" / "noise_regime.py"))
SIGMA = 0.2


@pytest.fixture
def phantoms():
    clean = torch.full((4, 1, 32, 32), 0.5)
    lungs, lesion = torch.zeros_like(clean), torch.zeros_like(clean, dtype=torch.bool)
    lungs[:, :, 8:24, 8:24] = 1
    lesion[2:, :, 8:16, 8:24] = True
    clean[lesion] = 1.0
    return SCRIPT["Phantoms"](clean, lungs, lesion, torch.tensor([False, False, True, True]))


def test_a_copy_has_the_error_of_the_noise_and_nothing_to_detect(phantoms):
    noisy = SCRIPT["noisy_images"](phantoms, SIGMA)
    figures = SCRIPT["measure_reconstruction"](noisy, noisy, phantoms)
    assert figures["error"] == pytest.approx(SIGMA, rel=0.1)
    assert figures["error_observed"] == 0
    assert figures["residual"] == figures["pixels"] == 0.5


def test_healthy_lungs_in_place_of_all_have_no_error_and_show_the_finding(phantoms):
    noisy = SCRIPT["noisy_images"](phantoms, SIGMA)
    figures = SCRIPT["measure_reconstruction"](torch.zeros_like(noisy), noisy, phantoms)  # gray 0.5
    assert figures["error"] == pytest.approx(0, abs=1e-6)
    assert figures["error_observed"] == pytest.approx(SIGMA, rel=0.1)
    assert figures["residual"] == 1
    assert figures["pixels"] > 0.9
