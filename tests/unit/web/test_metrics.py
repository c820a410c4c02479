"""Figures for monitoring systems, read back by the library's own parser."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


def figures(client):
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_cases_and_verdicts_are_those_of_the_worklist(client):
    client.give(1)
    client.give(1, "normal")
    found = figures(client)
    cases = {key[1][0][1]: value for key, value in found.items() if key[0] == "anomalib_cxr_cases"}
    assert cases == {"to_read": 2, "below_threshold": 1, "refused": 1}
    assert found["anomalib_cxr_verdicts", ()] == 2


def test_requests_by_route_without_addresses(client):
    for path in ("/case/1", "/case/2?search=DOE", "/case/99", "/no/such/page/DOE"):
        client.get(path)
    client.request("DOE", "/")
    found = figures(client)
    counted = {
        tuple(dict(labels)[name] for name in ("method", "route", "status")): value
        for (name, labels), value in found.items()
        if name == "anomalib_cxr_http_requests_total"
    }
    assert counted["GET", "/case/{number}", "200"] == 2
    assert counted["GET", "/case/{number}", "404"] == 1
    assert counted["GET", "other", "404"] == 1
    assert {method for method, *_ in counted} <= {"GET", "other"}
    assert "DOE" not in client.get("/metrics").text
    assert found["anomalib_cxr_http_request_seconds_count", (("route", "/case/{number}"),)] == 3


def test_of_two_servers_are_their_own(browse, worklist):
    first, second = browse(worklist), browse(worklist)
    first.get("/case/1")
    assert not [key for key in figures(second) if "/case/{number}" in str(key)]


def test_a_failure_counts(browse, worklist, monkeypatch):
    client = browse(worklist, raise_server_exceptions=False)
    monkeypatch.setattr(worklist, "agreement", lambda: 1 / 0)
    client.get("/agreement")
    labels = (("method", "GET"), ("route", "/agreement"), ("status", "500"))
    assert figures(client)["anomalib_cxr_http_requests_total", labels] == 1
