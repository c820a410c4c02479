"""AUROC among images of similar exposure, against loops, closed cases and simulations; exposure of drawn images."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from anomalib_cxr.data.sources.samples import make_samples
from anomalib_cxr.errors import DatasetError, ScoreError
from anomalib_cxr.evaluation.metrics import exposure_adjusted
from anomalib_cxr.evaluation.metrics.delong import estimate_auroc
from anomalib_cxr.evaluation.metrics.exposure_adjusted import (
    BANDWIDTH,
    adjusted_auroc,
    evaluate_adjusted,
    measure_exposure,
)


def draw(n_normal=40, n_sick=60, seed=0, disease=1.0, confounding=1.0, hospitals=2):
    """Draw labels, scores, three covariates of which the first one moves the score, and hospitals that differ."""
    rng = np.random.default_rng(seed)
    is_sick = np.arange(n_normal + n_sick) >= n_normal
    hospital = rng.integers(0, hospitals, len(is_sick))
    covariates = rng.standard_normal((len(is_sick), 3)) + hospital[:, None]
    covariates[:, 0] += confounding * is_sick
    scores = covariates[:, 0] + disease * is_sick + rng.standard_normal(len(is_sick))
    return is_sick, scores, covariates, hospital.astype(str)


def by_loops(is_sick, scores, covariates, hospitals):
    """Rank each sick image among the normal ones of its hospital, one by one."""
    placements = []
    for i in np.flatnonzero(is_sick):
        others = [j for j in range(len(scores)) if not is_sick[j] and hospitals[j] == hospitals[i]]
        spread = np.std([covariates[j] for j in others], axis=0)
        won = all_of = 0.0
        for j in others:
            distance = sum(((covariates[i] - covariates[j]) / spread) ** 2)
            weight = math.exp(-distance / (2 * BANDWIDTH**2))
            all_of += weight
            won += weight * (1.0 if scores[i] > scores[j] else 0.5 if scores[i] == scores[j] else 0.0)
        placements.append(won / all_of)
    return np.mean(placements)


class TestAdjustedAuroc:
    @pytest.mark.parametrize("seed", range(3))
    def test_is_what_plain_loops_give(self, seed):
        is_sick, scores, covariates, hospitals = draw(seed=seed)
        scores = scores.round(1)  # with ties
        found = adjusted_auroc(is_sick, scores, covariates, hospitals)
        assert found.value == pytest.approx(by_loops(is_sick, scores, covariates, hospitals))
        assert found.low < found.value < found.high

    def test_of_constant_covariates_it_is_the_mean_auroc_of_hospitals_by_their_sick_images(self):
        is_sick, scores, covariates, hospitals = draw()
        parts = [hospitals == name for name in ("0", "1")]
        aurocs = [roc_auc_score(is_sick[here], scores[here]) for here in parts]
        expected = np.average(aurocs, weights=[is_sick[here].sum() for here in parts])
        found = adjusted_auroc(is_sick, scores, np.zeros_like(covariates), hospitals).value
        assert found == pytest.approx(expected)

    def test_of_constant_covariates_in_one_hospital_it_has_delongs_variance(self):
        is_sick, scores, covariates, _ = draw()
        found = adjusted_auroc(is_sick, scores.round(1), np.zeros_like(covariates), np.full(len(scores), "x"))
        assert found == pytest.approx(estimate_auroc(is_sick, scores.round(1)))

    def test_blocks_of_pairs_do_not_matter(self, monkeypatch):
        whole = adjusted_auroc(*draw())
        monkeypatch.setattr(exposure_adjusted, "_MAX_PAIRS", 100)
        assert adjusted_auroc(*draw()) == pytest.approx(whole)

    def test_of_perfect_separation_it_is_1_with_an_interval(self):
        is_sick, _, covariates, hospitals = draw()
        found = adjusted_auroc(is_sick, is_sick.astype(float), covariates, hospitals)
        assert found.value == pytest.approx(1)
        assert 0.8 < found.low < found.high == 1

    def test_a_score_of_exposure_alone_is_seen_through(self):
        is_sick, scores, covariates, hospitals = draw(300, 300, disease=0.0, hospitals=1)
        assert roc_auc_score(is_sick, scores) > 0.65
        assert adjusted_auroc(is_sick, scores, covariates, hospitals).value == pytest.approx(0.5, abs=0.07)

    def test_scale_and_place_of_covariates_do_not_matter(self):
        is_sick, scores, covariates, hospitals = draw()
        moved = covariates * [100, 0.01, 1] + [5, -7, 0]
        assert adjusted_auroc(is_sick, scores, moved, hospitals) == pytest.approx(
            adjusted_auroc(is_sick, scores, covariates, hospitals)
        )

    def test_a_sick_image_unlike_all_normal_ones_is_ranked_among_the_nearest(self):
        is_sick, covariates = np.array([False, False, True]), np.array([[0.0], [1.0], [1e6]])
        found = adjusted_auroc(is_sick, np.array([9.0, 0.0, 5.0]), covariates, np.full(3, "x"))
        assert found.value == pytest.approx(1)  # over the normal one at 1, under that at 0
        assert math.isfinite(found.low)

    def test_the_interval_is_the_same_again_and_has_the_width_of_repeated_draws(self):
        found = adjusted_auroc(*draw(60, 90))
        assert adjusted_auroc(*draw(60, 90)) == found
        values = [adjusted_auroc(*draw(60, 90, seed=seed)).value for seed in range(1, 60)]
        assert np.sqrt(found.variance) == pytest.approx(np.std(values), rel=0.4)

    def test_without_confounding_it_is_the_closed_form(self):
        """Two normal distributions a standard deviation apart, given what moves both alike."""
        values = [adjusted_auroc(*draw(200, 200, seed=seed, confounding=0.0, hospitals=1)).value for seed in range(8)]
        assert np.mean(values) == pytest.approx(norm.cdf(1 / np.sqrt(2)), abs=0.03)

    def test_sick_images_of_a_hospital_without_normal_ones_are_refused(self):
        is_sick, scores, covariates, hospitals = draw()
        hospitals[is_sick] = "field"
        with pytest.raises(ScoreError, match="sick images of field, and no normal ones"):
            adjusted_auroc(is_sick, scores, covariates, hospitals)


class TestEvaluateAdjusted:
    def tables(self):
        is_sick, scores, covariates, hospitals = draw()
        images = [f"x/{number}.png" for number in range(len(scores))]
        labels = np.where(is_sick, "sick", "normal")
        table = pd.DataFrame({"image": images, "source": hospitals, "label": labels, "score": scores})
        exposure = pd.DataFrame(covariates, columns=["gap", "around", "inside"]).assign(image=images)
        return table, exposure.sample(frac=1, random_state=1)

    def test_pooled_and_each_hospital(self):
        table, exposure = self.tables()
        found = evaluate_adjusted(table, exposure).set_index("group")
        assert list(found.index) == ["pooled", "0", "1"]
        for group, row in found.iterrows():
            part = table if group == "pooled" else table[table.source == group]
            covariates = exposure.set_index("image").loc[part.image, ["gap", "around", "inside"]]
            is_sick = (part.label == "sick").to_numpy()
            expected = by_loops(is_sick, part.score.to_numpy(), covariates.to_numpy(), part.source.to_numpy())
            assert row.value == pytest.approx(expected)
            assert (row.n_normal, row.n_sick, row.note) == ((~is_sick).sum(), is_sick.sum(), "")

    def test_what_cannot_be_measured_says_why(self):
        table, exposure = self.tables()
        table = table[(table.source == "1") | (table.label == "sick")]
        found = evaluate_adjusted(table, exposure).set_index("group")
        assert found.loc["pooled", "note"] == "no normal image of 0"
        assert "0 normal and" in found.loc["0", "note"]
        assert found.loc[["pooled", "0"], "value"].isna().all()
        assert found.loc["1", "value"] > 0.5

    def test_images_of_unknown_exposure_are_named(self):
        table, exposure = self.tables()
        with pytest.raises(ScoreError, match=r"2 of 100 images of unknown exposure: x/3\.png, x/7\.png"):
            evaluate_adjusted(table, exposure[~exposure.image.isin(["x/3.png", "x/7.png"])])


class TestMeasureExposure:
    @pytest.fixture
    def drawn(self, tmp_path):
        """Two X-rays of flat lungs in flat surroundings, one of them small and moved, with their masks."""
        for folder in ("CXR_png", "masks"):
            (tmp_path / folder).mkdir()
        for name, (side, top, light) in {"0_0": (256, 64, 100), "1_1": (128, 16, 50)}.items():
            mask = np.zeros((side, side), dtype=np.uint8)
            half, wide = side // 2, side // 4
            mask[top : top + half, wide // 2 : wide] = mask[top : top + half, half : half + wide // 2] = 255
            Image.fromarray(mask).save(tmp_path / "masks" / f"PHANTOM_{name}.png")
            Image.fromarray(np.where(mask > 0, light, 200).astype(np.uint8)).save(
                tmp_path / "CXR_png" / f"PHANTOM_{name}.png"
            )
        return make_samples(tmp_path)

    def test_gray_inside_around_and_between(self, drawn):
        found = measure_exposure(drawn[drawn.label_index == 0], drawn).set_index("image")
        for name, inside in {"CXR_png/PHANTOM_0_0.png": 100 / 255, "CXR_png/PHANTOM_1_1.png": 50 / 255}.items():
            gap, around, lungs = np.exp(found.loc[name, ["gap", "around", "inside"]].astype(float))
            assert gap == pytest.approx(200 / 255 - inside + 0.05, abs=0.005)
            assert around == pytest.approx(200 / 255, abs=0.005)
            assert lungs == pytest.approx(inside, abs=0.03)  # its edge is blurred by the frame

    def test_images_without_a_mask_are_named(self, drawn):
        bare = drawn.assign(roi_mask_paths=[drawn.roi_mask_paths[0], ()])
        with pytest.raises(DatasetError, match=r"1 scored ones without(?s:.*)PHANTOM_1_1.png"):
            measure_exposure(drawn[:1], bare)
        with pytest.raises(DatasetError, match="0 training images with a lung mask"):
            measure_exposure(bare[1:], drawn)
