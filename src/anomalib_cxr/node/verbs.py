"""Verbs of the command `anomalib-cxr` for the DICOM node. They import what they need when they run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from anomalib_cxr.errors import require_extra
from anomalib_cxr.utils.settings import NonNegativeFloat, PositiveInt, check_settings

from .certificates import Certificates

if TYPE_CHECKING:  # an extra
    from .destinations import Destination

logger = logging.getLogger(__name__)


def listen(
    model: Path,
    worklist: Path,
    ae_title: str = "ANOMALIB_CXR",
    host: str = "127.0.0.1",
    port: int = 11112,
    allowed_ae: tuple[str, ...] = (),
    allowed_addresses: tuple[str, ...] = (),
    certificate: Path | None = None,
    key: Path | None = None,
    ca: Path | None = None,
    associations: PositiveInt = 16,
    max_megabytes: PositiveInt = 200,
    quiet: NonNegativeFloat = 10.0,
    send: tuple[str, ...] = (),
    device: str = "CPU",
    hospital: str = "",
    any_source: bool = False,
    names: bool = False,
) -> None:
    """Receive X-rays over the network by DICOM and screen them into a worklist, until Ctrl-C.

    A DICOM node: it answers C-ECHO and C-STORE. An object is on disk before its sender is answered with success; a
    killed node goes on where it was. For research, not a medical device.

    Args:
        model: Folder of a calibrated model.
        worklist: Folder of the worklist, which `serve` shows; received objects are kept in it.
        ae_title: AE title of this node.
        host: Address to listen on; any but this machine's own needs --allowed_ae, --allowed_addresses or --ca.
        port: Port to listen on; 0 for any free port.
        allowed_ae: AE titles that may send, separated by commas; all by default.
        allowed_addresses: Addresses or networks that may connect, such as 10.1.0.0/16, separated by commas; all by
            default.
        certificate: Certificate of this node, PEM; with it all senders must use TLS.
        key: Private key of the certificate, PEM; by default in the same file.
        ca: Certificates of authorities, PEM, by one of which senders must be certified.
        associations: Senders at the same time, at most.
        max_megabytes: Size of an object in MiB, at most.
        quiet: Seconds without a further object after which a study is screened.
        send: Where to send results as DICOM objects, separated by commas: dicom://AE_TITLE@HOST:PORT, dicoms:// with
            TLS, http:// or https:// of a DICOMweb service, or a folder; a name may stand before it, such as
            PACS=dicom://ORTHANC@127.0.0.1:4242.
        device: OpenVINO device.
        hospital: Hospital whose threshold to use, for a calibration with one per hospital.
        any_source: Also score X-rays from sources that the model was not calibrated on.
        names: Keep patient names and IDs in the worklist and its tables.
    """
    _require_extra()
    from anomalib_cxr.screening.pipeline.screener import ScreenerSettings  # noqa: PLC0415

    from .listen import NodeSettings  # noqa: PLC0415
    from .listen import listen as run_node  # noqa: PLC0415
    from .receiver import ReceiverSettings  # noqa: PLC0415

    check_settings(listen, locals(), "the options")
    receiver = ReceiverSettings(
        ae_title=ae_title,
        host=host,
        port=port,
        allowed_ae=allowed_ae,
        allowed_addresses=allowed_addresses,
        associations=associations,
        max_bytes=max_megabytes * 1024**2,
        tls_certificate=certificate,
        tls_key=key,
        tls_ca=ca,
    )
    destinations = destinations_of(send, ae_title, Certificates(ca, certificate, key))
    screening = ScreenerSettings(model, worklist, device, hospital, any_source, names=names)
    run_node(NodeSettings(screening, receiver, quiet, destinations))


def destinations_of(send: tuple[str, ...], ae_title: str, certificates: Certificates) -> tuple[Destination, ...]:
    """Read the destinations of an option `send`; without any, no extra is needed.

    Args:
        send: The destinations.
        ae_title: AE title of this node.
        certificates: Files by which connections over TLS are made.

    Returns:
        The destinations.

    Raises:
        ScreeningError: If a destination is none, or a file cannot be read.
    """
    if not send:
        return ()
    _require_extra()
    from .destinations import Connection, read_destinations  # noqa: PLC0415

    return read_destinations(send, Connection(ae_title, certificates))


def _require_extra() -> None:
    for module in ("pynetdicom", "highdicom", "dicomweb_client"):
        require_extra(module, "dicom")


def deliveries(worklist: Path, retry: bool = False) -> None:
    """Tell which results of a node wait to be sent, and which could not be sent.

    Args:
        worklist: Folder of the worklist.
        retry: Let those that could not be sent wait again, for a node that runs or is started.
    """
    from anomalib_cxr.screening.worklist.store import Worklist  # noqa: PLC0415

    from .deliveries import DeliveryStore, describe_deliveries  # noqa: PLC0415

    store = DeliveryStore(Worklist(worklist))
    if retry:
        logger.info("Waiting again: %d results", store.revive())
    logger.info("%s", describe_deliveries(store))
