"""Files and folders are complete or unchanged."""

from __future__ import annotations

import pytest

from anomalib_cxr.utils.files import atomic_folder, atomic_path


def test_interrupted_writing_keeps_the_former_file(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("former")
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as unfinished:  # noqa: PT012  # comes within the block
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("note.txt", "former")]


class TestAtomicFolder:
    def write(self, folder, error=None):
        with atomic_folder(folder) as partial:
            partial.mkdir()
            (partial / "note.txt").write_text("complete")
            if error is not None:
                raise error

    def test_replaces_an_empty_folder_and_an_interrupted_attempt(self, tmp_path):
        (tmp_path / "set").mkdir()
        (tmp_path / ".set.partial").mkdir()
        (tmp_path / ".set.partial" / "half.txt").write_text("half")
        self.write(tmp_path / "set")
        assert [path.name for path in tmp_path.iterdir()] == ["set"]
        assert [path.name for path in (tmp_path / "set").iterdir()] == ["note.txt"]

    def test_leaves_nothing_after_an_exception(self, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            self.write(tmp_path / "set", KeyboardInterrupt())
        assert list(tmp_path.iterdir()) == []

    def test_never_replaces_a_folder_with_files(self, tmp_path):
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "mine.txt").write_text("mine")
        with pytest.raises(OSError, match="not empty"):
            self.write(tmp_path / "set")
        assert [path.name for path in (tmp_path / "set").iterdir()] == ["mine.txt"]
