"""The documentation names files, options and commands that exist."""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import re
from pathlib import Path

import pytest
import yaml

import anomalib_cxr
from anomalib_cxr.cli import VERBS
from anomalib_cxr.data.datamodules.base import RoiDataModule

ROOT = Path(__file__).resolve().parents[2]
MODELS = ("LungAtlas", "RoiSureGanomaly", "Fanogan")
DATA = ("ChestXrayFolder", "MontgomeryShenzhen", "NihChestXray14", "ChestPhantom", "RadiographFolder")


def find_pages():
    folders = (ROOT, ROOT / "docs", ROOT / "datasets", ROOT / "src")
    pages = {page for folder in folders[1:] for page in folder.rglob("*.md")} | set(ROOT.glob("*.md"))
    return sorted(page for page in pages if "_build" not in page.parts)


def parameters(*names):
    classes = [getattr(anomalib_cxr, name) for name in names]
    return {name for each in classes for name in inspect.signature(each).parameters}


def find_groups():
    """Return the settings of each group of settings of a model."""
    defaults = {
        name: parameter.default
        for model in MODELS
        for name, parameter in inspect.signature(getattr(anomalib_cxr, model)).parameters.items()
    }
    return {
        name: {field.name for field in dataclasses.fields(default)}
        for name, default in defaults.items()
        if dataclasses.is_dataclass(default)
    }


GROUPS = find_groups()
PAGES = find_pages()
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def test_pages_are_found():
    assert ROOT / "README.md" in PAGES
    assert ROOT / "docs/tutorial.md" in PAGES


@each_page
def test_links_within_the_repository_resolve(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (page.parent / target).exists()] == []


@each_page
def test_configurations_that_are_named_exist(page):
    named = set(re.findall(r"configs/[\w/]+\.yaml", page.read_text(encoding="utf-8")))
    assert [name for name in named if not (ROOT / name).is_file()] == []


@each_page
@pytest.mark.parametrize(("section", "known"), [("model", parameters(*MODELS)), ("data", parameters(*DATA))])
def test_settings_that_are_named_exist(page, section, known):
    named = set(re.findall(rf"\b{section}\.init_args\.([a-z_]+)", page.read_text(encoding="utf-8")))
    shared = set(inspect.signature(RoiDataModule).parameters) if section == "data" else set()
    assert named - known - shared == set()


def test_there_are_groups_of_settings():
    assert {"network", "sure", "ensemble"} <= set(GROUPS)


@pytest.mark.parametrize("path", [*PAGES, *CONFIGS], ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_of_groups_that_are_named_exist(path):
    named = re.findall(
        rf"(?:init_args\.|`)({'|'.join(GROUPS)})\.(?!xml|bin|py)([a-z_]+)(?![\w./])", path.read_text(encoding="utf-8")
    )
    assert [f"{group}.{name}" for group, name in named if name not in GROUPS[group]] == []


def import_names(text):
    """Return the dotted names of this package that a page or a configuration refers to or imports."""
    imports = re.findall(r"from (anomalib_cxr[\w.]*) import ([\w, ]+)", text)
    names = {f"{module}.{name.split()[0]}" for module, imported in imports for name in imported.split(",")}
    return names | set(re.findall(r"\banomalib_cxr(?:\.\w+)+(?=[^\w/]|$)", text))


@pytest.mark.parametrize("path", [*PAGES, *CONFIGS], ids=lambda path: str(path.relative_to(ROOT)))
def test_names_of_the_package_exist(path):
    for name in import_names(path.read_text(encoding="utf-8")):
        assert pkgutil.resolve_name(name)


@each_page
def test_verbs_that_are_named_exist(page):
    named = set(re.findall(r"^anomalib-cxr (\w+)|`anomalib-cxr (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert {first or second for first, second in named} - set(VERBS) == set()


@each_page
def test_yaml_in_a_page_names_settings_of_the_model(page):
    blocks = re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    settings = {name for block in blocks for name in yaml.safe_load(block).get("model", {}).get("init_args", {})}
    assert settings - parameters(*MODELS) == set()


def test_ci_runs_the_test_command_of_the_readme():
    command = 'pip install -e ".[test]" && pytest'
    assert f"```bash\n{command}\n```" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"'{command}'" in (ROOT / ".ci/run").read_text(encoding="utf-8")


def test_the_container_has_the_bounds_of_the_package():
    bounds = re.findall(r'"(torch(?:vision)?>=[\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert len(bounds) == 2
    assert " ".join(f'"{bound}"' for bound in bounds) in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_pre_commit_runs_the_style_checks_of_ci():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    lines = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert {hook["entry"] for hook in hooks} == {line for line in lines if line.startswith(("ruff", "mypy"))}


def test_pages_say_that_it_is_not_a_medical_device():
    for name in ("README.md", "docs/index.md", "docs/model_card.md"):
        assert "not a medical device" in (ROOT / name).read_text(encoding="utf-8").lower()
