"""Exceptions of the package. Each message states what was found, what was expected, and the next step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from .utils.path_text import path_as_text

_MAX_LISTED = 100  # offending files of a kind in a message: a hundred thousand must not flood a terminal


class CxrError(ValueError):
    """Base class of the errors that wrong input causes.

    Args:
        found: Description of the input, with the name of the file or the setting.
        expected: Description of the accepted input.
        next_step: Action that the user can take.

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
    """Raise one error for all settings outside their range; without any, do nothing.

    Args:
        wrong: Values of the offending settings, by name.
        expected: Description of the accepted values, by name.
        place: Place of the settings in a configuration, such as `model.init_args`.

    Raises:
        SettingError: If `wrong` is not empty.

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
    """Check that a module of an optional dependency is installed; call it before any other work.

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
    """A file cannot be read as a frontal radiograph or as a mask.

    Args:
        path: The offending file.
        reason: Description of the error, short enough for a list of files.
        expected: Description of the accepted input.
        next_step: Action that the user can take.
    """

    def __init__(self, path: Path | str, reason: str, expected: str, next_step: str) -> None:
        self.path = Path(path)
        self.reason = reason
        super().__init__(f"{path_as_text(self.path)}: {reason}", expected, next_step)


def list_offenders(offenders: Mapping[str, Sequence[Path]]) -> str:
    """List offending files by their error, up to a hundred for each.

    Args:
        offenders: All offending files, by their error.

    Returns:
        Indented lines, each after a line break; none without offenders.

    Example:
        >>> print("left out:" + list_offenders({"empty": [Path("a.png"), Path("b.png")]}))
        left out:
            empty (2):
              a.png
              b.png
    """
    return "".join(
        f"\n    {reason} ({len(paths)}):" + "".join(f"\n      {line}" for line in _lines(paths))
        for reason, paths in offenders.items()
    )


def _lines(paths: Sequence[Path]) -> list[str]:
    """Return a line for each file up to the limit, and one with the number of the others."""
    rest = len(paths) - _MAX_LISTED
    return [*map(path_as_text, paths[:_MAX_LISTED]), *([f"and {rest} more"] if rest > 0 else [])]


class DatasetError(CxrError):
    """A data folder or some of its files cannot be used.

    Args:
        found: Description of the input, with the folder.
        expected: Description of the accepted input.
        next_step: Action that the user can take.
        offenders: All offending files, by their error; an error without files is left out. The message lists the first
            hundred for each error, the attribute `offenders` holds all.
    """

    def __init__(
        self,
        found: str,
        expected: str,
        next_step: str,
        offenders: Mapping[str, Sequence[Path | str]] | None = None,
    ) -> None:
        by_error = (offenders or {}).items()
        self.offenders = {reason: [Path(path) for path in paths] for reason, paths in by_error if paths}
        super().__init__(found + list_offenders(self.offenders), expected, next_step)


class DownloadError(CxrError):
    """A file could not be downloaded, or differs from its publisher's description."""


class SegmenterError(CxrError):
    """A file is not a lung segmenter, or not the one that predicted the masks of a folder."""


class DivergenceError(CxrError):
    """A loss or a weight became non-finite during training."""


class ScoreError(CxrError):
    """Scores cannot be evaluated."""


class ScreeningError(CxrError):
    """A model cannot be calibrated or used for screening, or a worklist cannot be used."""


class LockedWorklistError(ScreeningError):
    """A worklist is locked by another program for longer than was to be waited."""


class AuditError(ScreeningError):
    """The audit log of a worklist is not as it was written."""


class DeidentificationError(ScreeningError):
    """Cases cannot be exported without what tells who the patients are."""


class ChangedCaseError(ScreeningError):
    """A case has another content than the one that a reader saw: a verdict on it would be about another X-ray."""
