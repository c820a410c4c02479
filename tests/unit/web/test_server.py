"""Where the server listens."""

from __future__ import annotations

import socket

import pytest

from anomalib_cxr.cli import main
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.web import server

from .conftest import TOKEN


@pytest.fixture
def started(monkeypatch):
    """What would have been served, in place of serving it."""
    seen = []

    def run(self, sockets):
        seen.append((self.config.app, sockets[0].getsockname()))

    monkeypatch.setattr(server.uvicorn.Server, "run", run)
    return seen


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::", "screening.example"])  # noqa: S104
def test_others_need_a_token(worklist, started, host):
    with pytest.raises(ScreeningError, match="without a token"):
        server.run_server(worklist, host=host, port=0)
    assert started == []


@pytest.mark.parametrize("token", ["", "short"])
def test_token_must_be_long(worklist, started, token):
    with pytest.raises(ScreeningError, match=f"a token of {len(token)} characters"):
        server.run_server(worklist, host="0.0.0.0", port=0, token=token)  # noqa: S104
    assert started == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_needs_none(worklist, started, host):
    server.run_server(worklist, host=host, port=0)
    assert started[0][1][0] == "127.0.0.1"


def test_others_with_a_token(worklist, started):
    server.run_server(worklist, host="0.0.0.0", port=0, token=TOKEN)  # noqa: S104
    assert started[0][1][0] == "0.0.0.0"  # noqa: S104


def test_taken_port(worklist, started):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ScreeningError, match=f"port {port}: .*in use"):
            server.run_server(worklist, port=port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("999.0.0.1", 0)])
def test_no_address(worklist, started, host, port):
    with pytest.raises(ScreeningError, match="next step"):
        server.run_server(worklist, host=host, port=port, token=TOKEN)


class TestVerb:
    def test_shows_the_worklist_of_the_folder(self, worklist, started):
        main(["serve", "--worklist", str(worklist.folder), "--port", "0"])
        ((app, _),) = started
        assert app.state.worklist.count() == 4
        assert app.state.screen is None

    @pytest.mark.parametrize(
        ("words", "found"),
        [
            (["nowhere"], "no worklist.sqlite in nowhere"),
            (["out", "--host", "0.0.0.0"], "without a token"),  # noqa: S104
            (["out", "--model", "no_model"], "no_model"),
        ],
    )
    def test_refusals_exit_with_an_error(self, worklist, started, monkeypatch, capsys, words, found):
        monkeypatch.chdir(worklist.folder.parent)
        with pytest.raises(SystemExit) as ended:
            main(["serve", "--worklist", *words])
        assert ended.value.code == 1
        assert found in capsys.readouterr().err
        assert started == []


class TestToken:
    def test_none_without_a_file_and_a_variable(self, monkeypatch):
        monkeypatch.delenv(server.TOKEN_VARIABLE, raising=False)
        assert server.read_token() is None

    def test_from_the_environment_or_a_file(self, monkeypatch, tmp_path):
        monkeypatch.setenv(server.TOKEN_VARIABLE, "of the environment")
        (tmp_path / "token").write_text("of the file\n")
        assert server.read_token() == "of the environment"
        assert server.read_token(tmp_path / "token") == "of the file"

    def test_a_file_that_is_missing(self, tmp_path):
        with pytest.raises(ScreeningError, match="correct --token_file"):
            server.read_token(tmp_path / "token")

    def test_the_verb_takes_it_and_has_no_option_for_it(self, worklist, started, monkeypatch, capsys):
        monkeypatch.setenv(server.TOKEN_VARIABLE, TOKEN)
        main(["serve", "--worklist", str(worklist.folder), "--host", "0.0.0.0", "--port", "0"])  # noqa: S104
        assert len(started) == 1
        with pytest.raises(SystemExit):
            main(["serve", "--worklist", str(worklist.folder), "--token", TOKEN])
        assert "Unrecognized arguments: --token" in capsys.readouterr().err
