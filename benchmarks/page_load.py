"""Response times of the worklist's page: first byte of the table, and many concurrent readers.

    python benchmarks/page_load.py --output results/page_load

Starts `anomalib-cxr serve` on a worklist of 300 000 rows. First, pages of the table are requested one after the other,
and their first byte is timed. Then 50 concurrent readers request tables, cases and images, search, and give verdicts,
with a short pause after each response. Last, a verdict on each case is exported. Server and readers share the machine.
Writes `page_load.csv` and `page_load.json`.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import time
from html import unescape
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import pandas as pd
from jsonargparse import auto_cli
from served import fill_worklist, hidden_field, served

from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.utils.files import atomic_path
from anomalib_cxr.utils.provenance import code_record, write_record


class Times:
    """Response times and errors by kind of request."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []

    def note(self, what: str, seconds: float, error: str = "") -> None:
        """Record one response."""
        self.rows.append({"what": what, "ms": 1000 * seconds, "error": error})

    def table(self) -> pd.DataFrame:
        """Return requests, errors, median and 95th percentile by kind of request."""
        rows = pd.DataFrame(self.rows)
        return rows.groupby("what", sort=False).agg(
            requests=("ms", "size"),
            errors=("error", lambda errors: int((errors != "").sum())),
            median_ms=("ms", "median"),
            p95_ms=("ms", lambda times: float(np.quantile(times, 0.95))),
        )


