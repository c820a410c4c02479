"""Tables and sentences of a benchmark's report, from the metrics averaged over the runs of each system."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from anomalib_cxr.benchmark.plan.grid import DONE, FAILED, MISSING, PIXEL_AUPRO, PIXEL_AUROC, PIXEL_DICE
from anomalib_cxr.evaluation.metrics.exposure_adjusted import ADJUSTED_AUROC
from anomalib_cxr.evaluation.metrics.labels import ACCURACY, F1
from anomalib_cxr.evaluation.metrics.screening_metrics import (
    AUROC,
    AVERAGE_PRECISION,
    HOSPITAL_AUROC,
    POOLED,
    SPECIFICITIES,
)
from anomalib_cxr.evaluation.metrics.transferred import DRIFT, TRANSFERRED

from .measures import (
    CONTROL_ADJUSTED,
    CONTROL_AUROC,
    DISSERTATION,
    HONEST,
    SIGNIFICANT,
    mean_over_runs,
    select,
    undirected_auroc,
)
from .results import BEST, LAST, TEST, UNSHIFTED, Results, RunResult

NOT_MEASURED = "-"
REPORTED_METRICS = {
    "AUROC": AUROC,
    "average precision": AVERAGE_PRECISION,
    "F1": F1,
    "accuracy": ACCURACY,
    "pixel AUROC": PIXEL_AUROC,
    "AUPRO": PIXEL_AUPRO,
    "pixel Dice": PIXEL_DICE,
}
"""Metrics that papers on anomaly detection report, by the title of their column."""
SHARES = {"share_adv": "features", "share_enc": "codes", "share_rec": "reconstruction"}
"""Logged shares of the generator's loss, with the titles of their columns."""
CELL = "mean over the runs; in brackets its 95 % interval; below, smallest to largest of the runs"


class Table(NamedTuple):
    """Table of text; a line break separates lines of a cell, and the first cell of a row is its heading."""

    caption: str
    columns: list[str]
    rows: list[list[str]]
    kind: str = "plain"
    """Style in the HTML: `plain`, `metrics` (bold first line of a cell) or `prose`."""


def run_facts(results: Results) -> list[tuple[str, str]]:
    """Return what was run, with dates, versions and devices.

    Args:
        results: The benchmark.

    Returns:
        Names and texts of the facts that are known.
    """
    config, records = results.config, [result.record for result in results.runs if result.record]
    data = [f"{name} ({note})" if (note := (part or {}).get("note")) else name for name, part in config["data"].items()]
    counts = [f"{sum(run.status == status for run in results.runs)} {status}" for status in (DONE, FAILED, MISSING)]
    dates = sorted(str(record["date"]) for record in records if record.get("date"))
    texts = {
        "systems": _join(config["systems"]),
        "data": _join(data),
        "splits": _join(config["splits"]),
        "seeds": _join(config["seeds"]),
        "runs": f"{len(results.runs)} planned: {', '.join(counts)}",
        "date": " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else "",
        "revision": _join(_revision(record.get("git") or {}) for record in records),
        "versions": _join(
            "; ".join(f"{name} {version}" for name, version in (record.get("versions") or {}).items()) or "not noted"
            for record in records
        ),
        "device": _join(record["device"] for record in records if record.get("device")),
    }
    return [(name, text) for name, text in texts.items() if text]


