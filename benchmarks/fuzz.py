"""Fuzz test of the readers: damaged files must be read or refused with a `RadiographError`.

    python benchmarks/fuzz.py --files 2000

Damages PNG and DICOM files of phantoms, of 8 and 16 bits: flips bits, truncates, duplicates or overwrites parts, sets
header fields to extreme values. PNG checksums are corrected in half of the files, so that the decoder is reached. Each
file is read in a separate process within limits of time and memory. Writes the counts of the outcomes to `fuzz.csv`,
and `run.json`. Files that were neither read nor refused are kept in `failures/`, and the exit code is 1.
"""

from __future__ import annotations

import io
import logging
import re
import resource
import struct
import sys
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pydicom
from jsonargparse import auto_cli
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag
from pydicom.uid import UID, AllTransferSyntaxes, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless
from rich.progress import track

from anomalib_cxr.data.phantom.dicom import write_phantom_dicom
from anomalib_cxr.data.phantom.files import write_phantoms
from anomalib_cxr.data.reading.discovery import dicomdir_files
from anomalib_cxr.data.reading.metadata import read_header
from anomalib_cxr.data.reading.radiograph import read_radiograph
from anomalib_cxr.errors import RadiographError
from anomalib_cxr.utils.provenance import code_record, write_record

READ, REFUSED, FAILED = "read", "refused", "failed"
_PNG = b"\x89PNG\r\n\x1a\n"
_WORDS = [struct.pack("<H", word) for word in (0, 1, 2, 3, 7, 9, 12, 15, 16, 17, 32, 64, 255, 32768, 65535)]
_NUMBERS = [b"", b"0", b"-1 ", b"2 ", b"1e-300", b"1e308 ", b"-1e308", b"nan ", b"inf ", b"x ", b"1\\2 ", b"9" * 400]
_TEXTS = [b"", b"\0\0", b"\xff\xfe", b"A" * 4000, b"a\\b\\c ", "ä".encode() * 20, b"\x1b$B\x1b(J", b"../x"]
_DATES = [b"999Y", b"-01D", b"99999999", *_TEXTS, *_NUMBERS]
_EXTREME = {
    **dict.fromkeys(("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"), _WORDS),
    **dict.fromkeys(("SamplesPerPixel", "PixelRepresentation", "PlanarConfiguration"), _WORDS),
    **dict.fromkeys(("NumberOfFrames", "WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept"), _NUMBERS),
    "PhotometricInterpretation": [b"RGB ", b"PALETTE COLOR ", b"YBR_FULL", b"MONOCHROME1 ", *_TEXTS],
    "VOILUTFunction": [b"SIGMOID ", b"LINEAR_EXACT", *_TEXTS],
    "Modality": [b"CT", b"DX\\CR ", *_TEXTS],
    "ViewPosition": [b"LL", b"AP", *_TEXTS],
    "SpecificCharacterSet": [b"ISO 2022 IR 87", b"\\ISO 2022 IR 149", b"GB18030 ", b"ISO_IR 999", *_TEXTS],
    **dict.fromkeys(("PatientName", "PatientID", "Manufacturer", "PatientSex", "StudyInstanceUID"), _TEXTS),
    **dict.fromkeys(("PatientAge", "PatientBirthDate", "StudyDate"), _DATES),
    "PixelData": [b"", b"\0" * 7, b"\xff" * 2_000_000],
}


def flip_bits(rng: np.random.Generator, content: bytearray) -> bytearray:
    """Flip some bits, half of the time within the header."""
    end = min(len(content), 1000) if rng.random() < 0.5 else len(content)  # noqa: PLR2004
    for place in rng.integers(end, size=rng.integers(1, 17)):
        content[place] ^= 1 << rng.integers(8)
    return content


def truncate(rng: np.random.Generator, content: bytearray) -> bytearray:
    """Cut off the end."""
    return content[: rng.integers(len(content))]


def duplicate_part(rng: np.random.Generator, content: bytearray) -> bytearray:
    """Insert a copy of a part of the file at a random place."""
    start, place = rng.integers(len(content), size=2)
    return content[:place] + content[start : start + rng.integers(1, 2000)] + content[place:]


def overwrite(rng: np.random.Generator, content: bytearray) -> bytearray:
    """Overwrite a part with zeros, ones or noise."""
    start, length = rng.integers(len(content)), int(rng.integers(1, 300))
    piece = (bytes(length), b"\xff" * length, rng.bytes(length))[rng.integers(3)]
    content[start : start + length] = piece[: len(content) - start]
    return content


