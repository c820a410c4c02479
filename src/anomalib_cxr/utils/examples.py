"""Example configurations, copied into a folder of the user's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from anomalib_cxr.errors import CxrError

PACKAGE = Path(__file__).resolve().parents[1]


def configs_folder() -> Path:
    """Return the folder of the configurations: in the package, or at the top of a checkout for an editable install."""
    installed = PACKAGE / "configs"
    return installed if installed.is_dir() else PACKAGE.parents[1] / "configs"


def copy_examples(folder: Path) -> None:
    """Copy the configurations into `configs/` of a folder, and their README beside it; all files, or none.

    Args:
        folder: Folder to create or to add to.

    Raises:
        CxrError: If a file is already there; nothing is copied then.
    """
    source = configs_folder()
    files = sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file())
    targets = {path: folder / ("README.md" if path == Path("README.md") else Path("configs", path)) for path in files}
    if existing := [str(target) for target in targets.values() if target.exists()]:
        raise CxrError(
            f"{len(existing)} files that are there already:" + "".join(f"\n    {name}" for name in existing),
            "a folder without them",
            "choose another folder, or move these files away",
        )
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, prefix=".init-") as unfinished:
        # A full disk shows itself here; the renaming afterwards takes no room.
        copied = shutil.copytree(source, Path(unfinished) / "configs")
        for path, target in targets.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            (copied / path).rename(target)
