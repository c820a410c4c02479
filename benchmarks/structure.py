"""Measure the structure of the source against the aims of its layout, and print a table.

    python benchmarks/structure.py

Counts files and lines, classes in the models' method resolution orders, files of this package that a default training
step enters, docstrings that begin with a question word, public functions without `Args` or `Returns`, and public class
names that are defined more than once.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from torch.utils.data import DataLoader

from anomalib_cxr import Fanogan, LungAtlas, RoiImageBatch, RoiImageItem, RoiSureGanomaly

SOURCE = Path(__file__).parents[1] / "src" / "anomalib_cxr"
QUESTIONS = ("What", "How", "Which", "Where", "Who", "Whose", "When", "Whether", "Why")
SHORT = 90
"""Lines below which a file counts as short."""
FOREIGN = ("lightning", "torch", "pytorch_lightning", "abc", "builtins", "typing")


def definitions(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield every documented definition of a module with its docstring, the module itself included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring:
                yield node, docstring


def public_functions(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Yield public functions of a module, and public methods of its public classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from (each for each in node.body if isinstance(each, ast.FunctionDef) and each.name[0] != "_")


def lacks(section: str, function: ast.FunctionDef) -> bool:
    """Return whether a function needs a section of its docstring and has none; overridden hooks and properties do not.

    Args:
        section: `Args` or `Returns`.
        function: The function.
    """
    docstring = ast.get_docstring(function) or ""
    decorators = {ast.unparse(each) for each in function.decorator_list}
    if decorators & {"property", "staticmethod_property"} or function.name.startswith(("on_", "configure_")):
        return False
    if section == "Args":
        names = [each.arg for each in (*function.args.args, *function.args.kwonlyargs)]
        return bool(set(names) - {"self", "cls"}) and "Args:" not in docstring
    nothing = {"None", "NoReturn", "Iterator[None]"}
    returns = function.returns is not None and ast.unparse(function.returns) not in nothing
    return returns and "Returns:" not in docstring and "Yields:" not in docstring


def own_classes(model: type) -> list[str]:
    """Return the classes in a model's method resolution order that neither Lightning nor torch defines."""
    return [each.__name__ for each in model.__mro__ if each.__module__.split(".")[0] not in FOREIGN]


class FilesEntered(Callback):
    """Records the files of this package whose functions run inside `training_step`."""

    def __init__(self) -> None:
        self.files: set[str] = set()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Wrap the step in a profile of its calls."""
        del trainer
        step = pl_module.training_step

        def profiled(*args: Any, **kwargs: Any) -> Any:
            sys.setprofile(self._record)
            try:
                return step(*args, **kwargs)
            finally:
                sys.setprofile(None)

        pl_module.training_step = profiled

    def _record(self, frame: Any, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and SOURCE in path.parents:
            self.files.add(path.relative_to(SOURCE).as_posix())


def files_of_step() -> set[str]:
    """Return the files that a training step of the default `RoiSureGanomaly` enters."""
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[16:48, 8:56] = True
    items = [RoiImageItem(image=torch.rand(3, 64, 64), roi_mask=mask, gt_label=torch.tensor(0)) for _ in range(4)]
    loader = DataLoader(items, batch_size=4, collate_fn=RoiImageBatch.collate)
    entered = FilesEntered()
    trainer = Trainer(
        max_steps=2,
        max_epochs=1,
        accelerator="cpu",
        callbacks=[entered],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(RoiSureGanomaly(image_size=64, visualizer=False), loader)
    return entered.files


def main() -> None:
    """Print each aim with what was measured."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(SOURCE.rglob("*.py"))}
    trees = {path: ast.parse(text) for path, text in texts.items()}
    lines = {path: text.count("\n") for path, text in texts.items() if path.name != "__init__.py"}
    questions = [
        f"{path.relative_to(SOURCE)}: {text.splitlines()[0]}"
        for path, tree in trees.items()
        for _, text in definitions(tree)
        if text.split()[0].strip(":,") in QUESTIONS
    ]
    functions = [(path, each) for path, tree in trees.items() for each in public_functions(tree)]
    classes = Counter(node.name for tree in trees.values() for node in tree.body if isinstance(node, ast.ClassDef))
    rows: dict[str, object] = {
        "lines of src": sum(text.count("\n") for text in texts.values()),
        "files (without __init__)": len(lines),
        "median lines of a file (aim: 130 to 200)": median(lines.values()),
        f"files under {SHORT} lines (aim: at most 35)": sum(count < SHORT for count in lines.values()),
        "files over 300 lines": [path.name for path, count in lines.items() if count > 300],  # noqa: PLR2004
        "docstrings with a question word first (aim: 0)": len(questions),
        "public functions without Args": f"{sum(lacks('Args', each) for _, each in functions)} of {len(functions)}",
        "public functions without Returns": f"{sum(lacks('Returns', f) for _, f in functions)} of {len(functions)}",
        "class names defined twice (aim: 0)": [name for name, count in classes.items() if count > 1],
    }
    for model in (RoiSureGanomaly, LungAtlas, Fanogan):
        order = own_classes(model)
        rows[f"{model.__name__}: classes of its MRO (aim: at most 5)"] = f"{len(order)}: {', '.join(order)}"
    files = files_of_step()
    rows["files that a training step enters (aim: at most 10)"] = f"{len(files)}: {', '.join(sorted(files))}"
    for name, value in rows.items():
        print(f"{name}: {value}")  # noqa: T201
    for question in questions:
        print(f"  {question}")  # noqa: T201


if __name__ == "__main__":
    main()
