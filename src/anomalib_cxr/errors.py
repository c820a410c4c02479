"""Errors that a user can act on: what was found, what was expected, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

PRINTED = 100
"""Offending files of a kind that a message lists; a set of a hundred thousand images must not flood a terminal."""


class CxrError(ValueError):
    """Base of the errors that bad input causes.

    Args:
        found: What was found, with the name of the file or the setting.
        expected: What would have been accepted.
        next_step: What the user can do about it.

    Example:
        >>> raise CxrError("sigma = -1.0", "sigma >= 0", "give the noise level in the scale of [-1, 1]")
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.CxrError: found: sigma = -1.0
          expected: sigma >= 0
          next step: give the noise level in the scale of [-1, 1]
    """

    def __init__(self, found: str, expected: str, next_step: str) -> None:
        self.found = found
        self.expected = expected
        self.next_step = next_step
        super().__init__(f"found: {found}\n  expected: {expected}\n  next step: {next_step}")


class SettingError(CxrError):
    """A setting of a model or a data module is outside its range."""


def refuse_settings(wrong: Mapping[str, object], expected: Mapping[str, str], place: str) -> None:
    """Refuse settings outside their range, all at once; without one, do nothing.

    Args:
        wrong: Offending settings by name, with their values.
        expected: What would have been accepted, by name.
        place: Where a configuration has them, such as `model.init_args`.

    Raises:
        SettingError: If there is an offending setting.

    Example:
        >>> refuse_settings({"seed": -1}, {"seed": ">= 0"}, "data.init_args")
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.SettingError: found: seed = -1
          expected: seed >= 0
          next step: correct it in the configuration under data.init_args
    """
    if wrong:
        raise SettingError(
            ", ".join(f"{name} = {value!r}" for name, value in wrong.items()),
            ", ".join(f"{name} {expected[name]}" for name in wrong),
            f"correct it in the configuration under {place}",
        )


class MissingExtraError(CxrError):
    """An optional dependency is not installed."""


def require_extra(module: str, extra: str) -> None:
    """Refuse to go on without a module that an extra of this package installs; call it before any other work.

    Args:
        module: Importable name of the module, such as `highdicom`.
        extra: Name of the extra, such as `dicom`.

    Raises:
        MissingExtraError: If the module cannot be found.

    Example:
        >>> require_extra("nowhere", "dicom")
        Traceback (most recent call last):
        ...
        anomalib_cxr.errors.MissingExtraError: found: no module nowhere
          expected: the optional dependencies of the extra `dicom`
          next step: pip install "anomalib-cxr[dicom]"
    """
    if find_spec(module) is None:
        raise MissingExtraError(
            f"no module {module}",
            f"the optional dependencies of the extra `{extra}`",
            f'pip install "anomalib-cxr[{extra}]"',
        )


class RadiographError(CxrError):
    """One file cannot be read as a frontal radiograph or as its mask.

    Args:
        path: The offending file.
        reason: What is wrong with it, in a few words that can stand in a list of files.
        expected: What would have been accepted.
        next_step: What the user can do about it.
    """

    def __init__(self, path: Path | str, reason: str, expected: str, next_step: str) -> None:
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"{self.path}: {reason}", expected, next_step)


def _listed(paths: Sequence[Path]) -> list[str]:
    """Return the lines that list files, and how many more there are."""
    rest = len(paths) - PRINTED
    return [*map(str, paths[:PRINTED]), *([f"and {rest} more"] if rest > 0 else [])]


class DatasetError(CxrError):
    """A data folder, or several of its files, cannot be used; names all offenders at once.

    Args:
        found: What was found, with the folder.
        expected: What would have been accepted.
        next_step: What the user can do about it.
        offenders: All offending files, by what is wrong with them. The message lists the first hundred of each kind,
            the attribute `offenders` has them all.
    """

    def __init__(
        self,
        found: str,
        expected: str,
        next_step: str,
        offenders: Mapping[str, Sequence[Path | str]] | None = None,
    ) -> None:
        self.offenders = {reason: [Path(path) for path in paths] for reason, paths in (offenders or {}).items()}
        listing = "".join(
            f"\n    {reason} ({len(paths)}):" + "".join(f"\n      {line}" for line in _listed(paths))
            for reason, paths in self.offenders.items()
        )
        super().__init__(found + listing, expected, next_step)


class DownloadError(CxrError):
    """A file could not be fetched or is not what its publisher describes."""


class SegmenterError(CxrError):
    """A file is no lung segmenter, or not the one that made what is there."""


class DivergenceError(CxrError):
    """A training turned non-finite."""


class ScoreError(CxrError):
    """Scores of images cannot be evaluated."""


class ScreeningError(CxrError):
    """A model cannot be calibrated or screened with, or a worklist cannot be used."""
