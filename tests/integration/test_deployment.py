"""Files that install the product: container, services of systemd, and a machine without internet."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from anomalib_cxr.cli import _parser

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOYMENT = REPOSITORY / "deployment"
COMMAND = Path(sys.executable).parent / "anomalib-cxr"
UNITS = sorted((DEPLOYMENT / "systemd").glob("*.service"))
TIMERS = sorted((DEPLOYMENT / "systemd").glob("*.timer"))
SCRIPTS = sorted(DEPLOYMENT.glob("*.sh"))
OPTIONS = dict(
    line.split("=", 1)
    for line in (DEPLOYMENT / "systemd" / "options").read_text().splitlines()
    if not line.startswith("#")
)
VARIABLES = {"MODEL": "/srv/model", "SENDERS": "CT_1,PACS"}
each_unit = pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)


def filled(text, values):
    """Fill variables in, as a shell, compose and systemd do."""
    return re.sub(r"\$\{?(\w+)(?:[:?-][^}]*)?\}?", lambda found: values.get(found[1], ""), text)


def run(*words, **settings):
    return subprocess.run(  # noqa: S603
        list(map(str, words)), capture_output=True, text=True, check=False, **settings
    )


class TestCompose:
    @pytest.fixture(scope="class")
    def services(self):
        return yaml.safe_load((DEPLOYMENT / "compose.yaml").read_text())["services"]

    def test_is_hardened(self, services):
        assert set(services) == {"listen", "serve"}
        for service in services.values():
            assert service["read_only"] is True
            assert service["user"] == "1000:1000"
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
            assert [volume.rsplit(":", 1)[-1] for volume in service["volumes"]] == ["ro", "/data/worklist"]

    def test_ports_are_those_of_this_machine_alone_unless_asked(self, services):
        ports = [filled(port, {}) for service in services.values() for port in service["ports"]]
        assert [port.split(":")[-2:] for port in ports] == [["11112", "11112"], ["8765", "8765"]]
        defaults = [port for service in services.values() for port in service["ports"]]
        assert all(port.startswith("${") and ":-127.0.0.1}" in port for port in defaults)

    def test_commands_are_those_of_the_program(self, services):
        for name, service in services.items():
            words = [filled(word, VARIABLES) for word in service["command"]]
            parsed = _parser().parse_args(words)
            assert parsed.subcommand == name
            assert str(parsed[name].worklist) == "worklist"
        assert parsed["serve"].host == "0.0.0.0"  # noqa: S104
        words = [filled(word, VARIABLES) for word in services["listen"]["command"]]
        assert _parser().parse_args(words)["listen"].allowed_ae == ("CT_1", "PACS", "HEALTHCHECK")

    def test_the_user_is_that_of_the_image_and_owns_the_volume(self):
        text = (REPOSITORY / "Dockerfile").read_text()
        assert "--uid 1000 cxr" in text
        assert "--owner=cxr --group=cxr /data /data/worklist" in text

    def test_compose_accepts_it(self):
        if shutil.which("docker-compose"):
            words = ["docker-compose"]
        elif shutil.which("docker") and run("docker", "compose", "version").returncode == 0:
            words = ["docker", "compose"]
        else:
            pytest.skip("no docker compose on this machine")
        file = DEPLOYMENT / "compose.yaml"
        told = run(*words, "--file", file, "config", env={**os.environ, **VARIABLES})
        assert told.returncode == 0, told.stderr
        assert "CT_1,PACS,HEALTHCHECK" in told.stdout
        refused = run(*words, "--file", file, "config", env={"PATH": os.environ["PATH"], "HOME": "/nowhere"})
        assert refused.returncode
        assert "AE titles that may send" in refused.stderr or "folder of a calibrated model" in refused.stderr


class TestSystemd:
    @pytest.fixture
    def installed(self, tmp_path):
        """The units, with the program of this environment in place of the one in /opt."""
        for unit in (*UNITS, *TIMERS):
            text = unit.read_text().replace("/opt/anomalib-cxr/bin/anomalib-cxr", str(COMMAND))
            (tmp_path / unit.name).write_text(text)
        return tmp_path

    def test_systemd_accepts_them(self, installed):
        if shutil.which("systemd-analyze") is None:
            pytest.skip("no systemd-analyze on this machine")
        told = run("systemd-analyze", "verify", *sorted(installed.iterdir()))
        said = [line for line in (told.stdout + told.stderr).splitlines() if "anomalib-cxr" in line]
        assert told.returncode == 0, said
        assert said == []

    @each_unit
    def test_little_is_exposed(self, installed, unit):
        if shutil.which("systemd-analyze") is None:
            pytest.skip("no systemd-analyze on this machine")
        told = run("systemd-analyze", "security", "--offline=true", "--threshold=20", installed / unit.name)
        if "unrecognized option" in told.stderr:
            pytest.skip("systemd older than 250")
        assert told.returncode == 0, told.stdout[-300:]

    @each_unit
    def test_commands_are_those_of_the_program(self, unit):
        (line,) = re.findall(r"^ExecStart=/opt/anomalib-cxr/bin/anomalib-cxr (.*)$", unit.read_text(), re.MULTILINE)
        parsed = _parser().parse_args(shlex.split(filled(line, OPTIONS)))
        assert unit.stem == f"anomalib-cxr-{parsed.subcommand}"

    def test_too_few_xrays_are_no_failure_but_drift_is(self):
        text = (DEPLOYMENT / "systemd" / "anomalib-cxr-monitor.service").read_text()
        assert re.findall(r"^SuccessExitStatus=(.*)$", text, re.MULTILINE) == ["4"]

    @pytest.mark.parametrize("timer", TIMERS, ids=lambda timer: timer.stem)
    def test_timers_have_their_service(self, timer):
        assert timer.with_suffix(".service") in UNITS


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_scripts_are_sound(script):
    assert run("bash", "-n", script).returncode == 0
    if shutil.which("shellcheck"):
        told = run("shellcheck", script)
        assert told.returncode == 0, told.stdout


@pytest.mark.slow
class TestWheelhouse:
    """Without what the package depends on, which is gigabytes: that is lent by this environment."""

    @pytest.fixture(scope="class")
    def wheelhouse(self, tmp_path_factory):
        pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
        folder = tmp_path_factory.mktemp("wheelhouse")
        built = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=REPOSITORY)
        assert built.returncode == 0, built.stderr
        shutil.copy(DEPLOYMENT / "install_from_wheelhouse.sh", folder)
        (folder / "PYTHON").write_text(f"Python {sys.version.split()[0]}\n")
        files = sorted(path for path in folder.iterdir() if path.is_file())
        sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
        (folder / "SHA256SUMS").write_text("".join(sums))
        return folder

    def install(self, wheelhouse, target, *words):
        lent = {"PYTHON": sys.executable, "PIP_NO_DEPS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        site = next(path for path in sys.path if path.endswith("site-packages"))
        env = {**os.environ, **lent, "PYTHONPATH": site}
        return run("bash", wheelhouse / "install_from_wheelhouse.sh", target, *words, env=env)

    def test_is_installed_without_a_network_and_tested_with_a_model(self, wheelhouse, tmp_path):
        """The answer to a model that is missing is that of the installed program."""
        told = self.install(wheelhouse, tmp_path / "opt", tmp_path / "model")
        assert re.search(r"^anomalib-cxr \d", told.stdout, re.MULTILINE), told.stdout + told.stderr
        assert (tmp_path / "opt" / "bin" / "anomalib-cxr").is_file()
        assert told.returncode == 1
        assert "anomalib-cxr selftest: found: " in told.stderr

    def test_a_changed_wheel_is_refused(self, wheelhouse, tmp_path):
        changed = Path(shutil.copytree(wheelhouse, tmp_path / "changed"))
        (wheel,) = changed.glob("*.whl")
        wheel.write_bytes(wheel.read_bytes() + b"\n")
        told = self.install(changed, tmp_path / "opt")
        assert told.returncode
        assert "FAILED" in told.stdout + told.stderr
        assert not (tmp_path / "opt").exists()

    def test_another_python_is_refused(self, wheelhouse, tmp_path):
        other = Path(shutil.copytree(wheelhouse, tmp_path / "other"))
        (other / "PYTHON").write_text("Python 3.9.1\n")
        sums = (other / "SHA256SUMS").read_text().splitlines(keepends=True)
        digest = hashlib.sha256((other / "PYTHON").read_bytes()).hexdigest()
        kept = [line for line in sums if not line.endswith(" PYTHON\n")]
        (other / "SHA256SUMS").write_text("".join([*kept, f"{digest}  PYTHON\n"]))
        told = self.install(other, tmp_path / "opt")
        assert told.returncode == 1
        assert "which the wheels were gathered for" in told.stderr
        assert not (tmp_path / "opt").exists()
