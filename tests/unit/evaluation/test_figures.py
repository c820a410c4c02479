"""Figures: that they show the numbers they are given."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from anomalib_cxr.evaluation.canvas import CAPTION, save_figure
from anomalib_cxr.evaluation.figures import best_epoch, loss_curves, roc_figure, score_histogram
from anomalib_cxr.evaluation.residual_sheet import SheetExample, residual_sheet
from anomalib_cxr.evaluation.scores import ImageScore, choose_examples, no_roc_reason, score_table


@pytest.fixture
def history():
    return pd.DataFrame(
        {
            "epoch": [0, 1, 2],
            "val_image_AUROC": [0.5, 0.9, None],
            "l_rec": [3.0, 2.0, 1.0],
            "l_dc": [0.1, 0.2, 0.3],
            "l_adv": [9.0, 8.0, 7.0],
            "l_enc": [1.0, 1.0, 1.0],
        }
    )


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    scored = [
        ImageScore(f"data/{source}/{label}_{i}.png", label, float(rng.normal(shift)))
        for source, label, count, shift in (
            ("montgomery", "normal", 20, 0),
            ("montgomery", "sick", 10, 1),
            ("shenzhen", "normal", 15, 0.5),
            ("shenzhen", "sick", 25, 1.2),
            ("clinic", "normal", 3, 0),
        )
        for i in range(count)
    ]
    return score_table(scored, sources={each.image_path: each.image_path.split("/")[1] for each in scored})


def auroc(table):
    return roc_auc_score(table.label == "sick", table.score)


def legend(figure):
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


class TestLossCurves:
    def test_one_panel_a_term_auroc_last(self, history):
        titles = [panel.get_title() for panel in loss_curves(history).axes if panel.axison]
        assert titles == [
            "l_rec, last 1", "l_dc, last 0.3", "l_adv, last 7", "l_enc, last 1", "val_image_AUROC, last 0.9",
        ]  # fmt: skip

    def test_panels_that_are_not_needed_stay_blank(self, history):
        assert [panel.axison for panel in loss_curves(history).axes] == [True] * 5 + [False] * 3

    def test_draws_the_values(self, history):
        curve = loss_curves(history).axes[0].lines[0]
        assert list(curve.get_xdata()) == [0, 1, 2]
        assert list(curve.get_ydata()) == [3.0, 2.0, 1.0]

    def test_an_epoch_without_validation_is_left_out(self, history):
        assert list(loss_curves(history).axes[4].lines[0].get_xdata()) == [0, 1]

    @pytest.mark.parametrize("count", [1, 2, 3])
    def test_epochs_are_whole(self, history, count):
        axis = loss_curves(history[:count]).axes[0]
        low, high = axis.get_xlim()
        assert [tick for tick in axis.get_xticks() if low <= tick <= high] == list(range(count))

    def test_best_and_last_are_marked_and_said(self, history):
        figure = loss_curves(history)
        dashed = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
        assert [list(line.get_xdata()) for line in dashed] == [[1, 1]]
        assert "epoch 2" in figure.get_suptitle()
        assert "Best on validation: epoch 1, val_image_AUROC 0.900" in figure.get_suptitle()
        assert "after the last epoch (dot), not those of the best (dashed line)" in figure.get_suptitle()

    def test_the_last_may_be_the_best(self, history):
        assert "after the last epoch (dot), which here is the best." in loss_curves(history[:2]).get_suptitle()

    def test_without_auroc_there_is_no_best(self, history):
        figure = loss_curves(history.drop(columns="val_image_AUROC"))
        assert "No AUROC was measured" in figure.get_suptitle()
        assert all(line.get_linestyle() != "--" for panel in figure.axes for line in panel.lines)

    def test_the_first_of_equals_is_the_best(self):
        assert best_epoch(pd.DataFrame({"epoch": [3, 4, 5], "val_AUROC": [0.1, 0.7, 0.7]})).epoch == 4


class TestRocFigure:
    def test_legend_has_scikit_learns_auroc_and_counts(self, table):
        montgomery, shenzhen = (table[table.source == name] for name in ("montgomery", "shenzhen"))
        assert legend(roc_figure(table)) == [
            "chance",
            "clinic: no curve (3 normal, 0 sick)",
            f"montgomery: AUROC {auroc(montgomery):.3f} (20 normal, 10 sick)",
            f"shenzhen: AUROC {auroc(shenzhen):.3f} (15 normal, 25 sick)",
            f"all: AUROC {auroc(table):.3f} (38 normal, 35 sick)",
        ]

    def test_one_hospital_is_named_once(self, table):
        words = legend(roc_figure(table[table.source == "shenzhen"]))
        assert [word.split(":")[0] for word in words] == ["chance", "shenzhen"]

    def test_unknown_hospital(self, table):
        assert legend(roc_figure(table.assign(source=None)))[1].startswith(f"all: AUROC {auroc(table):.3f}")

    def test_curve_has_the_area(self, table):
        curve = roc_figure(table).axes[0].lines[-1]
        x, y = curve.get_xdata(), curve.get_ydata()
        assert np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2) == pytest.approx(auroc(table))

    def test_threshold_is_marked(self, table):
        predicted = np.where(table.score > 0.8, "sick", "normal")
        point = roc_figure(table.assign(predicted=predicted)).axes[0].lines[-1]
        normal, sick = (table.score[table.label == label] for label in ("normal", "sick"))
        assert point.get_xdata() == pytest.approx([(normal > 0.8).mean()])
        assert point.get_ydata() == pytest.approx([(sick > 0.8).mean()])

    def test_weights_are_named(self, table):
        assert "after epoch 7" in roc_figure(table, "Tested: the last weights, after epoch 7.").get_suptitle()


def test_histogram_counts_every_image(table):
    axes = score_histogram(table).axes[0]
    assert [sum(bar.get_height() for bar in bars) for bars in axes.containers] == [38, 35]


class TestScores:
    def test_image_names(self, table):
        assert table.image[0] == "montgomery/normal_0.png"

    def test_nothing_is_invented_without_post_processor(self, table):
        assert table.probability.isna().all()
        assert table.predicted.isna().all()

    def test_obstacles(self, table):
        assert no_roc_reason(table) is None
        assert no_roc_reason(table[table.label == "sick"]).startswith("0 normal and 35 sick images")
        assert no_roc_reason(table.assign(score=np.nan)) == "73 of 73 scores are not finite"

    @pytest.mark.parametrize(
        ("count", "ranks"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 3, 4]), (10, [1, 4, 7, 10])]
    )
    def test_ranks_are_even_with_both_extremes(self, count, ranks):
        scored = [ImageScore(f"{i}.png", "sick", float(-i)) for i in range(count)]
        chosen = choose_examples(score_table(scored))
        assert list(chosen["rank"]) == [f"{rank} of {count}" for rank in ranks]
        assert list(chosen.score) == [float(rank - count) for rank in ranks]


def case(table, label, place=0, **pictures):
    chosen = choose_examples(table)
    return SheetExample(chosen[chosen.label == label].iloc[place], np.full((40, 50), 0.5, dtype=np.float32), **pictures)


def drawn(figure):
    return [panel for panel in figure.axes if panel.images]


class TestResidualSheet:
    def test_normal_left_sick_right(self, table):
        small = {"anomaly_map": np.eye(8), "reconstruction": np.ones((8, 8))}
        lesion = np.zeros((40, 50), dtype=bool)
        lesion[5:20, 5:20] = True
        figure = residual_sheet([case(table, "normal", **small), case(table, "sick", 3, **small, lesion=lesion)])
        panels = drawn(figure)
        assert [panel.get_title() for panel in panels] == [
            "X-ray", "reconstruction", "anomaly map, true lesion outlined"
        ] * 2  # fmt: skip
        words = [text.get_text() for panel in panels for text in panel.texts]
        assert words[0].startswith("normal_")
        assert "normal, score" in words[0]
        assert "sick, score" in words[1]
        assert "35 of 35" in words[1]

    def test_pictures_of_any_resolution_cover_one_field(self, table):
        figure = residual_sheet([case(table, "sick", anomaly_map=np.eye(8), reconstruction=np.ones((4, 4)))])
        assert {tuple(image.get_extent()) for panel in drawn(figure) for image in panel.images} == {(0, 50, 40, 0)}

    def test_one_scale_for_all(self, table):
        cases = [case(table, "normal", anomaly_map=np.full((8, 8), 0.1)), case(table, "sick", anomaly_map=np.eye(8))]
        scales = {image.get_clim() for panel in drawn(residual_sheet(cases)) for image in panel.images[1:]}
        assert scales == {(0.0, 1.0)}

    def test_what_is_missing_is_left_out(self, table):
        figure = residual_sheet([case(table, "sick")])
        assert [panel.get_title() for panel in figure.axes] == ["X-ray"]

    def test_probability_and_call_are_said(self, table):
        known = table.assign(probability=0.25, predicted="normal")
        text = residual_sheet([case(known, "sick")]).axes[0].texts[0].get_text()
        assert text.endswith("1 of 35; p 0.25, called normal")


def test_every_figure_bears_the_caption(history, table):
    for figure in (
        loss_curves(history),
        roc_figure(table),
        score_histogram(table),
        residual_sheet([case(table, "sick")]),
    ):
        assert figure.get_supxlabel() == CAPTION == "For research, not a medical device."


class TestFiles:
    def test_figure_opens(self, tmp_path, table):
        save_figure(roc_figure(table), tmp_path / "new" / "roc.png")
        with Image.open(tmp_path / "new" / "roc.png") as picture:
            assert picture.size == (616, 671)
        assert len(list((tmp_path / "new").iterdir())) == 1
