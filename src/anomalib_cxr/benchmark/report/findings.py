"""The words of a benchmark's report: what was run, what came out in short, and how to read it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.resources import files

import pandas as pd
import yaml

from anomalib_cxr.benchmark.plan.grid import DONE, FAILED, MISSING
from anomalib_cxr.evaluation.metrics.screening_metrics import AUROC, HOSPITAL_AUROC, POOLED

from .comparisons import SIGNIFICANT
from .measures import DISSERTATION, HONEST, Over, either_way, over_runs, pick
from .results import AS_IS, BEST, TEST, Results
from .tables import interval_words


def how_to_read() -> list[tuple[str, str]]:
    """Return what protocols, intervals and tests mean, by name.

    Example:
        >>> how_to_read()[0][0]
        "Protocol (a), the dissertation's"
    """
    text = files(__package__).joinpath("templates/how_to_read.yaml").read_text(encoding="utf-8")
    return list(yaml.safe_load(text).items())


def facts(results: Results) -> list[tuple[str, str]]:
    """Return what was run, when, with what and on what."""
    records = [each.record for each in results.outcomes if each.record]
    counts = {status: sum(each.status == status for each in results.outcomes) for status in (DONE, FAILED, MISSING)}
    dates = sorted(str(record["date"]) for record in records if record.get("date"))
    words = {
        "systems": _list(results.config["systems"]),
        "data": _list(_with_note(name, settings) for name, settings in results.config["data"].items()),
        "splits": _list(results.config["splits"]),
        "seeds": _list(results.config["seeds"]),
        "runs": f"{len(results.outcomes)} planned: " + ", ".join(f"{number} {name}" for name, number in counts.items()),
        "date": dates[0] if len(set(dates)) == 1 else f"{dates[0]} to {dates[-1]}" if dates else "",
        "revision": _list(_revision(record.get("git")) for record in records),
        "versions": _list(_versions(record.get("versions")) for record in records),
        "device": _list(record["device"] for record in records if record.get("device")),
    }
    return [(name, text) for name, text in words.items() if text]


def _with_note(name: str, settings: Mapping[str, str] | None) -> str:
    note = (settings or {}).get("note")
    return f"{name} ({note})" if note else name


def _list(values: Iterable[object]) -> str:
    return ", ".join(dict.fromkeys(map(str, values)))


def _revision(git: Mapping[str, object] | None) -> str:
    if not git:
        return "outside a git checkout"
    return f"{git.get('revision')}{' with changes that are not committed' if git.get('dirty') else ''}"


def _versions(versions: Mapping[str, str] | None) -> str:
    return "; ".join(f"{name} {version}" for name, version in (versions or {}).items()) or "not noted"


def findings(results: Results, measured: pd.DataFrame, comparisons: pd.DataFrame) -> list[str]:
    """Say in short what came out: sentences that the tables bear out."""
    if not results.done:
        return ["No run is done: there is nothing to measure yet."]
    words = [
        list(_findings_on(results, measured, pick(comparisons, data=data, weights=BEST, shift=AS_IS), data))
        for data in results.config["data"]
        if results.systems(data)
    ]
    return words[0] if len(words) == 1 else [" ".join(sentences) for sentences in words]


def _findings_on(results: Results, measured: pd.DataFrame, pairs: pd.DataFrame, data: str) -> Iterator[str]:
    here = pick(measured, data=data, shift=AS_IS)
    tested = pick(here, protocol=HONEST, subset=TEST, weights=BEST)
    honest = _by_system(pick(tested, metric=AUROC, group=POOLED))
    if honest:
        ranked = sorted(honest, key=lambda system: -honest[system].value)
        top = ranked[0]
        yield f"On {data}, by protocol (b), {top} has the highest AUROC: {_words(honest[top])}."
        above = [system for system in ranked if honest[system].low > 0.5]  # noqa: PLR2004  # a guess
        yield f"{len(above)} of {len(ranked)} systems are above 0.5 with their whole interval{_names(above)}."
    yield from _optimizm(_by_system(pick(here, protocol=DISSERTATION, group=POOLED)), honest)
    yield from _reported(results, honest)
    compared = pairs[pairs.p_holm.notna()]
    if len(compared):
        differ = int((compared.p_holm < SIGNIFICANT).sum())
        yield f"{differ} of {len(compared)} pairs of systems differ, corrected for their number (p < {SIGNIFICANT})."
    yield from _hospitals(pick(tested, metric=HOSPITAL_AUROC))


def _by_system(rows: pd.DataFrame) -> dict[str, Over]:
    found = {str(system): over_runs(part) for system, part in rows.groupby("system", sort=False)}
    return {system: over for system, over in found.items() if over is not None}


def _words(over: Over) -> str:
    return f"{over.value:.3f} {interval_words(over.low, over.high)}"


def _names(names: list[str]) -> str:
    return f": {', '.join(names)}" if names else ""


def _optimizm(dissertation: Mapping[str, Over], honest: Mapping[str, Over]) -> Iterator[str]:
    """Say how much the dissertation's protocol lifts the figures."""
    lifts = [dissertation[system].value - honest[system].value for system in honest if system in dissertation]
    if lifts:
        mean = sum(lifts) / len(lifts)
        yield (
            f"Protocol (a) gives {mean:+.3f} against (b), mean over systems "
            f"(smallest to largest {min(lifts):+.3f} to {max(lifts):+.3f})."
        )


def _reported(results: Results, honest: Mapping[str, Over]) -> Iterator[str]:
    """Say how far the reported figures are from the honest ones."""
    known = {system: value for system in honest if (value := results.reported(system)) is not None}
    if known:
        within = [system for system, value in known.items() if honest[system].low <= value <= honest[system].high]
        above = [value - honest[system].value for system, value in known.items()]
        yield (
            f"The reported figures differ from protocol (b) by {min(above):+.3f} to {max(above):+.3f}; "
            f"{len(within)} of {len(known)} lie within its interval{_names(within)}."
        )


def _hospitals(rows: pd.DataFrame) -> Iterator[str]:
    """Say whose score tells the hospitals apart most."""
    parts = either_way(rows).groupby(["system", "group"])
    known = {place: over for place, part in parts if (over := over_runs(part)) is not None}
    if known:
        (system, group), over = max(known.items(), key=lambda item: item[1].value)
        yield f"Most apart are the hospitals in the scores of {system} ({group}, either way): {_words(over)}."
