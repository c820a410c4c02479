"""Verbs of the command `anomalib-cxr` that keep a worklist and its model: self-test, monitoring, backup, purge."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from anomalib_cxr.errors import require_extra
from anomalib_cxr.utils.settings import PositiveInt, check_settings

logger = logging.getLogger(__name__)


def monitor(worklist: Path, weeks: int = 4, false_alarms: float = 0.01, least_psi: float = 0.1) -> None:
    """Tell whether the calibration still describes the X-rays that come in; for cron, by the exit status.

    Compares a worklist's scores, exposures, refusals and verdicts with the calibration, by week, machine and view, and
    writes monitor.csv. Exit status: 0 no drift, 3 drift, 4 too few X-rays, 1 an error.

    Args:
        worklist: Folder of the worklist.
        weeks: Number of weeks up to that of the newest X-ray; 0 for all.
        false_alarms: Probability of a false alarm in each run.
        least_psi: Population stability index from which a difference matters.
    """
    from anomalib_cxr.screening.monitoring.monitor import MonitorSettings, monitor_worklist  # noqa: PLC0415
    from anomalib_cxr.screening.monitoring.report import describe_result, write_csv  # noqa: PLC0415

    from .store import Worklist  # noqa: PLC0415

    settings = MonitorSettings(weeks, false_alarms, least_psi)
    result = monitor_worklist(Worklist(worklist), settings)
    table = write_csv(result, worklist)
    logger.info("%s\nAll figures: %s", "\n".join(describe_result(result)), table)
    if result.status:
        sys.exit(result.status)


def selftest(model: Path, device: str = "CPU") -> None:
    """Test a calibrated model on this machine: phantoms through the whole chain, with the scores of the calibration.

    Needs no X-ray and takes less than a minute. Exit status 1 if anything is not as in the calibration.

    Args:
        model: Folder of a calibrated model.
        device: OpenVINO device.
    """
    from anomalib_cxr.screening.self_test import run_self_test  # noqa: PLC0415

    logger.info("%s", run_self_test(model, device))


def backup(worklist: Path, folder: Path) -> None:
    """Copy a worklist with its images, verdicts, accounts and audit log, while it is in use.

    Args:
        worklist: Folder of the worklist.
        folder: Folder to create.
    """
    from .backup import back_up_worklist  # noqa: PLC0415

    made = back_up_worklist(worklist, folder)
    logger.info("%s: %d files, %.1f MB, of %s", folder, len(made.files), made.megabytes, made.made)


def restore(backup: Path, worklist: Path) -> None:
    """Make a new worklist from a backup, after a check of all its files.

    Args:
        backup: Folder that `backup` wrote.
        worklist: Folder of the worklist to create.
    """
    from .backup import restore_worklist  # noqa: PLC0415

    made = restore_worklist(backup, worklist)
    logger.info("%s: %d files, as of %s", worklist, len(made.files), made.made)


def purge(worklist: Path, older_than: PositiveInt, dry_run: bool = False) -> None:
    """Erase from a worklist what tells patients, of X-rays that were screened long ago, and delete their images.

    Verdicts and scores stay, without names, paths and notes. Files outside the worklist are never deleted.

    Args:
        worklist: Folder of the worklist.
        older_than: Age in days from which an X-ray is purged.
        dry_run: Only tell what would be purged.
    """
    check_settings(purge, {"older_than": older_than}, "the options")
    from .purge import purge_worklist  # noqa: PLC0415

    found = purge_worklist(worklist, older_than, dry_run=dry_run)
    logger.info(
        "%s: %d X-rays from before %s, %d notes of verdicts, %d files of %.1f MB",
        "Would be purged" if dry_run else "Purged",
        *(found.rows, found.before, found.notes, found.files, found.size / 1e6),
    )
    if not dry_run and found.rows:
        _audit_purge(worklist, found.rows, found.before)


def _audit_purge(worklist: Path, rows: int, before: str) -> None:
    """Note a purge in the audit log of the page, where there is one."""
    if (worklist / "audit.jsonl").is_file():
        require_extra("fastapi", "serve")
        from anomalib_cxr.web.audit import Action, AuditLog  # noqa: PLC0415  # an extra

        AuditLog(worklist).write("", "", Action.PURGE, detail=f"{rows} cases from before {before}")


def upgrade(worklist: Path) -> None:
    """Bring a worklist that an older version wrote to the format of this version; keeps all rows and verdicts.

    Args:
        worklist: Folder of the worklist.
    """
    from .upgrade import upgrade_worklist  # noqa: PLC0415

    before, after = upgrade_worklist(worklist)
    done = f"has format {after} already" if before == after else f"upgraded from format {before} to {after}"
    logger.info("%s: %s", worklist, done)
