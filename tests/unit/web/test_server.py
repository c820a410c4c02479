"""Where the server listens."""

from __future__ import annotations

import socket

import pytest

from anomalib_cxr.cli import main
from anomalib_cxr.errors import ScreeningError
from anomalib_cxr.web import server


@pytest.fixture
def started(monkeypatch):
    """What would have been served, in place of serving it."""
    seen = []

    def run(self, sockets):
        seen.append((self.config.app, sockets[0].getsockname()))

    monkeypatch.setattr(server.uvicorn.Server, "run", run)
    return seen


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.7", "::", "screening.example"])  # noqa: S104
def test_others_need_an_account(worklist, started, host):
    with pytest.raises(ScreeningError, match=r"(?s)no account in .*users add NAME --role admin"):
        server.run_server(worklist, host=host, port=0)
    assert started == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_needs_none(worklist, started, host):
    server.run_server(worklist, host=host, port=0)
    assert started[0][1][0] == "127.0.0.1"


def test_others_with_an_account(worklist, accounts, started, caplog):
    server.run_server(worklist, host="0.0.0.0", port=0)  # noqa: S104
    assert started[0][1][0] == "0.0.0.0"  # noqa: S104
    assert started[0][0].state.sessions is not None
    assert "not encrypted" in caplog.text


def test_this_machine_signs_in_where_there_are_accounts(worklist, accounts, started, caplog):
    server.run_server(worklist, port=0)
    assert started[0][0].state.sessions is not None
    assert "not encrypted" not in caplog.text


def test_a_damaged_file_of_accounts_is_no_open_door(worklist, accounts, started):
    accounts.file.write_text('{"format": 1, "accounts": [{"name": "Ada"}]}')
    with pytest.raises(ScreeningError, match=r"(?s)accounts\.json: accounts\.0\.role: .*restore it"):
        server.run_server(worklist, port=0)
    assert started == []


def test_taken_port(worklist, started):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ScreeningError, match=f"port {port}: .*in use"):
            server.run_server(worklist, port=port)


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70000), ("999.0.0.1", 0)])
def test_no_address(worklist, accounts, started, host, port):
    with pytest.raises(ScreeningError, match="next step"):
        server.run_server(worklist, host=host, port=port)


class TestVerb:
    def test_shows_the_worklist_of_the_folder(self, worklist, started):
        main(["serve", "--worklist", str(worklist.folder), "--port", "0"])
        ((app, _),) = started
        assert app.state.worklist.count() == 4
        assert app.state.uploads is None

    @pytest.mark.parametrize(
        ("words", "found"),
        [
            (["nowhere"], "no worklist.sqlite in nowhere"),
            (["out", "--host", "0.0.0.0"], "no account in out"),  # noqa: S104
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


def test_no_answer_waits_for_the_receipt_of_its_header(worklist, monkeypatch):
    """Neither by the listener nor by asyncio, which leaves sockets without a protocol number as they are."""
    delays = []

    def run(self, sockets):
        address = sockets[0].getsockname()
        with socket.create_connection(address), sockets[0].accept()[0] as connection:
            delays.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0)

    monkeypatch.setattr(server.uvicorn.Server, "run", run)
    server.run_server(worklist, port=0)
    assert delays == [False]
