"""Verbs of the command `anomalib-cxr` for the page of a worklist: accounts, audit log, blind readings, and export."""

from __future__ import annotations

import csv
import getpass
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from anomalib_cxr.errors import AuditError, ScreeningError, require_extra

if TYPE_CHECKING:
    from .accounts import Accounts
    from .audit import AuditLog
    from .blind.reading import BlindReadings

logger = logging.getLogger(__name__)


def users_add(name: str, worklist: Path, role: Literal["reader", "admin"] = "reader") -> None:
    """Add an account for the page of a worklist; its password is asked for, or read from the standard input.

    Args:
        name: Name of a person, which stands beside their verdicts.
        worklist: Folder of the worklist.
        role: A reader looks at cases and judges them; an admin also sees and exports what all readers did.
    """
    from .accounts import Role  # noqa: PLC0415

    accounts = _accounts(worklist)
    is_first = not accounts.all()
    accounts.add(name, Role(role), _read_password(f"Password of {name}"))
    logger.info("%s may sign in as %s", name, role)
    if is_first:
        logger.info("From now on everyone has to sign in, at this machine too. Start `serve` again if it runs.")


def users_list(worklist: Path) -> None:
    """List the accounts of the page of a worklist.

    Args:
        worklist: Folder of the worklist.
    """
    accounts = _accounts(worklist).all()
    for account in accounts:
        logger.info("%s\t%s\tpassword of %s", account.name, account.role.value, account.changed[:10])
    if not accounts:
        logger.info("No account: only this machine reaches the page, and nobody has to sign in.")


def users_password(name: str, worklist: Path) -> None:
    """Set the password of an account, which is asked for or read from the standard input; its sessions end.

    Args:
        name: Name of the account.
        worklist: Folder of the worklist.
    """
    _accounts(worklist).set_password(name, _read_password(f"New password of {name}"))
    logger.info("Password of %s set; their sessions have ended", name)


def users_remove(name: str, worklist: Path) -> None:
    """Remove an account; its sessions end, its verdicts stay.

    Args:
        name: Name of the account.
        worklist: Folder of the worklist.
    """
    accounts = _accounts(worklist)
    accounts.remove(name)
    logger.info("%s cannot sign in any more", name)
    if not accounts.all():
        logger.warning("This was the last account: a server that is started now admits everyone at this machine.")


def deidentify(worklist: Path, output: Path, cases: tuple[int, ...] = ()) -> None:
    """Export chosen cases without what tells who the patients are; text that is burnt into the pixels stays.

    Args:
        worklist: Folder of the worklist.
        output: ZIP archive to write.
        cases: Numbers of the cases, such as 3,17.
    """
    require_extra("dicognito", "serve")
    from anomalib_cxr.screening.worklist.store import Worklist  # noqa: PLC0415
    from anomalib_cxr.utils.files import atomic_path  # noqa: PLC0415

    from .audit import Action, AuditLog  # noqa: PLC0415
    from .deidentified import MAX_CASES, export_deidentified  # noqa: PLC0415

    opened = Worklist(worklist)
    AuditLog(opened.folder).write("", "command", Action.EXPORT, cases[:MAX_CASES], detail="de-identified cases")
    with atomic_path(output, private=True) as unfinished, unfinished.open("wb") as file:
        export_deidentified(opened, cases, file)
    logger.info("%d cases in %s. Look at each picture: burnt-in text is not taken out.", len(cases), output)


def blind_open(worklist: Path, seed: int = 0, readers: tuple[str, ...] = ()) -> None:
    """Open a blind reading of a worklist: its readers see nothing of the model or of others until they have read all.

    Args:
        worklist: Folder of the worklist.
        seed: Seed of the random order, the same one for all readers.
        readers: Names of the accounts that read; by default all with the role of a reader.
    """
    reading = _readings(worklist).open(seed, readers)
    logger.info("%d X-rays are read blind by %s", len(reading.cases), ", ".join(reading.readers))


def blind_close(worklist: Path) -> None:
    """Close the blind reading of a worklist: its readers see all again, and later verdicts do not count for it.

    Args:
        worklist: Folder of the worklist.
    """
    readings = _readings(worklist)
    reading = readings.close()
    for name, progress in readings.progress(reading).items():
        logger.info("%s: %d read, %d unread", name, len(progress.verdicts), len(progress.unread))


def audit_verify(worklist: Path, head: str = "") -> None:
    """Check that no entry of the audit log was changed, taken out or put in, and print the hash of the last one.

    Args:
        worklist: Folder of the worklist.
        head: Hash that this command printed before; the log must still have its entry.
    """
    last, found = None, not head
    for entry in _audit_log(worklist).verified():
        last, found = entry, found or entry.hash == head
    if not found:
        raise AuditError(
            f"no entry with the hash {head}",
            "the entry that was the last one when the hash was printed",
            "compare with a backup: the end of the log was cut off, or the whole of it was written anew",
        )
    if last is None:
        logger.info("No entry")
    else:
        logger.info("%d entries, none changed. Hash of the last one:\n%s", last.number, last.hash)


def audit_list(worklist: Path, names: bool = False) -> None:
    """Print the entries of the audit log as CSV, after checking each.

    Args:
        worklist: Folder of the worklist.
        names: Add a line for each file of an entry, and patients' names where the worklist has them.
    """
    from anomalib_cxr.screening.worklist.store import Worklist  # noqa: PLC0415
    from anomalib_cxr.screening.worklist.tables import escape_csv_formula  # noqa: PLC0415

    log, cases = _audit_log(worklist), Worklist(worklist)
    table = csv.writer(sys.stdout)
    columns = ("number", "time", "who", "host", "action", "cases", "content", "detail")
    table.writerow([*columns, *(("path", "patient_id", "patient_name") if names else ())])
    for entry in log.verified():
        row = [entry.number, entry.time, entry.who, entry.host, entry.action.value]
        row += [" ".join(map(str, entry.cases)), entry.content, entry.detail]
        seen = [cases.case(number) for number in entry.cases] if names else []
        facts = [[case.path, case.patient_id, case.patient_name] for case in seen if case] or [[]]
        table.writerows(map(escape_csv_formula, [*row, *fact]) for fact in facts)


def _audit_log(worklist: Path) -> AuditLog:
    require_extra("fastapi", "serve")
    from anomalib_cxr.screening.worklist.store import Worklist  # noqa: PLC0415

    from .audit import AuditLog  # noqa: PLC0415

    log = AuditLog(Worklist(worklist).folder)
    if not log.file.is_file():
        raise AuditError(f"no {log.file}", "the log that `serve` writes", "run `anomalib-cxr serve` first")
    return log


def _readings(worklist: Path) -> BlindReadings:
    require_extra("argon2", "serve")
    from anomalib_cxr.screening.worklist.store import Worklist  # noqa: PLC0415

    from .blind.reading import BlindReadings  # noqa: PLC0415

    return BlindReadings(Worklist(worklist))


def _accounts(worklist: Path) -> Accounts:
    require_extra("argon2", "serve")
    from anomalib_cxr.screening.worklist.store import Worklist  # noqa: PLC0415

    from .accounts import Accounts  # noqa: PLC0415

    return Accounts(Worklist(worklist).folder)


def _read_password(prompt: str) -> str:
    """Ask for a password twice, or read one line of a standard input that is no terminal; never from an argument."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass(f"{prompt}: ")
    if getpass.getpass("Once more: ") != password:
        raise ScreeningError("two different passwords", "the same one twice", "run the command again")
    return password
