"""Durability of confirmed verdicts when the server is killed at random moments.

    python benchmarks/serve_kills.py --output results/serve_kills

Readers give verdicts, each with a unique note. At a random moment after the first one is confirmed, the server is
killed by SIGKILL, and then started again. Afterwards every confirmed verdict must be in the worklist exactly once, and
none twice; one that was being sent when the server was killed may be there or not. Exits with 1 if one is lost or
doubled, or none was confirmed. Writes `serve_kills.csv`, a row for each kill, and `serve_kills.json`.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import numpy as np
import pandas as pd
from jsonargparse import auto_cli
from served import fill_worklist, hidden_field, start_server

from anomalib_cxr.screening.worklist.store import Worklist
from anomalib_cxr.utils.files import atomic_path
from anomalib_cxr.utils.provenance import code_record, write_record

CASES = 200


class Writer(threading.Thread):
    """Reader that gives verdicts until the server is gone.

    Args:
        address: Address of the server.
        name: Name of the reader.
        begun: Event to set when a verdict is confirmed.
    """

    def __init__(self, address: str, name: str, begun: threading.Event) -> None:
        super().__init__(name=name)
        self.address = address
        self.begun = begun
        self.sent: list[str] = []
        self.confirmed: list[str] = []
        self.refused: list[int] = []

    def run(self) -> None:
        """Give verdicts one after the other."""
        with httpx.Client(base_url=self.address, timeout=60) as client:
            try:
                while True:
                    self._give(client)
            except httpx.TransportError:
                return

    def _give(self, client: httpx.Client) -> None:
        page = f"/case/{len(self.sent) % CASES + 1}"
        text = client.get(page).text
        form = {name: hidden_field(text, name) for name in ("csrf", "content")}
        note = f"{self.name}, verdict {len(self.sent)}"
        self.sent.append(note)
        form |= {"verdict": "abnormal", "reader": self.name, "note": note}
        answer = client.post(f"{page}/verdict?decision=all", data=form)
        if answer.status_code == 303:  # noqa: PLR2004
            self.confirmed.append(note)
            self.begun.set()
        else:
            self.refused.append(answer.status_code)


def kill_once(worklist: Worklist, round_: int, readers: int, wait: float) -> list[Writer]:
    """Start the server, have readers give verdicts, and kill it after `wait` seconds."""
    server, address = start_server(worklist)
    begun = threading.Event()
    writers = [Writer(address, f"kill {round_}, reader {reader}", begun) for reader in range(readers)]
    for writer in writers:
        writer.start()
    begun.wait(timeout=120)
    time.sleep(wait)
    server.kill()
    server.wait()
    for writer in writers:
        writer.join()
    return writers


def main(output: Path = Path("results/serve_kills"), kills: int = 50, readers: int = 4, seed: int = 0) -> None:
    """Kill the server repeatedly, and check the worklist.

    Args:
        output: Folder for the figures.
        kills: Number of kills.
        readers: Number of concurrent readers.
        seed: Seed of the moments.
    """
    waits = np.random.default_rng(seed).uniform(0, 2, kills)
    rows = []
    with TemporaryDirectory() as folder:
        worklist = fill_worklist(Path(folder), CASES, size=64)
        for index, wait in enumerate(waits):
            writers = kill_once(worklist, index, readers, wait)
            kept = Counter(record.note for record in worklist.verdicts())
            sent = {note for writer in writers for note in writer.sent}
            confirmed = {note for writer in writers for note in writer.confirmed}
            rows.append(
                {
                    "kill": index,
                    "after_s": wait,
                    "sent": len(sent),
                    "confirmed": len(confirmed),
                    "refused": sum(len(writer.refused) for writer in writers),
                    "kept": sum(kept[note] for note in sent),
                    "lost": sum(kept[note] == 0 for note in confirmed),
                    "doubled": sum(kept[note] > 1 for note in sent),
                }
            )
    table = pd.DataFrame(rows)
    print(table.round(2).to_string(index=False))  # noqa: T201
    with atomic_path(output / "serve_kills.csv") as unfinished:
        table.to_csv(unfinished, index=False, float_format="%.4g")
    totals = table.drop(columns=["kill", "after_s"]).sum().to_dict()
    settings = {"kills": kills, "readers": readers, "seed": seed}
    write_record({**code_record(), "settings": settings, "totals": totals}, output / "serve_kills.json")
    if totals["lost"] or totals["doubled"] or totals["refused"] or not table.confirmed.all():
        sys.exit(1)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