def first_bytes(address: str, requests: int, rows: int) -> Times:
    """Time the first byte of pages of the table, one after the other."""
    times = Times()
    rng = np.random.default_rng(1)
    with httpx.Client(base_url=address) as client:
        client.get("/")  # the first one loads the templates
        for _ in range(requests):
            page = int(rng.integers(1, rows // 50 + 1))
            _first_byte(client, times, "table", "/", {"decision": "all", "page": page})
    return times


def first_bytes_of_verdicts(address: str, requests: int) -> Times:
    """Time the first byte, and all, of the verdicts as CSV, one after the other."""
    times = Times()
    with httpx.Client(base_url=address, timeout=600) as client:
        for _ in range(requests):
            start = time.perf_counter()
            _first_byte(client, times, "verdicts", "/verdicts.csv", {})
            times.note("all verdicts", time.perf_counter() - start)
    return times


def _first_byte(client: httpx.Client, times: Times, what: str, path: str, parameters: dict[str, str | int]) -> None:
    start = time.perf_counter()
    with client.stream("GET", path, params=parameters) as answer:
        chunks = answer.iter_raw()
        next(chunks)
        times.note(f"first byte of the {what}", time.perf_counter() - start, _error(answer, 200))
        for _ in chunks:  # read to its end, the connection is used again
            pass


def _error(answer: httpx.Response, wanted: int) -> str:
    return "" if answer.status_code == wanted else f"status {answer.status_code}"


class Reader:
    """Simulated reader: sends a request, waits for the response, pauses.

    Args:
        client: Client with the cookies of this reader.
        times: Record of response times.
        index: Number of the reader.
        rows: Number of cases in the worklist.
        pause: Mean pause after a response in seconds.
    """

    def __init__(self, client: httpx.AsyncClient, times: Times, index: int, rows: int, pause: float) -> None:
        self.client, self.times, self.index, self.rows, self.pause = client, times, index, rows, pause
        self.given = 0
        self.rng = np.random.default_rng(index)

    async def ask(self, what: str, address: str, form: dict[str, str] | None = None) -> str:
        """Send one request, and return the text of the response."""
        start = time.perf_counter()
        try:
            answer = await self.client.request("GET" if form is None else "POST", address, data=form)
        except httpx.HTTPError as error:
            self.times.note(what, time.perf_counter() - start, type(error).__name__)
            return ""
        error = _error(answer, 200 if form is None else 303)
        self.times.note(what, time.perf_counter() - start, error)
        await asyncio.sleep(self.rng.exponential(self.pause))
        return answer.text if answer.headers.get("Content-Type", "").startswith("text/html") and not error else ""

    async def read_on(self, end: float) -> None:
        """Read until the end: a page of the table, a search, then three cases in turn with images and verdicts."""
        await asyncio.sleep(self.rng.uniform(0, 20 * self.pause))  # they do not all begin at once
        while time.monotonic() < end:
            await self.ask("table", f"/?decision=all&page={self.rng.integers(1, self.rows // 50 + 1)}")
            await self.ask("search", f"/?decision=all&search={self.rng.integers(self.rows):06d}")
            address: str | None = f"/case/{self.rng.integers(1, self.rows + 1)}?decision=all"
            for _ in range(3):
                address = address and await self._read_case(address)

    async def _read_case(self, address: str) -> str | None:
        """Open a case and its images, and give a verdict; return the address of the next one."""
        text = await self.ask("case", address)
        case = address.partition("?")[0]
        for kind in ("xray", "heat"):
            await self.ask(f"{kind} picture", f"{case}/{kind}.png")
        if not text:
            return None
        form = {name: hidden_field(text, name) for name in ("csrf", "content")}
        form |= {"verdict": "normal", "reader": f"reader {self.index}"}
        await self.ask("verdict", f"{case}/verdict?decision=all", form)
        self.given += 1
        following = re.search(r'rel="next" href="([^"]+)"', text)
        return unescape(following[1]) if following else None


async def many_readers(address: str, users: int, seconds: float, rows: int, pause: float) -> tuple[Times, int]:
    """Run concurrent readers; return the response times, and the number of verdicts."""
    times = Times()
    clients = [httpx.AsyncClient(base_url=address, timeout=60) for _ in range(users)]
    readers = [Reader(client, times, index, rows, pause) for index, client in enumerate(clients)]
    end = time.monotonic() + seconds
    await asyncio.gather(*(reader.read_on(end) for reader in readers))
    await asyncio.gather(*(client.aclose() for client in clients))
    return times, sum(reader.given for reader in readers)


def _refuse_lost(worklist: Worklist, given: int) -> None:
    if len(worklist.verdicts()) != given:
        raise RuntimeError(f"{given} verdicts were given, {len(worklist.verdicts())} are kept")


def _add_verdicts(worklist: Worklist) -> None:
    """Add a verdict to each case: the table of verdicts is as long as the worklist."""
    with worklist._database.open() as database:  # noqa: SLF001  # one at a time would take hours
        database.execute(
            "INSERT INTO verdicts (case_id, verdict, note, reader, given) "
            "SELECT id, 'normal', '', 'Ada', '2026-01-31' FROM cases"
        )


def main(
    output: Path = Path("results/page_load"),
    rows: int = 300_000,
    users: int = 50,
    seconds: float = 60.0,
    pause: float = 0.5,
    requests: int = 200,
    size: int = 1024,
) -> None:
    """Measure response times.

    Args:
        output: Folder for the figures.
        rows: Number of cases in the worklist.
        users: Number of concurrent readers.
        seconds: Duration.
        pause: Mean pause after a response in seconds; most people are slower.
        requests: Number of pages of the table whose first byte is timed.
        size: Side of the X-rays in pixels.
    """
    with TemporaryDirectory() as folder:
        worklist = fill_worklist(Path(folder), rows, size)
        with served(worklist) as address:
            table = first_bytes(address, requests, rows).table()
            times, given = asyncio.run(many_readers(address, users, seconds, rows, pause))
            _refuse_lost(worklist, given)
            _add_verdicts(worklist)
            table = pd.concat([table, first_bytes_of_verdicts(address, 5).table()])
    times.rows += [{**row, "what": "all"} for row in times.rows]
    table = pd.concat([table, times.table()])
    print(table.round(1).to_string())  # noqa: T201
    with atomic_path(output / "page_load.csv") as unfinished:
        table.to_csv(unfinished, float_format="%.4g")
    settings = {"rows": rows, "users": users, "seconds": seconds, "pause": pause, "requests": requests, "size": size}
    errors = sorted({str(row["error"]) for row in times.rows} - {""})
    machine = {"platform": platform.platform(), "cores": os.cpu_count()}
    record = {**code_record(), "machine": machine, "settings": settings, "verdicts": given, "errors": errors}
    write_record(record, output / "page_load.json")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
