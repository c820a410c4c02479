"""Options from signatures, help from docstrings, errors in a line."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from anomalib_cxr.utils.command_line import verb_parser


def draw(
    folder: Path,
    count: int,
    kinds: tuple[Literal["a", "b"], ...] = ("a",),
    sizes: tuple[int, ...] = (1, 2),
    deep: bool = False,
    settings: dict[str, int] | None = None,
) -> None:
    """Draw things.

    More about it.

    Args:
        folder: Folder to create.
        count: Number of things.
        kinds: Kinds of things.
        sizes: Sizes of things.
        deep: Draw deep.
        settings: Settings by name.
    """


@pytest.fixture
def parser():
    return verb_parser(draw, {"folder": {}})


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"kinds": ("a",), "sizes": (1, 2), "deep": False, "settings": None}),
        (["--kinds", "b,a"], {"kinds": ("b", "a")}),
        (["--sizes", "3"], {"sizes": (3,)}),
        (["--sizes", "3,4,5"], {"sizes": (3, 4, 5)}),
        (["--deep"], {"deep": True}),
        (["--no_deep"], {"deep": False}),
        (["--settings", "{x: 1}"], {"settings": {"x": 1}}),
    ],
)
def test_values(parser, words, expected):
    arguments = vars(parser.parse_args(["here", "--count", "2", *words]))
    assert arguments["folder"] == Path("here")
    assert arguments["count"] == 2
    assert expected.items() <= arguments.items()


def test_the_same_from_a_file(parser, tmp_path):
    (tmp_path / "draw.yaml").write_text("count: 2\nkinds: [a, b]\nsizes: 7\ndeep: true\n")
    arguments = parser.parse_args(["here", "--config", str(tmp_path / "draw.yaml"), "--no_deep"])
    assert (arguments.kinds, arguments.sizes, arguments.deep) == (("a", "b"), (7,), False)


def test_help_has_no_python_types(parser):
    text = " ".join(parser.format_help().split())
    assert "Number of things. (required)" in text
    assert "Sizes of things. (default: 1,2)" in text
    assert "Kinds of things. (default: a)" in text
    assert "--deep, --no_deep Draw deep." in text
    assert not any(word in text for word in ("type:", "default: null", "dict", "Literal", "Optional", "None"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count", "2"], "missing argument: folder"),
        (["here"], "missing argument: count"),
        (["here", "--count", "many"], "--count: expected int, got many"),
        (["here", "--count", "2", "--kinds", "a,c"], "argument --kinds: invalid a,b value: 'a,c'"),
        (["here", "--count", "2", "--sizes", "1,x"], "argument --sizes: invalid integer,... value: '1,x'"),
        (["here", "--count", "2", "--size", "1"], "Unrecognized arguments: --size 1"),
    ],
)
def test_errors_are_a_message_and_a_hint(parser, capsys, words, message):
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(words)
    first, hint = capsys.readouterr().err.splitlines()
    assert message in first
    assert hint.endswith("--help")
