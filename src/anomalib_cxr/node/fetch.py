"""X-rays of an archive by DICOMweb: found by QIDO-RS, fetched by WADO-RS, each object once."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from dicomweb_client import DICOMwebClient
from pydicom.dataset import Dataset
from rich.progress import track

from anomalib_cxr.data.reading.discovery import FoundFiles
from anomalib_cxr.errors import CxrError, RadiographError, ScreeningError
from anomalib_cxr.utils.files import private_folder

from .certificates import SYSTEM_CERTIFICATES, Certificates, client_tls
from .dicomweb import RejectedError, UnreachableError, as_server_error, connect
from .spool import FOLDER, Spool, read_identity

_DATES = re.compile(r"\d{8}(-(\d{8})?)?|-\d{8}")
_STUDY, _SERIES, _INSTANCE, _COUNT = "0020000D", "0020000E", "00080018", "00201209"
_ANY_ENCODING = (("application/dicom", "*"),)  # the objects as they are stored
logger = logging.getLogger(__name__)


class _Address(NamedTuple):
    """Identifiers by which an object is fetched."""

    study: str
    series: str
    instance: str


@dataclass(frozen=True)
class ArchiveQuery:
    """Selection of X-rays of an archive.

    Args:
        url: Address of the DICOMweb service, `http` or `https`.
        dates: Study date or range of dates, `YYYYMMDD`, `YYYYMMDD-YYYYMMDD`, or open at an end; empty for all.
        modalities: Modalities, such as `DX`.
        certificates: Files by which an HTTPS connection is made.
    """

    url: str
    dates: str = ""
    modalities: tuple[str, ...] = ("CR", "DX")
    certificates: Certificates = SYSTEM_CERTIFICATES

    def check(self) -> None:
        """Refuse dates or modalities that a query cannot have, and files that are no certificates.

        Raises:
            ScreeningError: If one is wrong.
        """
        if self.dates and not _DATES.fullmatch(self.dates):
            raise ScreeningError(f"--dates {self.dates}", "YYYYMMDD or YYYYMMDD-YYYYMMDD", "correct it")
        if not self.modalities or not all(re.fullmatch("[A-Z]{2,16}", each) for each in self.modalities):
            raise ScreeningError(f"--modality {','.join(self.modalities)}", "such as CR,DX", "correct it")
        client_tls(self.certificates)


def fetch(query: ArchiveQuery, folder: Path) -> FoundFiles:
    """Fetch the X-rays of a selection that were not fetched before.

    Args:
        query: The selection.
        folder: Folder of received objects, absolute. An object that is there is not fetched again.

    Returns:
        All files of the selection, and what could not be fetched, by the reason.

    Raises:
        ScreeningError: If the archive does not answer, or nothing is found.
    """
    query.check()
    spool = Spool(folder)
    client = connect(query.url, query.certificates)
    try:
        with as_server_error(query.url):
            found = list(dict.fromkeys(_search(client, query)))
    except (UnreachableError, RejectedError) as error:
        raise ScreeningError(
            f"{error}", "a DICOMweb service whose QIDO-RS answers in full", "check the address and the server"
        ) from error
    if not found:
        raise ScreeningError(
            f"{query.url}: no series of {', '.join(query.modalities)} {query.dates}".rstrip(),
            "at least one X-ray",
            "correct --dates or --modality",
        )
    files: list[Path] = []
    left_out: dict[str, list[Path]] = {}
    for address in track(found, "Fetching", transient=True):
        try:
            files.append(spool.find(address.study, address.instance) or _fetch_one(client, query.url, spool, address))
        except (UnreachableError, RejectedError, CxrError) as error:  # noqa: PERF203  # an object is a request
            reason = error.reason if isinstance(error, RadiographError) else f"{error}"
            left_out.setdefault(f"not fetched: {reason}", []).append(Path(*address))
    if not files:
        reasons = "; ".join(left_out)
        raise ScreeningError(f"{query.url}: {reasons}", "objects that can be fetched", "check the server")
    logger.info("%d X-rays of %s", len(files), query.url)
    return FoundFiles(files, left_out)


def _search(client: DICOMwebClient, query: ArchiveQuery) -> Iterator[_Address]:
    """Yield the addresses of all objects of the series of a selection."""
    for modality in query.modalities:
        filters: dict[str, Any] = {"Modality": modality, **({"StudyDate": query.dates} if query.dates else {})}
        for series in _pages(partial(client.search_for_series, search_filters=filters), _SERIES):
            study, number = _value(series, _STUDY), _value(series, _SERIES)
            instances = list(_pages(partial(client.search_for_instances, study, number), _INSTANCE))
            stated = int(_value(series, _COUNT) or 0)
            if len(instances) < stated:
                raise RejectedError(f"{query.url}: {len(instances)} of {stated} objects of a series, as by a limit")
            for instance in instances:
                yield _Address(study, number, _value(instance, _INSTANCE))


def _pages(search: Callable[..., list[dict[str, Any]]], tag: str) -> Iterator[dict[str, Any]]:
    """Yield all answers to a search, page by page, until one has nothing new.

    The client's own `get_remaining` would go on for ever with a server that ignores the offset.
    """
    seen: set[str] = set()
    while True:
        new = [answer for answer in search(offset=len(seen)) if _value(answer, tag) not in seen]
        if not new:
            return
        seen |= {_value(answer, tag) for answer in new}
        yield from new


def _value(answer: dict[str, Any], tag: str) -> str:
    return str((answer.get(tag) or {}).get("Value", [""])[0])


def _fetch_one(client: DICOMwebClient, url: str, spool: Spool, address: _Address) -> Path:
    with as_server_error(url):
        dataset = client.retrieve_instance(*address, media_types=_ANY_ENCODING)
    encoded = _encode(dataset)
    return spool.store(encoded, read_identity(encoded)).path


def _encode(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def fetch_archives(
    urls: Sequence[str],
    worklist: Path,
    dates: str = "",
    modalities: tuple[str, ...] = ("CR", "DX"),
    certificates: Certificates = SYSTEM_CERTIFICATES,
) -> FoundFiles:
    """Fetch the X-rays of several archives into the folder of received objects of a worklist.

    Args:
        urls: Addresses of the DICOMweb services.
        worklist: Folder of the worklist.
        dates: Study dates, as for :class:`ArchiveQuery`.
        modalities: Modalities.
        certificates: Files by which HTTPS connections are made.

    Returns:
        Files, and what could not be fetched, by the reason.

    Raises:
        ScreeningError: If an archive does not answer, or nothing is found in it.
    """
    private_folder(worklist)
    folder = worklist.resolve() / FOLDER
    found = [fetch(ArchiveQuery(url, dates, modalities, certificates), folder) for url in urls]
    left_out: dict[str, list[Path]] = {}
    for each in found:
        for reason, paths in each.left_out.items():
            left_out.setdefault(reason, []).extend(paths)
    return FoundFiles([file for each in found for file in each.files], left_out)
