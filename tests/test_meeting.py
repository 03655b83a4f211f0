"""Processes that wait for each other: threads stand in for them."""

from __future__ import annotations

import concurrent.futures
import socket
import threading
import time
from typing import Any

import pytest
from worker_runs import free_ports

from dreamerv2.common import meeting
from dreamerv2.common.errors import UserError

FACTS = {"seed": "1", "task": "dummy_catch"}


def addresses(number: int) -> list[str]:
    return [f"127.0.0.1:{port}" for port in free_ports(number)]


def together(calls: list[Any]) -> list[str]:
    """Return what each of several calls raises, or nothing."""

    def one(call: Any) -> str:
        try:
            call()
        except UserError as error:
            return str(error)
        return ""

    with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def call(places: list[str], index: int, facts: Any = FACTS, wait: float = 20.0, late: float = 0.0):
    def function() -> None:
        time.sleep(late)
        meeting.meet(places, index, facts, patience=wait)

    return function


@pytest.mark.parametrize("late", [0, 2])
def test_all_wait_for_the_last_and_the_ports_are_free_again(late: int) -> None:
    places, said = addresses(3), []
    begun = time.monotonic()
    calls = [call(places, i, late=0.5 * (i == late)) for i in range(3)]
    calls[1] = lambda: meeting.meet(places, 1, FACTS, said.append, 20.0)
    assert together(calls) == ["", "", ""]
    assert time.monotonic() - begun > 0.5
    assert said == ["Waiting for 2 other workers ..."]
    for place in places:
        with socket.socket() as own:
            own.bind(("127.0.0.1", int(place.split(":")[1])))


def test_differences_are_said_to_all() -> None:
    places = addresses(3)
    other = {"seed": "2", "envs": "4"}
    found = together([call(places, 0), call(places, 1), call(places, 2, other)])
    assert len(set(found)) == 1
    assert found[0] == (
        "workers 0 and 2 differ: seed is 1 and 2, task is dummy_catch and missing, envs is missing "
        "and 4; start the same command on all machines."
    )
    assert not meeting.differences(FACTS, dict(FACTS), 1)
    many = meeting.differences({}, {str(i): "1" for i in range(9)}, 1)
    assert ", and 3 more; " in many


def test_those_who_do_not_come_are_named() -> None:
    places = addresses(3)
    found = together([call(places, 0, wait=1.0), call(places, 1, wait=1.5)])
    assert found[0].startswith(f"worker 2 ({places[2]}) did not come; start the same command on")
    assert found[1].startswith(f"worker 0 ({places[0]}) did not come; ")


def test_a_port_that_is_taken() -> None:
    places = addresses(2)
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(places[1].split(":")[1])))
        other.listen()
        with pytest.raises(UserError, match=r"cannot use its address 127.* \(Address already in"):
            meeting.meet(places, 1, FACTS, patience=0.1)


def test_a_name_that_nobody_knows() -> None:
    places = [f"nowhere.invalid:{free_ports(1)[0]}", *addresses(1)]
    with pytest.raises(UserError, match=r"worker 0, nowhere.invalid:\d+, is unknown"):
        meeting.meet(places, 1, FACTS, patience=5.0)


@pytest.mark.parametrize(
    "data",
    [b"", b"GET / HTTP/1.1\r\n\r\n", b"[]\n", b'{"index": 5}\n', b'{"index": 0, "facts": {}}\n',
     b'{"index": 1, "facts": 3}\n', b'{"index": "1", "facts": {}}\n', b'{"index": null}\n'],
)  # fmt: skip
def test_strangers_are_ignored(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "_ANSWER", 0.3)
    places = addresses(2)

    def stranger() -> None:
        time.sleep(0.1)
        with socket.create_connection(("127.0.0.1", int(places[0].split(":")[1]))) as connection:
            connection.sendall(data)
            time.sleep(0.2)

    thread = threading.Thread(target=stranger)
    thread.start()
    assert together([call(places, 0), call(places, 1, late=0.3)]) == ["", ""]
    thread.join()


def test_somebody_who_waited_and_went_away_is_waited_for_again() -> None:
    places = addresses(3)
    port = int(places[0].split(":")[1])

    def brief() -> None:
        time.sleep(0.2)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b'{"index": 1, "facts": {"seed": "3"}}\n')
            time.sleep(0.2)

    thread = threading.Thread(target=brief)
    thread.start()
    calls = [call(places, 0), call(places, 1, late=1.5), call(places, 2, late=1.0)]
    assert together(calls) == ["", "", ""]
    thread.join()
