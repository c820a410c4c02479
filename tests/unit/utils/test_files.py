"""Files that are whole or not there at all."""

from __future__ import annotations

import pytest

from anomalib_cxr.utils.files import atomic_path


def test_interrupted_writing_keeps_the_former_file(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("former")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as unfinished:  # noqa: PT012  # comes within the block
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("note.txt", "former")]
