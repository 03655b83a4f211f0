"""The web server without TensorFlow: files, streams, messages, and who is turned away."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from test_play_session import SPACE, FakeGame

from dreamerv2.common.errors import UserError
from dreamerv2.play_keys import make_controls
from dreamerv2.play_server import Server
from dreamerv2.play_session import Session

MESSAGE = {"client": "a", "number": 1, "held": [], "pressed": [], "rest": []}


@pytest.fixture
def served() -> Iterator[tuple[Server, Session, FakeGame]]:
    game = FakeGame()
    session = Session(game, make_controls(SPACE), fps=60)
    server = Server(port=0)
    server.start(session)
    stop = threading.Event()
    thread = threading.Thread(target=session.run, args=(stop.is_set,))
    thread.start()
    yield server, session, game
    stop.set()
    session.close()
    server.close()
    thread.join(5)


def ask(
    server: Server, method: str, path: str, body: Any = None, **headers: str
) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None and "Content-Type" not in sent:
        sent["Content-Type"] = "application/json"
    connection.request(method, path, body if body is None else json.dumps(body), sent)
    answer = connection.getresponse()
    if "event-stream" not in answer.getheader("Content-Type", ""):
        answer.text = answer.read().decode()  # type: ignore[attr-defined]
        connection.close()
    return answer


def event(stream: http.client.HTTPResponse) -> tuple[str, Any]:
    name = stream.readline().decode().removeprefix("event: ").strip()
    data = json.loads(stream.readline().decode().removeprefix("data: "))
    assert stream.readline() == b"\n"
    return name, data


def test_page_and_its_parts(served: Any) -> None:
    server, *_ = served
    for path, kind, part in [
        ("/", "text/html", "<title>"), ("/play.js", "text/javascript", "EventSource"),
        ("/play.css", "text/css", "canvas"),
    ]:  # fmt: skip
        answer = ask(server, "GET", path)
        assert answer.status == 200 and part in answer.text
        assert answer.getheader("Content-Type", "").startswith(kind)
        assert "default-src 'self'" in answer.getheader("Content-Security-Policy", "")
    # Nothing is fetched from elsewhere.
    assert "//" not in ask(server, "GET", "/").text.replace("<!doctype", "")
    for path in ["/favicon.ico", "/../play.py", "/play.py"]:
        assert ask(server, "GET", path).status == 404
    assert ask(server, "POST", "/play.js", MESSAGE).status == 404
    assert ask(server, "DELETE", "/").status == 501


def test_stream_tells_what_there_is_and_every_frame_until_the_end(served: Any) -> None:
    server, session, game = served
    stream = ask(server, "GET", "/events?client=a")
    name, about = event(stream)
    assert name == "hello" and len(about["keys"]) == 3
    numbers = []
    for _ in range(5):
        name, frame = event(stream)
        assert name == "frame"
        numbers.append(frame["number"])
    assert numbers == sorted(set(numbers)) and len(game.actions) >= 3
    message = {**MESSAGE, "held": ["ArrowRight"], "command": "agent"}
    assert ask(server, "POST", "/input", message).status == 204
    while not frame["agent"]:
        name, frame = event(stream)
    threading.Thread(target=session.close).start()
    while name == "frame":
        name, _ = event(stream)
    assert name == "bye" and stream.read() == b""


def test_streams_without_frames_show_signs_of_life(
    served: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreamerv2.play_server.HEARTBEAT", 0.05)
    server, session, _ = served
    stream = ask(server, "GET", "/events?client=a")
    session.receive({**MESSAGE, "command": "pause"})
    names = [event(stream)[0] for _ in range(40)]
    assert names[0] == "hello" and names[-2:] == ["alive", "alive"]


def test_a_page_that_closes_is_noticed(served: Any) -> None:
    server, session, _ = served
    stream = ask(server, "GET", "/events?client=a")
    event(stream)
    stream.close()
    with session._changed:
        assert session._changed.wait_for(lambda: not session._viewers, 5)


@pytest.mark.parametrize(
    "headers, status",
    [
        ({"Host": "localhost:1"}, 204),
        ({"Host": "127.0.0.1"}, 204),
        ({"Host": "[::1]:9000"}, 204),
        ({"Host": "LOCALHOST"}, 204),
        ({"Host": "localhost:9000", "Origin": "http://localhost:9000"}, 204),
        ({"Sec_Fetch_Site": "same-origin"}, 204),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example:8765"}, 403),
        ({"Host": "evil.example@localhost"}, 403),
        ({"Host": "[::1"}, 403),
        ({"Host": "10.0.0.7"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost:9000", "Origin": "http://evil.example"}, 403),
        ({"Host": "localhost:9000", "Origin": "http://localhost:9001"}, 403),
        ({"Host": "localhost:9000", "Origin": "https://localhost:9000"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Content_Type": "text/plain"}, 415),
    ],
)
def test_only_our_own_page_may_steer(served: Any, headers: dict[str, str], status: int) -> None:
    server, *_ = served
    assert ask(server, "POST", "/input", MESSAGE, **headers).status == status


def test_only_our_own_page_may_look(served: Any) -> None:
    server, *_ = served
    assert ask(server, "GET", "/", Host="evil.example").status == 403
    assert ask(server, "GET", "/events", Origin="http://evil.example").status == 403
    assert ask(server, "GET", "/events", Sec_Fetch_Site="cross-site").status == 403
    # A link on another site may lead to the page.
    assert ask(server, "GET", "/", Sec_Fetch_Site="cross-site").status == 200


def test_messages_that_are_not_valid_change_nothing(served: Any) -> None:
    server, session, _ = served
    for body, status in [
        ([], 400), ({**MESSAGE, "held": None}, 400), ({**MESSAGE, "held": ["x" * 70000]}, 413),
    ]:  # fmt: skip
        assert ask(server, "POST", "/input", body).status == status
    assert session._inputs.client == ""


def test_port_in_use_and_wrong_hosts_are_one_sentence() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} is in use; .*--port {port + 1}"):
            Server(port=port)
    for host in ["203.0.113.1", "no.such.host.invalid"]:
        with pytest.raises(UserError, match="no address of this machine"):
            Server(host, 0)


def test_a_server_for_everyone_answers_to_addresses_and_its_own_name() -> None:
    session = Session(FakeGame(), make_controls(SPACE))
    server = Server("0.0.0.0", 0)
    server.start(session)
    try:
        assert server.url == f"http://127.0.0.1:{server.port}/"
        for host, status in [("10.0.0.7:80", 204), (socket.gethostname(), 204), ("evil.com", 403)]:
            assert ask(server, "POST", "/input", MESSAGE, Host=host).status == status
    finally:
        server.close()


def test_keys_session_and_server_need_no_tensorflow() -> None:
    code = (
        "import sys, dreamerv2.play, dreamerv2.play_keys, dreamerv2.play_server; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
