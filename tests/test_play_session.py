"""The game loop with a game of nothing: what is stepped when, and with which action."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dreamerv2.common.envs.spaces import ActSpec
from dreamerv2.play_keys import make_controls
from dreamerv2.play_session import Session
from dreamerv2.play_view import Frame, View

SPACE = ActSpec("discrete", (3,))


class FakeGame:
    """Remembers actions; the dream ends after `length` steps, the real episode after `real`."""

    def __init__(self, length: int = 10**9, real: int = 0, seconds: float = 0.0) -> None:
        self.length, self.real, self.seconds = length, real, seconds
        self.actions: list[int | None] = []
        self.episodes = self.syncs = self.step_ = 0
        self.threads: set[int] = set()

    def reset(self) -> Frame:
        self.episodes += 1
        self.step_ = 0
        return self._frame(None)

    def step(self, action: np.ndarray | None) -> Frame:
        time.sleep(self.seconds)
        self.actions.append(None if action is None else int(action.argmax()))
        self.step_ += 1
        return self._frame(np.eye(3)[2] if action is None else action)

    def sync(self) -> Frame | None:
        self.syncs += 1
        return self._frame(None) if self.real else None

    def _frame(self, action: np.ndarray | None) -> Frame:
        self.threads.add(threading.get_ident())
        image = np.full((8, 8, 1), self.step_, np.uint8)
        over = self.step_ >= self.length
        view = View({"image": image}, 0.5, 0.99, float("nan"), 1.5, over)
        real = View({"image": image}, 0, 1, 2, 3, self.step_ >= self.real) if self.real else None
        return Frame(self.step_, view, real, action, np.eye(3)[1], "a note")


class Player:
    """A page, without a browser."""

    def __init__(self, session: Session, name: str = "page") -> None:
        self.session, self.name, self.number, self.seen = session, name, 0, 0

    def tell(self, held: list[str] | None = None, **message: Any) -> None:
        self.number += 1
        message = {"pressed": [], "rest": [], "number": self.number, **message}
        self.session.receive({"client": self.name, "held": held or [], **message})

    def tap(self, code: str) -> None:
        self.tell([code], pressed=[code])
        self.tell()

    def frame(self, timeout: float = 5.0) -> dict[str, Any]:
        news = self.session.next(self.seen, timeout)
        assert news is not None
        self.seen = news[0]
        return json.loads(news[1])

    def wait(self, step: int = 0, **wanted: Any) -> dict[str, Any]:
        """Return the first frame seen from a step on that is as wanted."""
        while True:
            frame = self.frame()
            if frame["step"] >= step and all(frame[key] == v for key, v in wanted.items()):
                return frame


@contextlib.contextmanager
def playing(game: FakeGame, watch: bool = True, **kwargs: Any) -> Iterator[Player]:
    session = Session(game, make_controls(SPACE, ["left", "stay", "right"]), **kwargs)
    stop = threading.Event()
    thread = threading.Thread(target=session.run, args=(stop.is_set,))
    thread.start()
    player = Player(session)
    if watch:
        session.join("page")
    try:
        yield player
    finally:
        if watch:
            session.leave("page")
        stop.set()
        session.close()
        thread.join(5)
        assert not thread.is_alive()
        assert len(game.threads) == 1


def test_keys_become_actions_at_the_next_frame() -> None:
    game = FakeGame()
    with playing(game, fps=20) as page:
        page.wait(step=2)
        page.tell(["ArrowRight"])
        pressed = len(game.actions)
        frame = page.wait(action="right")
        assert frame["lit"] == [2] and frame["choice"] == "stay"
        page.wait(step=pressed + 4)
        # One frame may have been on its way when the key was pressed, but not a second one. Frames
        # are counted in the game: a slow reader of the page may miss some.
        assert set(game.actions[pressed + 1 : pressed + 4]) == {2}
        page.tell()
        released = len(game.actions)
        page.wait(step=released + 4)
        assert set(game.actions[released + 1 : released + 4]) == {1}


def test_a_tap_between_two_frames_counts_once_and_before_keys_that_are_held() -> None:
    game = FakeGame()
    with playing(game, fps=5) as page:
        page.wait(step=1)
        page.tell(["ArrowLeft"])
        page.tell(["ArrowLeft", "ArrowRight"], pressed=["ArrowRight"])
        page.tell(["ArrowLeft"])
        assert [page.frame()["action"] for _ in range(2)] == ["right", "left"]


def test_messages_that_come_late_do_not_bring_keys_back() -> None:
    game = FakeGame()
    with playing(game, fps=20) as page:
        page.wait(step=1)
        page.tell(["ArrowLeft"], number=10)
        page.tell([], number=12)
        page.tell(["ArrowLeft"], number=11)
        page.frame()
        assert page.frame()["action"] == "stay"
        # Another page takes over, whatever its numbers.
        other = Player(page.session, "other")
        other.tell(["ArrowRight"])
        page.frame()
        assert page.frame()["action"] == "right"


def test_speed_is_kept_and_can_be_changed() -> None:
    game = FakeGame()
    with playing(game, fps=20) as page:
        page.wait(step=1)
        began = time.monotonic()
        page.wait(step=21)
        assert 0.9 < time.monotonic() - began < 1.6
        page.tell(command="faster")
        assert page.wait(fps=25)
        page.tell(command="slower")
        page.tell(command="slower")
        frame = page.wait(fps=15)
        assert 15 < frame["rate"] < 27 and frame["milliseconds"] < 50


def test_a_slow_game_gives_no_bursts() -> None:
    game = FakeGame(seconds=0.1)
    with playing(game, fps=60) as page:
        page.wait(step=3)
        game.seconds = 0.0
        began = time.monotonic()
        page.wait(step=15)
        assert time.monotonic() - began > 0.15


def test_nothing_moves_without_a_page_and_a_page_that_leaves_lets_go_of_its_keys() -> None:
    game = FakeGame()
    with playing(game, watch=False, fps=60) as page:
        assert page.frame()["step"] == 0
        time.sleep(0.3)
        assert game.actions == []
        page.session.join("page")
        page.tell(["ArrowRight"])
        page.wait(action="right")
        page.session.leave("page")
        count = len(game.actions)
        time.sleep(0.3)
        assert len(game.actions) <= count + 1
        page.session.join("other")
        page.wait(action="stay")
        page.session.leave("other")


def test_pause_makes_it_a_game_of_turns() -> None:
    game = FakeGame()
    with playing(game, fps=60) as page:
        page.tell(command="pause")
        page.wait(paused=True)
        game.actions.clear()
        page.tap("ArrowRight")
        assert page.frame()["action"] == "right"
        page.tap("ArrowLeft")
        assert page.frame()["action"] == "left"
        page.tell(command="step")
        assert page.frame()["action"] == "stay"
        time.sleep(0.3)
        assert game.actions == [2, 0, 1]
        page.tell(command="pause")
        page.wait(paused=False)
        page.frame()


def test_one_step_pauses() -> None:
    game = FakeGame()
    with playing(game, fps=60) as page:
        page.tell(command="step")
        frame = page.wait(paused=True)
        time.sleep(0.2)
        assert len(game.actions) == frame["step"]


def test_end_stops_a_person_until_a_new_dream_or_the_wish_to_dream_on() -> None:
    game = FakeGame(length=4)
    with playing(game, fps=60) as page:
        frame = page.wait(ended=True)
        assert frame["step"] == 4 and frame["dream"]["over"] and not frame["paused"]
        page.tap("ArrowLeft")
        time.sleep(0.3)
        assert game.step_ == 4
        page.tell(command="pause")
        assert page.wait(step=8)["ended"] is False
        page.tell(command="restart")
        frame = page.wait(step=0)
        assert frame["episode"] == 2 and frame["action"] == ""
        assert page.frame()["action"] == "stay"


def test_the_agent_steers_and_begins_again_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dreamerv2.play_session.PAUSE_AT_END", 0.1)
    game = FakeGame(length=5)
    with playing(game, fps=60, agent=True) as page:
        page.wait(episode=3)
        assert set(game.actions) == {None}
        page.tell(["ArrowLeft"], command="agent")
        page.wait(agent=False)
        page.wait(action="left")


def test_a_real_end_stops_only_the_agent() -> None:
    game = FakeGame(real=3)
    with playing(game, fps=60) as page:
        assert page.wait(step=6)["real"]["over"]
        page.tell(command="restart")
        page.tell(command="agent")
        frame = page.wait(ended=True)
        assert frame["step"] == 3 and frame["agent"]


def test_dream_is_brought_in_line_only_where_there_is_something_real() -> None:
    for real in (0, 10**9):
        game = FakeGame(real=real)
        with playing(game, fps=60) as page:
            page.wait(step=2)
            page.tell(command="sync")
            page.wait(step=6)
            assert game.syncs == 1 and page.frame()["episode"] == 1


def test_frames_are_json_with_pictures() -> None:
    with playing(FakeGame(), fps=60, title={"task": "nothing"}) as page:
        view = page.frame()["dream"]
        assert view["images"]["image"].startswith("data:image/png;base64,")
        assert view["value"] is None and view["reward"] == 0.5
        about = json.loads(page.session.describe())
        assert about["task"] == "nothing" and about["sliders"] == []
        assert about["keys"][0] == {
            "label": "left", "caps": ["←", "A", "0"],
            "codes": ["ArrowLeft", "KeyA", "Digit0", "Numpad0", "Action0"],
        }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"client": 3}, {"number": 1.5}, {"number": True}, {"held": "ArrowUp"}, {"held": [1]},
        {"pressed": ["x"] * 65}, {"pressed": ["x" * 33]}, {"rest": ["1"]}, {"rest": [1e9]},
        {"rest": [float("nan")]}, {"command": "format"}, {"command": 1},
    ],
)  # fmt: skip
def test_other_messages_are_refused(change: dict[str, Any]) -> None:
    session = Session(FakeGame(), make_controls(SPACE))
    message = {"client": "a", "number": 1, "held": [], "pressed": [], "rest": []}
    session.receive(message)
    with pytest.raises(ValueError, match=next(iter(change))):
        session.receive({**message, **change})
    with pytest.raises(ValueError, match="object"):
        session.receive([])


def test_waiting_pages_hear_of_the_end() -> None:
    session = Session(FakeGame(), make_controls(SPACE))
    assert session.next(0, 0.01) is None
    threading.Timer(0.1, session.close).start()
    with pytest.raises(EOFError):
        session.next(0, 5)
