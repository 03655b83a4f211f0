"""The page of `play` in a headless Chromium: real key presses, what is shown, and its end."""

from __future__ import annotations

import itertools
import pathlib
import threading
import time
from collections.abc import Iterator

import browser
import numpy as np
import pytest
from test_play_session import FakeGame

from dreamerv2.common.envs.spaces import ActSpec
from dreamerv2.play_keys import make_controls
from dreamerv2.play_server import Server
from dreamerv2.play_session import Session

pytestmark = pytest.mark.skipif(
    browser.CHROMIUM is None,
    reason="there is no Chromium; on Debian: apt-get install chromium",
)
TITLE = {
    "task": "a game", "run": "ckpt-1", "reward": "tanh of the reward", "real": True,
    "lengths": {}, "command": "dreamerv2 play --logdir nowhere",
}  # fmt: skip
THREE = ActSpec("discrete", (3,))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    with browser.Browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


class Served:
    """A session that a page can be opened on; a context manager."""

    def __init__(self, game: FakeGame, space: ActSpec = THREE, port: int = 0, fps: float = 20):
        names = ["left", "stay", "right"] if space is THREE else None
        self.session = Session(game, make_controls(space, names), fps=fps, title=TITLE)
        self.server = Server(port=port)
        self.url = self.server.url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self.session.run, args=(self._stop.is_set,))

    def __enter__(self) -> Served:
        self.server.start(self.session)
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._stop.set()
        self.session.close()
        self.server.close()
        self._thread.join(10)

    def open(self, page: browser.Browser, state: str = "playing") -> None:
        page.open(self.url)
        page.wait(f"document.body.dataset.state === '{state}'")


def text(page: browser.Browser, selector: str) -> str:
    return page.evaluate(f"document.querySelector('{selector}').innerText")


def test_keys_act_at_the_next_frame_and_stop_when_released(page: browser.Browser) -> None:
    game = FakeGame(real=10**9)
    with Served(game) as served:
        served.open(page)
        page.key("ArrowRight", "down")
        count = len(game.actions)
        page.wait("document.querySelector('#keys button.lit')?.innerText.includes('right')")
        page.wait(f"frame.step > {count + 4}")
        page.key("ArrowRight", "up")
        page.wait("frame.action === 'stay'")
        # What the server gets counts at once (see test_play_session); until it gets it a busy
        # machine may need some frames of 50 ms.
        first = game.actions.index(2)
        runs = [(key, len(list(group))) for key, group in itertools.groupby(game.actions)]
        assert first <= count + 10 and [key for key, _ in runs] == [1, 2, 1]
        # A tap shorter than a frame is not lost, and one on a letter does the same.
        page.key("KeyA")
        page.wait("past.some(item => item.action === 'left')")
        assert game.actions.count(0) >= 1


def test_what_the_page_shows(page: browser.Browser) -> None:
    game = FakeGame(real=10**9)
    with Served(game) as served:
        served.open(page)
        page.wait("frame.step > 2")
        assert text(page, "#task") == "a game" and text(page, "#run") == "ckpt-1"
        assert "you steer: stay" in text(page, "#status")
        assert "a note" in text(page, "#banner")
        assert "The agent would choose next: stay" in text(page, "#controls")
        # The pictures are those of the frame, drawn, without blur.
        page.evaluate("stream.close()")
        size, alt = page.evaluate(
            "(() => { const i = document.querySelectorAll('img');"
            "return [i.length + 'x' + i[0].naturalWidth, i[1].alt]; })()"
        )
        assert size == "2x8" and alt == "real: image"
        shade = page.evaluate(
            "(async () => { const i = document.querySelector('img'); await i.decode();"
            "const c = document.createElement('canvas').getContext('2d');"
            "c.drawImage(i, 0, 0); return [c.getImageData(0, 0, 1, 1).data[0], frame.step]; })()"
        )
        assert shade[0] == shade[1] % 256
        names = page.evaluate("[...document.querySelectorAll('.plot .name')].map(n => n.innerText)")
        assert names == ["tanh of the reward", "discount", "value"]
        numbers = page.evaluate("[...document.querySelectorAll('.number')].map(n => n.innerText)")
        assert numbers[:6] == ["0.500", "0.000", "0.990", "1.000", "–", "2.000"]  # noqa: RUF001
        # The plots have lines in them.
        drawn = page.evaluate(
            "(() => { const c = document.querySelector('canvas'), d = c.getContext('2d');"
            "return new Set(d.getImageData(0, 0, c.width, c.height).data).size; })()"
        )
        assert drawn > 20


