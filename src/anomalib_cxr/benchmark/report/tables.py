"""The tables of a benchmark's report, in words: what was measured, averaged over the runs of each system."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from anomalib_cxr.evaluation.metrics.exposure_adjusted import ADJUSTED_AUROC
from anomalib_cxr.evaluation.metrics.screening_metrics import (
    AUROC,
    AVERAGE_PRECISION,
    HOSPITAL_AUROC,
    POOLED,
    SPECIFICITIES,
)

from .comparisons import SIGNIFICANT
from .measures import DISSERTATION, HONEST, either_way, over_runs, pick
from .results import AS_IS, BEST, LAST, TEST, Outcome, Results

NOT_MEASURED = "-"
CELL = "mean over the runs; in brackets its 95 % interval; below, the smallest to the largest of the runs"


class Table(NamedTuple):
    """A table in words. Lines of a cell are separated by a line break; the first cell of a row is its heading."""

    caption: str
    columns: list[str]
    rows: list[list[str]]
    kind: str = "plain"
    """How the HTML sets it: `plain`, `figures` (a cell's first line stands out) or `prose`."""


def auroc_table(results: Results, measured: pd.DataFrame, data: str) -> Table:
    """Tabulate AUROC: reported, by the dissertation's protocol, and honestly, with hospitals apart."""
    here = pick(measured, data=data, shift=AS_IS)
    honest = pick(here, protocol=HONEST, subset=TEST, metric=AUROC)
    hospitals = [group for group in honest.group.unique() if group != POOLED]
    told_apart = pick(here, metric=HOSPITAL_AUROC, weights=BEST, subset=TEST)
    pairs = list(told_apart.group.unique())
    adjusted = pick(here, metric=ADJUSTED_AUROC, weights=BEST, group=POOLED)
    was_adjusted = [adjusted] if len(adjusted) else []
    rows = []
    for system in results.systems(data):
        own = pick(honest, system=system)
        best = pick(own, weights=BEST)
        rows.append(
            [
                system,
                reported_words(results, system),
                str(len(results.of(data, system))),
                cell(pick(here, system=system, protocol=DISSERTATION, group=POOLED)),
                cell(pick(best, group=POOLED)),
                *(cell(pick(best, group=hospital)) for hospital in hospitals),
                *(cell(pick(table, system=system)) for table in was_adjusted),
                cell(pick(own, weights=LAST, group=POOLED)),
                *(cell(either_way(pick(told_apart, system=system, group=pair))) for pair in pairs),
            ]
        )
    columns = ["system", "reported by the dissertation", "runs", "(a) best epoch on validation"]
    columns += ["(b) test, pooled", *(f"(b) test, {hospital}" for hospital in hospitals)]
    columns += [*("(b) test, adjusted for exposure" for _ in was_adjusted), "(b) test, last epoch"]
    columns += [f"hospitals told apart, {pair}, either way" for pair in pairs]
    caption = f"AUROC on {data}: {CELL}. {_sizes(honest)}"
    return Table(caption.strip(), columns, rows, "figures")


def reported_words(results: Results, system: str) -> str:
    """Return the figure that a system's authors report, with the note of the configuration."""
    value = results.reported(system)
    note = (results.config["systems"][system] or {}).get("note")
    return "\n".join(filter(None, [NOT_MEASURED if value is None else f"{value:.4f}", note]))


def _sizes(honest: pd.DataFrame) -> str:
    """Say how many images the figures come from."""
    words = []
    for group, rows in honest.groupby("group", sort=False):
        normal, sick = (_span(rows[column]) for column in ("n_normal", "n_sick"))
        words.append(f"{group} {normal} normal and {sick} sick")
    return f"Test images: {'; '.join(words)}." if words else ""


def _span(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return str(low) if low == high else f"{low} to {high}"


def operating_table(results: Results, measured: pd.DataFrame, data: str) -> Table:
    """Tabulate average precision and specificity at given sensitivities, on the pooled test set."""
    here = pick(measured, data=data, shift=AS_IS, protocol=HONEST, subset=TEST, weights=BEST, group=POOLED)
    metrics = {
        AVERAGE_PRECISION: "average precision",
        **{name: f"specificity at {100 * wanted:.0f} % sensitivity" for name, wanted in SPECIFICITIES.items()},
    }
    rows = [
        [system, *(cell(pick(here, system=system, metric=metric)) for metric in metrics)]
        for system in results.systems(data)
    ]
    share = (here.n_sick / (here.n_sick + here.n_normal)).mean()
    chance = f" A score that knows nothing has an average precision of {share:.2f}." if len(here) else ""
    caption = f"Protocol (b) on {data}, pooled test set: {CELL}.{chance}"
    return Table(caption, ["system", *metrics.values()], rows, "figures")


def cost_table(results: Results, data: str) -> Table:
    """Tabulate what a run of each system costs: mean over its runs."""
    columns = {
        "training, minutes": lambda run: f"{_mean(run, 'train_seconds') / 60:.1f}",
        "scoring, ms per image": lambda run: f"{_mean(run, 'seconds_per_image') * 1000:.2f}",
        "parameters": lambda run: f"{_mean(run, 'parameters') / 1e6:.2f} M",
        "peak memory, MiB": lambda run: f"{_mean(run, 'peak_memory_bytes') / 2**20:.0f}",
        "training images": lambda run: f"{_mean(run, 'n_train'):.0f}",
        "epochs": lambda run: f"{_mean(run, 'last_epoch') + 1:.0f}",
        "device": lambda run: ", ".join(sorted({str(each.record.get("device")) for each in run})),
    }
    rows = [
        [system, *(_or_dash(words, results.of(data, system)) for words in columns.values())]
        for system in results.systems(data)
    ]
    return Table(f"Costs on {data}, mean over the runs.", ["system", *columns], rows)


def _or_dash(words: Callable[[Sequence[Outcome]], str], outcomes: Sequence[Outcome]) -> str:
    text = words(outcomes)
    return NOT_MEASURED if "nan" in text or text == "None" else text


def _mean(outcomes: Sequence[Outcome], name: str) -> float:
    """Return the mean of a figure of `run.json` over the runs that have it, NaN where none does."""
    values = [float(value) for each in outcomes if (value := each.record.get(name)) is not None]
    values = [value for value in values if math.isfinite(value)]
    return float(np.mean(values)) if values else math.nan


def noise_table(results: Results, measured: pd.DataFrame, data: str) -> Table:
    """Tabulate AUROC of each system at each shift of the test images."""
    here = pick(measured, data=data, protocol=HONEST, subset=TEST, weights=BEST, group=POOLED, metric=AUROC)
    rows = [
        [system, *(cell(pick(here, system=system, shift=shift)) for shift in (AS_IS, *results.shifts(data)))]
        for system in results.systems(data)
    ]
    columns = ["system", "as they are", *(_shift_words(results, data, shift) for shift in results.shifts(data))]
    return Table(
        f"AUROC on the pooled test set of {data}, by what its images went through: {CELL}.", columns, rows, "figures"
    )


def _shift_words(results: Results, data: str, shift: str) -> str:
    noise = results.noise_of_shift(data, shift)
    return shift if noise is None else f"{shift}\n{noise.kind}, SD {noise.spread:.3g}"


def noise_in_training_table(results: Results, measured: pd.DataFrame, data: Sequence[str]) -> Table:
    """Tabulate AUROC of each system on data that differ in noise."""
    here = pick(measured, protocol=HONEST, subset=TEST, weights=BEST, group=POOLED, metric=AUROC, shift=AS_IS)
    rows = [
        [system, *(cell(pick(here, system=system, data=name)) for name in data)]
        for system in results.config["systems"]
        if any(results.of(name, system) for name in data)
    ]
    columns = ["system", *(f"{name}\nSD {results.noise_of_data(name).spread:.3g}" for name in data)]
    caption = f"AUROC on the pooled test set of each data set, whose noise is in training and test alike: {CELL}."
    return Table(caption, columns, rows, "figures")


def not_done_table(results: Results) -> Table:
    """Tabulate the runs that failed or are missing, each with its reason."""
    rows = [[str(each.run), each.status, each.reason] for each in results.not_done]
    return Table("Runs without figures.", ["run", "status", "reason"], rows, "prose")


def comparison_table(results: Results, comparisons: pd.DataFrame, data: str) -> Table:
    """Tabulate every two systems: difference of AUROC above the diagonal, corrected p below it."""
    chosen = pick(comparisons, data=data, weights=BEST, shift=AS_IS)
    pairs = dict(zip(zip(chosen["first"], chosen["second"], strict=True), chosen.to_dict("records"), strict=True))
    systems = results.systems(data)
    rows = [
        [first, *(_pair(pairs, (row, column), (first, second)) for column, second in enumerate(systems))]
        for row, first in enumerate(systems)
    ]
    caption = (
        f"AUROC on the pooled test set of {data}, epoch chosen on validation. Above the diagonal: system of the row "
        "minus system of the column, with 95 % interval. Below it: p of DeLong's paired test, corrected by Holm's "
        f"method for the number of pairs, {len(pairs)}; * under {SIGNIFICANT}."
    )
    return Table(caption, ["system", *systems], rows, "figures")


def _pair(
    pairs: Mapping[tuple[str, str], Mapping[Hashable, Any]], places: tuple[int, int], names: tuple[str, str]
) -> str:
    row, column = places
    if row == column:
        return ""
    pair = pairs[names if row < column else names[::-1]]
    if pair["n_runs"] == 0:
        return f"{NOT_MEASURED}\n{pair['note']}"
    if row < column:
        return f"{pair['difference']:+.2f}\n{interval_words(pair['low'], pair['high'], '+.2f')}"
    return f"{p_words(pair['p_holm'])}{'*' if pair['p_holm'] < SIGNIFICANT else ''}"


def p_words(p: float) -> str:
    """Say a p value.

    Example:
        >>> p_words(0.0312), p_words(0.00002), p_words(float("nan"))
        ('0.031', '< 0.001', '-')
    """
    if math.isnan(p):
        return NOT_MEASURED
    return "< 0.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004  # what three digits can tell


def cell(rows: pd.DataFrame) -> str:
    """Say a figure: mean over runs, its interval, and the smallest to largest; why not, where there is none."""
    over = over_runs(rows)
    if over is None:
        reasons = sorted({note for note in rows.note if note})
        return NOT_MEASURED if not reasons else "\n".join((NOT_MEASURED, *reasons))
    lines = [f"{over.value:.3f}", interval_words(over.low, over.high)]
    if over.n_runs > 1:
        lines.append(f"{over.smallest:.3f} to {over.largest:.3f}")
    return "\n".join(lines)


def interval_words(low: float, high: float, form: str = ".3f") -> str:
    """Say an interval.

    Example:
        >>> interval_words(-0.1, 0.25, "+.2f"), interval_words(math.nan, math.nan)
        ('[-0.10, +0.25]', 'no interval')
    """
    return "no interval" if math.isnan(low) else f"[{low:{form}}, {high:{form}}]"
