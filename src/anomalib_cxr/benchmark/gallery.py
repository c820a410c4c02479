"""The pictures of a benchmark's report, with their captions and what a reader who does not see them should know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from anomalib_cxr.evaluation.screening_metrics import AUROC, POOLED

from . import charts, figures
from .measures import HONEST, Over, over_runs, pick
from .noise import Noise
from .pictures import Picture, show_figure, show_sheet
from .results import AS_IS, BEST, TEST, Results


def overview(results: Results, measured: pd.DataFrame, data: str) -> Picture:
    """Show AUROC of all systems by both protocols."""
    figure = charts.overview(results, measured, data)
    alt = f"AUROC of each system on {data} by both protocols, with intervals; the figures are those of the table above."
    caption = f"AUROC on {data}, pooled: mean over the runs with its 95 % interval. Dotted: 0.5, a guess."
    return show_figure(figure, results.folder, f"auroc-{data}", alt, caption)


def roc(results: Results, data: str) -> Picture:
    """Show the ROC curves of all systems."""
    alt = f"ROC curves on {data}, a panel for each system; AUROC as in the table above."
    caption = (
        f"ROC curves on the test images of {data}, epoch chosen on validation. Black: mean over the runs (vertical "
        "average) of all images, with the smallest and largest sensitivity of the runs as a band. Coloured: mean for "
        "each hospital. Light grey: the means of the other systems. In the legends: mean AUROC."
    )
    return show_figure(figures.roc_panels(results, data), results.folder, f"roc-{data}", alt, caption)


def training(results: Results, data: Sequence[str]) -> Iterator[Picture]:
    """Show AUROC against epochs of all systems, then the losses of each."""
    for name in data:
        alt = f"AUROC on validation against epoch on {name}, a panel for each of {', '.join(results.systems(name))}."
        caption = (
            f"AUROC on the validation images of {name} after each epoch: mean over the runs, and their range. Ticks at "
            "the bottom: the epoch that was chosen in each run. Dotted: 0.5, a guess."
        )
        yield show_figure(figures.auroc_panels(results, name), results.folder, f"epochs-{name}", alt, caption)
    for name in data:
        for system in results.systems(name):
            yield from _losses(results, name, system)


def _losses(results: Results, data: str, system: str) -> Iterator[Picture]:
    outcomes = results.of(data, system)
    terms = figures.losses_of(outcomes)
    if terms:
        alt = f"Against epoch, what {system} logged on {data}: {', '.join(terms)}."
        caption = f"{system} on {data}: what was logged after each epoch, mean over the runs and their range."
        yield show_figure(figures.loss_panels(outcomes), results.folder, f"losses-{data}-{system}", alt, caption)


def histograms(results: Results, data: str) -> Picture:
    """Show how the scores of all systems are distributed."""
    alt = f"Histograms of the test scores on {data} of {', '.join(results.systems(data))}, by hospital and class."
    caption = (
        f"Scores of the test images of {data}, all runs, epoch chosen on validation: normal (filled) and sick (line), "
        "as shares of the images of the class. The scores of each run are shifted and scaled such that its normal "
        "images of all hospitals have mean 0 (dotted) and standard deviation 1; scores beyond the axis are counted at "
        "its ends."
    )
    return show_figure(figures.histogram_panels(results, data), results.folder, f"scores-{data}", alt, caption)


def noise(results: Results, measured: pd.DataFrame, data: Sequence[str]) -> Iterator[Picture]:
    """Show AUROC against the noise of the test images, and of data that have noise in training too."""
    tested = pick(measured, protocol=HONEST, subset=TEST, weights=BEST, group=POOLED, metric=AUROC)
    band = "Mean over the runs, and the smallest to largest of them as a band. Dotted: 0.5, a guess."
    for name in data:
        shifts = (AS_IS, *results.shifts(name))
        added = {shift: level for shift in shifts if (level := results.noise_of_shift(name, shift)) is not None}
        if len(added) > 1:
            points = _points(pick(tested, data=name), "shift", added, results.systems(name))
            alt = (
                f"AUROC on {name} against the noise added to its test images; the figures are those of the table above."
            )
            caption = f"AUROC on the test images of {name} against the noise that was added to them. {band}"
            yield show_figure(charts.noise_curves(points), results.folder, f"noise-{name}", alt, caption)
    if results.differ_in_noise(data):
        levels = {name: results.noise_of_data(name) for name in data}
        systems = [
            system for system in results.config["systems"] if any(system in results.systems(name) for name in data)
        ]
        points = _points(pick(tested, shift=AS_IS), "data", levels, systems)
        alt = f"AUROC against the noise of the data: {', '.join(data)}; the figures are those of the first table."
        caption = (
            f"AUROC on the test images of each data set against the noise that its images have, in training too. {band}"
        )
        yield show_figure(charts.noise_curves(points), results.folder, "noise-in-training", alt, caption)


def _points(
    tested: pd.DataFrame, column: str, levels: dict[str, Noise], systems: Sequence[str]
) -> dict[str, list[tuple[Noise, Over]]]:
    """Return, for each system, what was measured at each level."""
    return {
        system: [
            (level, over)
            for name, level in levels.items()
            if (over := over_runs(pick(tested, system=system, **{column: name}))) is not None
        ]
        for system in systems
    }


def sheets(results: Results, data: Sequence[str]) -> Iterator[Picture]:
    """Show the residual sheet of one run of each system: its first that has one."""
    for name in data:
        for system in results.systems(name):
            first = next((each for each in results.of(name, system) if each.sheet is not None), None)
            if first is not None and first.sheet is not None:
                caption = f"{first.run}. It may show patients."
                yield show_sheet(
                    first.sheet, f"Residual sheet of {first.run}: test images beside anomaly maps.", caption
                )
