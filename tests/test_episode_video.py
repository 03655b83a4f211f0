from __future__ import annotations

import pathlib

import av
import numpy as np
import pytest
from PIL import Image

from dreamerv2 import episode_video
from dreamerv2.common.envs.spaces import ActSpec
from dreamerv2.episode_video import GIF_FRAMES, Recorder, choose, describe_action, speed

ACT = ActSpec("discrete", (3,))


def play(recorder: Recorder, lengths: list[int], finish: bool = True, worker: int = 0) -> None:
    """Episodes whose images say episode and step, with a reward of their number at each step."""
    for number, length in enumerate(lengths):
        for t in range(length + 1):
            transition = {
                "image": np.full((16, 16, 1), (10 * number + t) % 256, np.uint8),
                "map": np.full((8, 8, 3), (200 + t) % 256, np.uint8),
                "action": np.eye(3, dtype=np.float32)[t % 3] * (t > 0),
                "reward": np.float32(number * (t > 0)),
                "is_first": np.bool_(t == 0),
                "is_last": np.bool_(t == length),
            }
            recorder.on_transition(transition, worker)
        if finish:
            recorder.on_episode({}, worker)


def test_images_come_back_exactly_whatever_the_order(tmp_path: pathlib.Path) -> None:
    with Recorder(["image", "map"], tmp_path) as recorder:
        play(recorder, [3, 5])
        play(recorder, [2], finish=False, worker=1)
        assert len(recorder.episodes) == 2
        frames = recorder.frames(1, "image", [5, 0, 2])
        assert frames.shape == (3, 16, 16, 1) and frames.dtype == np.uint8
        assert frames[:, 0, 0, 0].tolist() == [15, 10, 12]
        assert recorder.frames(0, "map", range(4))[:, 7, 7, 2].tolist() == [200, 201, 202, 203]
        assert recorder.episodes[1].rewards == [0, 1, 1, 1, 1, 1]
        assert not list(tmp_path.iterdir())


def test_choice_of_episodes() -> None:
    assert choose([3.0]) == {"best": 0, "median": 0, "worst": 0}
    assert choose([3.0, 1.0]) == {"best": 0, "median": 1, "worst": 1}
    assert choose([2.0, -1.0, 9.0, 2.0, 5.0]) == {"best": 2, "median": 3, "worst": 1}
    assert choose([4.0, 4.0, 4.0])["best"] == 0


def test_speed_is_that_asked_for_but_short_episodes_take_their_time() -> None:
    assert speed(1000, 20) == 20
    assert speed(30, 20) == 10
    assert speed(3, 20) == 4
    assert speed(3, 2) == 2


@pytest.mark.parametrize(
    ("space", "names", "action", "words"),
    [
        (ACT, ["NOOP", "FIRE", "UP"], [0, 0, 1], "UP"),
        (ACT, None, [0, 1, 0], "1"),
        (ActSpec("discrete", (3,), start=(5,)), None, [0, 1, 0], "6"),
        (ActSpec("multi_discrete", (2, 2), (2,)), None, [0, 1, 1, 0], "1  0"),
        (ActSpec("continuous", (2,), (2,), low=(-2.0, 0.0), high=(2.0, 1.0), dtype="float32"),
         None, [-1, 0], "-2.00  +0.50"),
    ],
)  # fmt: skip
def test_actions_in_words(
    space: ActSpec, names: list[str] | None, action: list[float], words: str
) -> None:
    assert describe_action(space, names)(np.array(action, np.float32)) == words


def test_captions_align_return_reward_and_action_with_the_frame(tmp_path: pathlib.Path) -> None:
    with Recorder(["image"], tmp_path) as recorder:
        play(recorder, [0, 0, 2])
        captions = list(episode_video._captions(recorder.episodes[2], describe_action(ACT, None)))
    assert captions == [
        ("return 0   reward 0", "step 0/2   action -"),
        ("return 2   reward 2", "step 1/2   action 1"),
        ("return 4   reward 2", "step 2/2   action 2"),
    ]
    assert [episode_video._number(x) for x in (-0.5, 1234.567, 10.0, 0.001)] == [
        "-0.5", "1,234.57", "10", "0",
    ]  # fmt: skip


def test_writes_whole_mp4s_and_gifs_with_frames_left_out(tmp_path: pathlib.Path) -> None:
    length = 2 * GIF_FRAMES + 8
    done: list[int] = []
    with Recorder(["image"], tmp_path) as recorder:
        play(recorder, [2, length, 3])
        files = episode_video.write_videos(
            recorder, tmp_path, fps=20, describe=describe_action(ACT, None), progress=done.append
        )
        assert sum(done) == episode_video.frames_to_encode(recorder) == length + 1 + 4 + 3
    assert {file.name for file in files} == {path.name for path in tmp_path.iterdir()}
    counts = {}
    for role in ("best", "median", "worst"):
        with av.open(str(tmp_path / f"{role}.mp4")) as video:
            counts[role] = len(list(video.decode(video=0)))
    assert counts == {"best": length + 1, "median": 4, "worst": 3}
    with Image.open(tmp_path / "best.gif") as gif:
        assert gif.n_frames <= GIF_FRAMES
    with Image.open(tmp_path / "worst.gif") as gif:
        assert gif.n_frames == 3


def test_the_same_episode_under_two_names_and_several_images(tmp_path: pathlib.Path) -> None:
    with Recorder(["image", "map"], tmp_path) as recorder:
        play(recorder, [2])
        episode_video.write_videos(recorder, tmp_path, fps=20, describe=describe_action(ACT, None))
    assert len(list(tmp_path.iterdir())) == 12
    for kind in ("mp4", "gif"):
        best, worst = (tmp_path / f"{role}_map.{kind}" for role in ("best", "worst"))
        assert best.read_bytes() == worst.read_bytes()
        assert best.read_bytes() != (tmp_path / f"best_image.{kind}").read_bytes()
