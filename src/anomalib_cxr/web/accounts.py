"""Accounts of the people who may use the page of a worklist, in a file of its folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Literal

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.utils.files import atomic_path, private_folder

from .names import composed, unseen_characters

ACCOUNTS = "accounts.json"
MIN_PASSWORD, MAX_PASSWORD = 12, 1000
"""Number of characters of a password. Long ones are hard to guess; rules about their characters make them no harder."""
MAX_NAME = 100
_WAIT = 10  # seconds for another command that writes the file
_hasher = PasswordHasher()  # Argon2id, with the parameters that its authors recommend
_NOBODYS = _hasher.hash("")  # takes as long to check as that of an account, so that time tells no name


class Role(str, Enum):
    """Rights of an account."""

    READER = "reader"
    """Look at cases, give verdicts, and screen single images."""
    ADMIN = "admin"
    """The same, and see and export what all readers have done."""


class Account(BaseModel):
    """A person who may sign in."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    role: Role
    password: str
    """Argon2 hash."""
    changed: str
    """Time at which the password was set, UTC, ISO 8601."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    format: Literal[1] = 1
    accounts: list[Account] = []


class Accounts:
    """Accounts in the folder of a worklist. Each call reads the file: a change holds at once, for all servers.

    Args:
        folder: Folder of the worklist.

    Example:
        >>> from tempfile import mkdtemp
        >>> accounts = Accounts(Path(mkdtemp()))
        >>> accounts.add("Ada", Role.READER, "a password of hers")
        >>> accounts.check("ada", "a password of hers").name, accounts.check("ada", "another one")
        ('Ada', None)
    """

    def __init__(self, folder: Path) -> None:
        self.file = folder / ACCOUNTS

    def all(self) -> list[Account]:
        """Return all accounts in the order of their names.

        Raises:
            ScreeningError: If the file cannot be read.
        """
        try:
            content = self.file.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise self._unusable(error) from error
        try:
            return _File.model_validate_json(content).accounts
        except ValidationError as error:
            first = error.errors()[0]
            raise self._unusable(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error

    def find(self, name: str) -> Account | None:
        """Return the account of a name, in any letter case; None where there is none.

        Args:
            name: The name.
        """
        key = composed(name).casefold()
        return next((account for account in self.all() if account.name.casefold() == key), None)

    def check(self, name: str, password: str) -> Account | None:
        """Return the account that a name and a password belong to; None where they are wrong.

        Args:
            name: Name of an account.
            password: Its password.
        """
        account = self.find(name)
        try:
            _hasher.verify(_NOBODYS if account is None else account.password, password[: MAX_PASSWORD + 1])
        except (VerificationError, InvalidHashError):
            return None
        return account

    def add(self, name: str, role: Role, password: str) -> None:
        """Add an account.

        Args:
            name: Name of a person, which stands beside their verdicts.
            role: What the account may do.
            password: Password, of 12 characters at least.

        Raises:
            ScreeningError: If there is such an account, or name or password cannot be used.
        """
        name = _checked_name(name)
        account = _account(name, role, password)
        with self._changed() as accounts:
            if any(known.name.casefold() == name.casefold() for known in accounts):
                raise ScreeningError(
                    f"an account {name!r} in {self.file}",
                    "one account for each name, in any letter case",
                    "choose another name, or give this one a password by `anomalib-cxr users password`",
                )
            accounts.append(account)

    def set_password(self, name: str, password: str) -> None:
        """Set the password of an account; its sessions end.

        Args:
            name: Name of the account.
            password: Password, of 12 characters at least.

        Raises:
            ScreeningError: If there is no such account, or the password cannot be used.
        """
        with self._changed() as accounts:
            known = self._known(accounts, name)
            accounts[accounts.index(known)] = _account(known.name, known.role, password)

    def remove(self, name: str) -> None:
        """Remove an account; its sessions end, and its verdicts stay.

        Args:
            name: Name of the account.

        Raises:
            ScreeningError: If there is no such account, or it is the last admin beside readers.
        """
        with self._changed() as accounts:
            accounts.remove(self._known(accounts, name))
            if accounts and all(account.role is not Role.ADMIN for account in accounts):
                raise ScreeningError(
                    f"{name!r}, the last admin of {self.file}", "an admin beside the readers", "add another one first"
                )

    def _known(self, accounts: list[Account], name: str) -> Account:
        key = composed(name).casefold()
        for account in accounts:
            if account.name.casefold() == key:
                return account
        names = ", ".join(account.name for account in accounts) or "none"
        raise ScreeningError(f"no account {name!r}", f"one of those in {self.file}: {names}", "correct the name")

    @contextmanager
    def _changed(self) -> Iterator[list[Account]]:
        """Yield the accounts, and write them as the block leaves them, unless it raises."""
        private_folder(self.file.parent)
        try:
            with FileLock(self.file.with_name(f".{ACCOUNTS}.lock"), timeout=_WAIT, mode=0o600):
                accounts = self.all()
                yield accounts
                content = _File(accounts=sorted(accounts, key=lambda account: account.name.casefold()))
                with atomic_path(self.file, private=True) as unfinished:
                    unfinished.write_text(content.model_dump_json(indent=2), encoding="utf-8")
        except Timeout as error:
            raise self._unusable(f"another command has kept it for {_WAIT} s") from error
        except OSError as error:
            raise self._unusable(error) from error

    def _unusable(self, reason: object) -> ScreeningError:
        return ScreeningError(
            f"{self.file}: {reason}",
            "a file of accounts, as `anomalib-cxr users` writes it",
            "restore it from a backup, or move it away and add the accounts again; verdicts are kept elsewhere",
        )


def _account(name: str, role: Role, password: str) -> Account:
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD or password.casefold() == name.casefold():
        found = "the name as its password" if password.casefold() == name.casefold() else f"{len(password)} characters"
        raise ScreeningError(
            f"a password: {found}",
            f"{MIN_PASSWORD} to {MAX_PASSWORD} characters that nobody guesses",
            "take a sentence, or what a password manager makes",
        )
    return Account(
        name=name,
        role=role,
        password=_hasher.hash(password),
        changed=datetime.now(timezone.utc).isoformat(timespec="microseconds"),
    )


def _checked_name(name: str) -> str:
    name = composed(name)
    unseen = unseen_characters(name)
    if not 0 < len(name) <= MAX_NAME or ":" in name or unseen:
        raise ScreeningError(
            f"the name {name[:MAX_NAME]!r}{f' with {unseen}' if unseen else ''}",
            f"1 to {MAX_NAME} characters that can be shown, without a colon",
            "correct the name",
        )
    return name