def test_commands_by_key_and_by_button(page: browser.Browser) -> None:
    game = FakeGame(real=10**9)
    with Served(game) as served:
        served.open(page)
        page.key("KeyP")
        page.wait("document.body.dataset.state === 'paused'")
        assert "each press of a key plays one frame" in text(page, "#banner")
        game.actions.clear()
        for key, action in [("ArrowLeft", 0), ("Digit2", 2), ("KeyN", 1)]:
            before = game.step_
            page.key(key)
            page.wait(f"frame.step === {before + 1}")
            assert game.actions[-1] == action
        page.mouse("Pressed", "#keys button:first-child")
        page.mouse("Released", "#keys button:first-child")
        deadline = time.monotonic() + 5
        while len(game.actions) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert game.actions == [0, 2, 1, 0]
        page.mouse("Pressed", "#do-agent")
        page.mouse("Released", "#do-agent")
        page.wait("frame.agent")
        page.key("Space")  # Would press a button that has the focus.
        page.key("Minus")
        page.wait("frame.fps === 15")
        assert page.evaluate("frame.agent")
        page.key("Enter")
        page.wait("frame.episode === 2")
        page.key("KeyC")
        page.key("KeyP")
        page.wait("frame.step > 2")
        assert game.syncs == 1 and None in game.actions


def test_end_is_announced(page: browser.Browser) -> None:
    with Served(FakeGame(length=6)) as served:
        served.open(page, "ended")
        assert "The model predicts that the episode ends here." in text(page, "#banner")
        assert "Dream, ended" in text(page, "figcaption")
        page.key("KeyR")
        page.wait("frame.episode === 2 && document.body.dataset.state === 'playing'")


def test_sliders_and_keys_that_push_them(page: browser.Browser) -> None:
    space = ActSpec("continuous", (2,))

    class Box(FakeGame):
        def step(self, action: np.ndarray | None) -> object:  # type: ignore[override]
            assert action is not None
            self.values = [round(float(v), 2) for v in action]
            self.actions.append(None)
            self.step_ += 1
            return self._frame(action)

    game = Box()
    with Served(game, space) as served:
        served.open(page)
        page.key("ArrowUp", "down")
        page.wait("frame.values[1] === 1")
        page.key("ArrowUp", "up")
        page.wait("frame.values[1] === 0")
        page.evaluate(
            "(() => { const s = document.querySelector('#sliders input'); s.value = 0.5;"
            "s.dispatchEvent(new Event('input')); })()"
        )
        page.wait("frame.values[0] === 0.5")
        assert game.values == [0.5, 0.0]
        assert text(page, ".slider .number") == "0.50"


def test_page_says_that_the_server_has_ended_and_finds_the_next_one(page: browser.Browser) -> None:
    with Served(FakeGame()) as served:
        served.open(page)
        port = served.server.port
    page.wait("document.body.dataset.state === 'lost'")
    assert "The server has ended." in text(page, "#banner")
    assert "dreamerv2 play --logdir nowhere" in text(page, "#banner")
    with Served(FakeGame(), port=port) as served:
        page.wait("document.body.dataset.state === 'playing'")
        assert "a note" in text(page, "#banner")
        page.open("about:blank?")


def test_other_sites_can_neither_look_nor_steer(
    page: browser.Browser, tmp_path: pathlib.Path
) -> None:
    with Served(FakeGame()) as served:
        # The same machine under another port is another site for the browser.
        other = Served(FakeGame())
        with other:
            other.open(page)
            outcome = page.evaluate(
                f"fetch('{served.url}input', {{method: 'POST', mode: 'no-cors', body: '{{}}'}})"
                ".then(a => a.type + a.status, e => 'failed')"
            )
            assert outcome in ("opaque0", "failed")
        assert served.session._inputs.client == ""
        page.open("about:blank?")