def _join(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def _revision(git: Mapping[str, object]) -> str:
    if not git:
        return "outside a git checkout"
    return f"{git.get('revision')}{' with uncommitted changes' if git.get('dirty') else ''}"


def report_tables(results: Results, measured: pd.DataFrame, comparisons: pd.DataFrame) -> dict[str, list[Table]]:
    """Return the tables of a report.

    Args:
        results: The benchmark.
        measured: From :func:`anomalib_cxr.benchmark.report.measures.measure_runs`.
        comparisons: From :func:`anomalib_cxr.benchmark.report.measures.compare_systems`.

    Returns:
        Tables by the key of their section.
    """
    data = results.data
    noise = [_shift_table(results, measured, name) for name in data if results.shifts(name)]
    if results.differ_in_noise:
        noise.append(_noise_table(results, measured))
    return {
        "auroc": [_auroc_table(results, measured, name) for name in data],
        "operating": [_operating_table(results, measured, name) for name in data],
        "literature": [_literature_table(results, measured, name) for name in data],
        "shares": [table for name in data if (table := _share_table(results, name)).rows],
        "costs": [_cost_table(results, name) for name in data],
        "pairs": [_comparison_table(results, comparisons, name) for name in data if len(results.systems(name)) > 1],
        "noise": noise,
        "not-done": [_not_done_table(results)] if results.not_done else [],
    }


def _system_table(
    caption: str, systems: Iterable[str], columns: Mapping[str, Callable[[str], str]], kind: str = "metrics"
) -> Table:
    """Return a table with a row per system, each column a function of the system's name."""
    rows = [[system, *(text(system) for text in columns.values())] for system in systems]
    return Table(caption, ["system", *columns], rows, kind)


def _cells(rows: pd.DataFrame, **wanted: Any) -> Callable[[str], str]:
    """Return a column of :func:`_system_table`: the mean over the runs of the selected rows of a system."""
    return lambda system: format_cell(select(rows, system=system, **wanted))


def _auroc_table(results: Results, measured: pd.DataFrame, data: str) -> Table:
    """Tabulate AUROC: reported, by both protocols, by hospital, exposure-adjusted, and between hospitals."""
    here = select(measured, data=data, shift=UNSHIFTED)
    tested = select(here, protocol=HONEST, subset=TEST, metric=AUROC)
    between = undirected_auroc(select(here, metric=HOSPITAL_AUROC, weights=BEST, subset=TEST))
    adjusted = select(here, metric=ADJUSTED_AUROC, weights=BEST, group=POOLED)
    controls = {
        f"negative control, {title}": select(here, metric=metric, weights=BEST, group=POOLED)
        for title, metric in {"test": CONTROL_AUROC, "adjusted for exposure": CONTROL_ADJUSTED}.items()
    }
    groups = [POOLED, *(group for group in tested.group.unique() if group != POOLED)]
    columns: dict[str, Callable[[str], str]] = {
        "reported by the dissertation": lambda system: reported_auroc(results, system),
        "runs": lambda system: str(len(results.of(data, system))),
        "(a) best epoch on validation": _cells(here, protocol=DISSERTATION, group=POOLED),
        **{f"(b) test, {group}": _cells(tested, weights=BEST, group=group) for group in groups},
        **({"(b) test, adjusted for exposure": _cells(adjusted)} if len(adjusted) else {}),
        **{title: _cells(rows) for title, rows in controls.items() if len(rows)},
        "(b) test, last epoch": _cells(tested, weights=LAST, group=POOLED),
        **{f"between hospitals, {pair}": _cells(between, group=pair) for pair in between.group.unique()},
    }
    return _system_table(f"AUROC on {data}: {CELL}. {_sizes(tested)}".strip(), results.systems(data), columns)


def reported_auroc(results: Results, system: str) -> str:
    """Return the AUROC that a system's authors report, with the note of the configuration.

    Args:
        results: The benchmark.
        system: Name of the system.

    Returns:
        Lines of a cell.
    """
    settings = results.config["systems"][system] or {}
    value = settings.get("reported")
    return "\n".join(filter(None, [NOT_MEASURED if value is None else f"{value:.4f}", settings.get("note")]))


def _sizes(tested: pd.DataFrame) -> str:
    """Return a sentence on the numbers of test images."""
    parts = [
        f"{group} {_span(rows.n_normal)} normal and {_span(rows.n_sick)} sick"
        for group, rows in tested.groupby("group", sort=False)
    ]
    return f"Test images: {'; '.join(parts)}." if parts else ""


def _span(counts: pd.Series) -> str:
    return " to ".join(map(str, sorted({int(counts.min()), int(counts.max())})))


def _operating_table(results: Results, measured: pd.DataFrame, data: str) -> Table:
    """Tabulate average precision, specificity at fixed sensitivities, and rates of thresholds chosen on validation."""
    here = select(measured, data=data, shift=UNSHIFTED, protocol=HONEST, subset=TEST, weights=BEST, group=POOLED)
    columns = {"average precision": _cells(here, metric=AVERAGE_PRECISION)} | {
        f"specificity at {100 * wanted:.0f} % sensitivity": _cells(here, metric=name)
        for name, wanted in SPECIFICITIES.items()
    }
    if not select(here, metric=DRIFT).empty:
        columns |= {
            f"{rate} of the threshold for {100 * target:.0f} % on validation": _cells(here, metric=name)
            for name, (rate, target) in TRANSFERRED.items()
        }
        columns["normal test over normal validation images, AUROC"] = _cells(here, metric=DRIFT)
    share = _share_of_sick(here)
    chance = f" A random score has an average precision of {share:.2f}." if len(here) else ""
    caption = f"Protocol (b) on {data}, pooled test set: {CELL}.{chance}"
    return _system_table(caption, results.systems(data), columns)


def _share_of_sick(tested: pd.DataFrame) -> float:
    """Return the share of sick test images, mean over the runs."""
    counts = select(tested, metric=AUROC)
    return float((counts.n_sick / (counts.n_sick + counts.n_normal)).mean())


def _literature_table(results: Results, measured: pd.DataFrame, data: str) -> Table:
    """Tabulate the metrics of papers on anomaly detection as these give them: mean and standard deviation over runs."""
    here = select(measured, data=data, shift=UNSHIFTED, protocol=HONEST, subset=TEST, weights=BEST, group=POOLED)
    columns: dict[str, Callable[[str], str]] = {
        title: lambda system, metric=metric: _deviation_cell(select(here, system=system, metric=metric))  # type: ignore[misc]
        for title, metric in REPORTED_METRICS.items()
        if len(select(here, metric=metric))
    }
    share = _share_of_sick(here)
    chance = (
        f" Calling every image sick has an F1 of {2 * share / (1 + share):.2f} and an accuracy of {share:.2f}."
        if F1 in set(here.metric)
        else ""
    )
    caption = f"Protocol (b) on {data}, pooled test set: mean and standard deviation over the runs.{chance}"
    return _system_table(caption, results.systems(data), columns, "plain")


def _deviation_cell(rows: pd.DataFrame) -> str:
    mean = mean_over_runs(rows)
    if mean is None:
        return NOT_MEASURED
    return f"{mean.value:.3f}" + (f" ± {mean.deviation:.3f}" if mean.n_runs > 1 else "")


def _share_table(results: Results, data: str) -> Table:
    """Tabulate the share of each term in the generator's loss after the last epoch, mean over runs, where logged."""
    rows = []
    for system in results.systems(data):
        last = [run.epochs.iloc[-1] for run in results.of(data, system) if len(run.epochs)]
        means = {name: np.mean([row[name] for row in last if name in row] or [math.nan]) for name in SHARES}
        if not all(map(math.isnan, means.values())):
            cells = [NOT_MEASURED if math.isnan(mean) else f"{100 * mean:.0f} %" for mean in means.values()]
            rows.append([system, *cells])
    caption = f"Share of each term in the generator's loss on {data} after the last epoch, mean over the runs."
    return Table(caption, ["system", *SHARES.values()], rows)


def _cost_table(results: Results, data: str) -> Table:
    """Tabulate the costs of a run: mean over the runs of each system."""

    def column(name: str, form: str, scale: float = 1.0, offset: float = 0.0) -> Callable[[str], str]:
        return lambda system: _mean_cost(results.of(data, system), name, form, scale, offset)

    columns = {
        "training, minutes": column("train_seconds", ".1f", 1 / 60),
        "scoring, ms per image": column("seconds_per_image", ".2f", 1000),
        "parameters, millions": column("parameters", ".2f", 1e-6),
        "peak memory, MiB": column("peak_memory_bytes", ".0f", 2**-20),
        "training images": column("n_train", ".0f"),
        "epochs": column("last_epoch", ".0f", offset=1),
        "device": lambda system: (
            ", ".join(sorted({str(device) for run in results.of(data, system) if (device := run.record.get("device"))}))
            or NOT_MEASURED
        ),
    }
    return _system_table(f"Costs on {data}, mean over the runs.", results.systems(data), columns, "plain")


def _mean_cost(runs: Sequence[RunResult], name: str, form: str, scale: float, offset: float) -> str:
    values = [float(value) for run in runs if (value := run.record.get(name)) is not None]
    values = [value for value in values if math.isfinite(value)]
    return f"{np.mean(values) * scale + offset:{form}}" if values else NOT_MEASURED


def _shift_table(results: Results, measured: pd.DataFrame, data: str) -> Table:
    """Tabulate AUROC at each shift of the test images."""
    here = select(measured, data=data, protocol=HONEST, subset=TEST, weights=BEST, group=POOLED, metric=AUROC)
    columns = {"unchanged": _cells(here, shift=UNSHIFTED)}
    for shift, noise in results.shifts(data).items():
        title = shift if noise is None else f"{shift}\n{noise.kind}, SD {noise.deviation:.3g}"
        columns[title] = _cells(here, shift=shift)
    caption = f"AUROC on the pooled test set of {data}, by transform of the test images: {CELL}."
    return _system_table(caption, results.systems(data), columns)


def _noise_table(results: Results, measured: pd.DataFrame) -> Table:
    """Tabulate AUROC on data sets that differ in the noise of all their images."""
    here = select(measured, protocol=HONEST, subset=TEST, weights=BEST, group=POOLED, metric=AUROC, shift=UNSHIFTED)
    columns = {f"{name}\nSD {noise.deviation:.3g}": _cells(here, data=name) for name, noise in results.noise.items()}
    caption = f"AUROC on the pooled test set of each data set, with the same noise in training and test: {CELL}."
    return _system_table(caption, results.systems(*results.data), columns)


def _not_done_table(results: Results) -> Table:
    """Tabulate failed and missing runs with their reasons."""
    rows = [[str(result.run), result.status, result.reason] for result in results.not_done]
    return Table("Runs without results.", ["run", "status", "reason"], rows, "prose")


def _comparison_table(results: Results, comparisons: pd.DataFrame, data: str) -> Table:
    """Tabulate every pair of systems: difference of AUROC above the diagonal, corrected p below it."""
    chosen = select(comparisons, data=data, weights=BEST, shift=UNSHIFTED)
    pairs = dict(zip(zip(chosen["first"], chosen["second"], strict=True), chosen.to_dict("records"), strict=True))
    systems = results.systems(data)
    columns = {name: lambda system, name=name: _pair_cell(pairs, system, name) for name in systems}
    caption = (
        f"AUROC on the pooled test set of {data}, epoch chosen on validation. Above the diagonal: system of the row "
        "minus system of the column, with 95 % interval. Below it: p of DeLong's paired test, corrected by Holm's "
        f"method for {len(pairs)} pairs; * under {SIGNIFICANT}."
    )
    return _system_table(caption, systems, columns)


def _pair_cell(pairs: Mapping[tuple[str, str], Mapping[Hashable, Any]], row: str, column: str) -> str:
    if row == column:
        return ""
    above = pairs.get((row, column))
    pair = above or pairs[column, row]
    if pair["n_runs"] == 0:
        return f"{NOT_MEASURED}\n{pair['note']}"
    if above:
        return f"{pair['difference']:+.2f}\n{format_interval(pair['low'], pair['high'], '+.2f')}"
    return f"{_format_p(pair['p_holm'])}{'*' if pair['p_holm'] < SIGNIFICANT else ''}"


def _format_p(p: float) -> str:
    """Format a p value with three digits.

    Example:
        >>> _format_p(0.0312), _format_p(0.00002), _format_p(float("nan"))
        ('0.031', '< 0.001', '-')
    """
    if math.isnan(p):
        return NOT_MEASURED
    return "< 0.001" if p < 0.001 else f"{p:.3f}"  # noqa: PLR2004  # the last of three digits


def format_cell(rows: pd.DataFrame) -> str:
    """Format a metric: mean over runs, its interval, and smallest to largest; or the reason for a missing value.

    Args:
        rows: Rows of :func:`anomalib_cxr.benchmark.report.measures.measure_runs` that differ in split and seed only.

    Returns:
        Lines of a cell.
    """
    mean = mean_over_runs(rows)
    if mean is None:
        return "\n".join((NOT_MEASURED, *sorted({note for note in rows.note if note})))
    lines = [f"{mean.value:.3f}", format_interval(mean.low, mean.high)]
    return "\n".join(lines + [f"{mean.smallest:.3f} to {mean.largest:.3f}"] * (mean.n_runs > 1))


def format_interval(low: float, high: float, form: str = ".3f") -> str:
    """Format an interval.

    Args:
        low: Lower end, or NaN.
        high: Upper end.
        form: Format of a number.

    Returns:
        The interval in brackets.

    Example:
        >>> format_interval(-0.1, 0.25, "+.2f"), format_interval(math.nan, math.nan)
        ('[-0.10, +0.25]', 'no interval')
    """
    return "no interval" if math.isnan(low) else f"[{low:{form}}, {high:{form}}]"