def set_fields(rng: np.random.Generator, content: bytearray) -> bytearray:
    """Set some fields of the header to extreme values."""
    return (_set_png_fields if content.startswith(_PNG) else _set_dicom_fields)(rng, content)


MUTATIONS: tuple[Callable[[np.random.Generator, bytearray], bytearray], ...] = (
    flip_bits,
    truncate,
    duplicate_part,
    overwrite,
    set_fields,
    set_fields,  # twice, as it has the most variants
)


def _set_png_fields(rng: np.random.Generator, content: bytearray) -> bytearray:
    sides = (0, 1, 15, 16, 60, 70, 5000, 12000, 65535, 2**31 - 1, 2**32 - 1)
    field = rng.integers(4)
    if field < 2:  # noqa: PLR2004  # width or height
        start = 16 + 4 * int(field)
        content[start : start + 4] = struct.pack(">I", int(rng.choice(sides)))
    else:  # depth, and color type, compression, filter or interlace
        content[24 + int(rng.integers(5))] = int(rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255)))
    return _with_checksums(content)


def _with_checksums(content: bytearray) -> bytearray:
    """Correct the checksums of a PNG, as far as its chunks can be parsed."""
    place = len(_PNG)
    while place + 12 <= len(content):
        end = place + 8 + int.from_bytes(content[place : place + 4], "big")
        if end + 4 > len(content):
            break
        content[end : end + 4] = struct.pack(">I", zlib.crc32(content[place + 4 : end]))
        place = end + 4
    return content


def _set_dicom_fields(rng: np.random.Generator, content: bytearray) -> bytearray:
    dataset = pydicom.dcmread(io.BytesIO(content))
    for keyword in rng.choice(list(_EXTREME), rng.integers(1, 4), replace=False):
        values, vr = _EXTREME[keyword], dictionary_VR(keyword)
        value = values[rng.integers(len(values))]
        tag = Tag(tag_for_keyword(keyword))
        vr = "OW" if keyword == "PixelData" else vr
        dataset[tag] = RawDataElement(tag, vr, len(value), value, 0, is_implicit_VR=False, is_little_endian=True)
    if rng.random() < 0.2:  # noqa: PLR2004
        setattr(dataset, ("ModalityLUTSequence", "VOILUTSequence")[rng.integers(2)], [_table(rng)])
    if rng.random() < 0.2:  # noqa: PLR2004
        _set_syntax(dataset, UID(AllTransferSyntaxes[rng.integers(len(AllTransferSyntaxes))]))
    target, syntax = io.BytesIO(), dataset.file_meta.TransferSyntaxUID
    pydicom.dcmwrite(
        target,
        dataset,
        implicit_vr=syntax == ImplicitVRLittleEndian,
        little_endian=syntax != ExplicitVRBigEndian,
        enforce_file_format=False,
    )
    return bytearray(target.getvalue())


def _set_syntax(dataset: Dataset, syntax: UID) -> None:
    """Set another transfer syntax; compressed pixels are valid for run lengths and noise for other decoders."""
    if syntax == RLELossless and dataset.PixelData and "NumberOfFrames" not in dataset:
        with suppress(Exception):  # the fields may be inconsistent
            dataset.compress(RLELossless)
            return
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax.is_compressed:
        dataset.PixelData = encapsulate([dataset.PixelData or b"\0\0"])
        dataset["PixelData"].is_undefined_length = True


def _table(rng: np.random.Generator) -> Dataset:
    """Return a lookup table whose descriptor may contradict its data."""
    table = Dataset()
    entries, first, bits = (
        int(rng.choice(values)) for values in ((0, 1, 256, 65535), (0, 100, 65535), (0, 8, 16, 255))
    )
    table.add_new("LUTDescriptor", "US", [entries, first, bits][: rng.integers(1, 4)])
    if rng.random() < 0.8:  # noqa: PLR2004
        table.add_new("LUTData", "OW", rng.bytes(int(rng.choice((0, 1, 2, 512, 131072)))))
    return table


def mutate_files(originals: list[bytes], files: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of damaged files; each has its own random generator."""
    for index in range(files):
        rng = np.random.default_rng((seed, index))
        content = bytearray(originals[index % len(originals)])
        names = []
        for mutate in rng.choice(np.array(MUTATIONS, object), rng.choice((1, 1, 2))):
            if mutate is set_fields and names:  # a damaged file may not be parsable
                continue
            content = mutate(rng, content)
            names.append(mutate.__name__)
        if content.startswith(_PNG) and rng.random() < 0.5:  # noqa: PLR2004
            content = _with_checksums(content)
        yield f"{index:05d}_{'_'.join(names)}", bytes(content)


def inspect(path: Path) -> tuple[str, str]:
    """Read a file as screening does, and return the outcome and its reason."""
    try:
        read_header(path)
        image = read_radiograph(path)
    except RadiographError as error:
        return REFUSED, re.sub(r"\d+(\.\d+)?(e[+-]?\d+)?", "N", error.reason.split(":")[0])[:100]
    except BaseException:  # noqa: BLE001  # any other exception is a failure
        return FAILED, traceback.format_exc()
    if image.ndim != 3 or not (image.min() >= 0 and image.max() <= 1):  # noqa: PLR2004  # NaN, too
        return FAILED, f"an image of shape {tuple(image.shape)} from {image.min()} to {image.max()}"
    return READ, ""


def _work(pipe: Connection, mebibytes: int) -> None:
    """Inspect files whose paths arrive by the pipe, with a limit on additional memory."""
    warnings.simplefilter("ignore")
    logging.disable()
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + mebibytes * 2**20,) * 2)
    with suppress(EOFError):  # no more files
        while True:
            pipe.send(inspect(pipe.recv()))


class Worker:
    """Process that inspects files; it is replaced if it crashes or exceeds the time limit."""

    def __init__(self, seconds: float, mebibytes: int) -> None:
        self.seconds, self.mebibytes = seconds, mebibytes
        self._start()

    def _start(self) -> None:
        context = get_context("spawn")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=_work, args=(other, self.mebibytes), daemon=True)
        self.process.start()
        other.close()

    def inspect(self, path: Path, startup_seconds: float = 0.0) -> tuple[str, str]:
        """Inspect a file within the time limit plus the time that the process may take to start."""
        self.pipe.send(path)
        try:
            if self.pipe.poll(self.seconds + startup_seconds):
                return self.pipe.recv()
            failure = f"took more than {self.seconds} s"
        except EOFError:
            failure = "the process died"
        self.process.kill()
        self.process.join()
        self._start()
        self.inspect(path.with_name("missing"), startup_seconds=120)  # wait until it is ready
        return FAILED, failure


def draw_originals(folder: Path) -> list[bytes]:
    """Draw four healthy and four sick phantoms, and return their PNG and DICOM files in turn."""
    kinds = []
    for bits in (8, 16):
        root = write_phantoms(folder / str(bits), n_normal=4, n_sick=4, size=64, bits=bits)
        kinds += [sorted((root / "CXR_png").iterdir()), dicomdir_files(write_phantom_dicom(root) / "DICOMDIR")]
    return [path.read_bytes() for paths in zip(*kinds, strict=True) for path in paths]


def main(
    files: int = 2000, output: Path = Path("results/fuzz"), seed: int = 0, seconds: float = 20, mebibytes: int = 2048
) -> None:
    """Damage files, read them, and count the outcomes.

    Args:
        files: Number of files.
        output: Folder for the counts and the failures.
        seed: Seed of the damages.
        seconds: Time limit for a file.
        mebibytes: Memory limit, in addition to the memory of the libraries.
    """
    counts: Counter[tuple[str, str]] = Counter()
    with TemporaryDirectory() as name:
        folder = Path(name)
        worker = Worker(seconds, mebibytes)
        worker.inspect(folder / "missing", startup_seconds=120)
        for title, content in track(mutate_files(draw_originals(folder), files, seed), "Reading", total=files):
            path = folder / title
            path.write_bytes(content)
            outcome, reason = worker.inspect(path)
            if outcome == FAILED:
                (output / "failures").mkdir(parents=True, exist_ok=True)
                (output / "failures" / title).write_bytes(content)
                print(f"{title}: {reason}")  # noqa: T201
                reason = reason.strip().splitlines()[-1]
            counts[outcome, reason] += 1
            path.unlink()
    output.mkdir(parents=True, exist_ok=True)
    rows = [(*key, count) for key, count in sorted(counts.items(), key=lambda item: (item[0][0], -item[1]))]
    table = pd.DataFrame(rows, columns=["outcome", "reason", "files"])
    table.to_csv(output / "fuzz.csv", index=False)
    limits = {"files": files, "seed": seed, "seconds": seconds, "mebibytes": mebibytes}
    write_record({**code_record(), "settings": limits}, output / "run.json")
    print(table.to_string(index=False))  # noqa: T201
    sys.exit(int(FAILED in set(table.outcome)))


if __name__ == "__main__":
    auto_cli(main)
