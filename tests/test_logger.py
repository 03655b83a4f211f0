import io
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from dreamerv2.common import logger as logging
from dreamerv2.common.errors import UserError


class Recorder:
    def __init__(self):
        self.writes = []
        self.closed = 0

    def write(self, step, scalars, images, videos):
        self.writes.append((step, dict(scalars), dict(images), dict(videos)))

    def close(self):
        self.closed += 1


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def clock():
    return Clock()


def lines(path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return [json.loads(x, parse_constant=refuse) for x in path.read_text().splitlines()]


class TestLogger:
    def test_averages_scalars_between_writes(self, recorder):
        log = logging.Logger([recorder], lambda: 40)
        for value in (1, 2, 6):
            log.scalar("loss", value)
        log.scalar("other", 0.5)
        log.write()
        log.scalar("loss", 10)
        log.write()
        assert recorder.writes == [
            (40, {"loss": 3.0, "other": 0.5}, {}, {}),
            (40, {"loss": 10.0}, {}, {}),
        ]

    def test_writes_to_every_output_with_the_step_of_the_write(self):
        step = [4]
        outputs = [Recorder(), Recorder()]
        log = logging.Logger(outputs, lambda: step[0])
        log.scalar("a", 1)
        step[0] = 8
        log.write()
        assert outputs[0].writes == outputs[1].writes == [(8, {"a": 1.0}, {}, {})]

    def test_writes_nothing_when_nothing_was_added(self, recorder):
        logging.Logger([recorder], lambda: 0).write()
        assert recorder.writes == []

    @pytest.mark.parametrize(
        "value", [True, 3, 3.5, np.float32(2), np.int64(2), np.array(2.0), np.float16(0.5)]
    )
    def test_accepts_numbers_of_any_type(self, recorder, value):
        log = logging.Logger([recorder], lambda: 0)
        log.scalar("a", value)
        log.write()
        result = recorder.writes[0][1]["a"]
        assert type(result) is float
        assert result == float(value)

    def test_accepts_bfloat16(self, recorder):
        ml_dtypes = pytest.importorskip("ml_dtypes")
        log = logging.Logger([recorder], lambda: 0)
        log.scalar("a", np.array(1.5, ml_dtypes.bfloat16))
        log.write()
        assert recorder.writes[0][1]["a"] == 1.5

    @pytest.mark.parametrize("value", [[1.0], np.zeros(2), "text", None, 1j])
    def test_refuses_what_is_not_one_number(self, recorder, value):
        with pytest.raises(ValueError, match="'a' is one number"):
            logging.Logger([recorder], lambda: 0).scalar("a", value)

    def test_refuses_the_name_of_the_step_axis(self, recorder):
        with pytest.raises(ValueError, match="step"):
            logging.Logger([recorder], lambda: 0).scalar("step", 1)

    def test_add_tells_kinds_apart_by_rank_and_prefixes_names(self, recorder):
        log = logging.Logger([recorder], lambda: 0)
        image = np.ones((4, 5, 3), np.uint8)
        single = np.ones((2, 4, 5, 1), np.uint8)
        batch = np.arange(3 * 2 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 2, 4, 5, 3)
        log.add({"x": 1, "i": image, "v": single, "b": batch}, prefix="train")
        log.add({"y": 2})
        log.write()
        _, scalars, images, videos = recorder.writes[0]
        assert scalars == {"train_x": 1.0, "y": 2.0}
        assert list(images) == ["train_i"]
        assert videos["train_v"].shape == (2, 4, 5, 1)
        assert videos["train_b"].shape == (2, 4, 15, 3)
        np.testing.assert_array_equal(videos["train_b"][:, :, 5:10], batch[1])

    @pytest.mark.parametrize(
        ("method", "array"),
        [
            ("image", np.zeros((4, 4), np.uint8)),
            ("image", np.zeros((4, 4, 3), np.float32)),
            ("video", np.zeros((4, 4, 3), np.uint8)),
            ("video", np.zeros((2, 4, 4, 3), np.float32)),
            ("video", np.zeros((1, 2, 4, 4, 2), np.uint8)),
        ],
    )
    def test_refuses_pictures_of_wrong_rank_or_dtype_when_they_are_added(
        self, recorder, method, array
    ):
        with pytest.raises(ValueError, match="Expected"):
            getattr(logging.Logger([recorder], lambda: 0), method)("name", array)

    def test_measures_frames_per_second_between_the_writes_that_ask(self, recorder, clock):
        step = [0]
        log = logging.Logger([recorder], lambda: step[0], clock)
        for frames, seconds, fps in [(0, 0, True), (400, 1, False), (600, 3, True)]:
            step[0] += frames
            clock.now += seconds
            log.scalar("a", 0)
            log.write(fps=fps)
        assert ["fps" in write[1] for write in recorder.writes] == [False, False, True]
        assert recorder.writes[-1][1]["fps"] == pytest.approx(1000 / 4)

    def test_closes_its_outputs_also_after_an_exception(self, recorder):
        with pytest.raises(KeyError), logging.Logger([recorder], lambda: 0):
            raise KeyError
        assert recorder.closed == 1


class TestJSONLines:
    def test_appends_one_line_per_write(self, tmp_path):
        for step in (4, 8):
            with logging.Logger([logging.JSONLines(tmp_path / "run")], lambda s=step: s) as log:
                log.add({"loss": 0.1, "return": -2})
                log.write()
        expected = [{"step": s, "loss": 0.1, "return": -2.0} for s in (4, 8)]
        assert lines(tmp_path / "run" / "metrics.jsonl") == expected

    def test_is_on_disk_after_every_write(self, tmp_path):
        output = logging.JSONLines(tmp_path)
        output.write(1, {"a": 1.0})
        assert lines(output.path) == [{"step": 1, "a": 1.0}]
        output.close()

    def test_writes_null_for_what_json_cannot_say(self, tmp_path):
        output = logging.JSONLines(tmp_path)
        output.write(1, {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1e300})
        assert lines(output.path) == [{"step": 1, "a": None, "b": None, "c": None, "d": 1e300}]
        output.close()

    def test_leaves_out_writes_of_pictures_only(self, tmp_path):
        output = logging.JSONLines(tmp_path)
        output.write(1, {}, {"image": np.zeros((4, 4, 3), np.uint8)})
        assert output.path.read_bytes() == b""
        output.close()

    @pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b"{", b'{"step": 3}', b"x" * 200_000])
    @pytest.mark.parametrize("intact", [b"", b'{"step": 1}\n{"step": 2}\n'])
    def test_cuts_off_a_torn_last_line(self, tmp_path, torn, intact):
        path = tmp_path / "metrics.jsonl"
        path.write_bytes(intact + torn)
        output = logging.JSONLines(tmp_path)
        assert path.read_bytes() == intact
        output.write(5, {"a": 1.0})
        assert path.read_bytes() == intact + b'{"step": 5, "a": 1.0}\n'
        output.close()

    def test_drops_what_a_resumed_run_writes_again(self, tmp_path):
        output = logging.JSONLines(tmp_path)
        for step in (10, 20, 20, 30):
            output.write(step, {"a": float(step)})
        output.close()
        output = logging.JSONLines(tmp_path)
        output.truncate_after(20)
        output.write(30, {"a": -1.0})
        output.close()
        assert [(x["step"], x["a"]) for x in lines(output.path)] == [
            (10, 10.0), (20, 20.0), (20, 20.0), (30, -1.0),
        ]  # fmt: skip
        assert os.listdir(tmp_path) == ["metrics.jsonl"]

    @pytest.mark.parametrize("line", [b"\0\0\n", b"[1]\n", b'{"a": 1}\n', b"1\n"])
    def test_names_a_damaged_line_and_changes_nothing(self, tmp_path, line):
        content = b'{"step": 1}\n' + line + b'{"step": 2}\n'
        (tmp_path / "metrics.jsonl").write_bytes(content)
        output = logging.JSONLines(tmp_path)
        with pytest.raises(UserError, match="Line 2"):
            output.truncate_after(1)
        assert output.path.read_bytes() == content
        output.close()

    def test_keeps_one_value_a_step(self, tmp_path):
        lines = logging.JSONLines(tmp_path)
        lines.write(10, {"a": 1.0})
        lines.write(20, {"a": 2.0, "b": 2.0})
        lines.write(20, {"c": 2.5})
        lines.close()
        lines = logging.JSONLines(tmp_path)
        lines.truncate_after(20)
        lines.write(20, {"b": 3.0, "c": 3.0})
        lines.write(20, {"c": 4.0, "d": 4.0})
        lines.write(30, {"b": 5.0})
        lines.close()
        rows = [json.loads(line) for line in lines.path.read_text().splitlines()]
        assert rows == [
            {"step": 10, "a": 1.0},
            {"step": 20, "a": 2.0, "b": 2.0},
            {"step": 20, "c": 2.5},
            {"step": 20, "d": 4.0},
            {"step": 30, "b": 5.0},
        ]

    def test_survives_being_killed_at_any_point(self, tmp_path):
        script = (
            "import os, sys\n"
            "from dreamerv2.common.logger import JSONLines\n"
            "output = JSONLines(sys.argv[1])\n"
            "output.write(1, {'a': 1.0})\n"
            "os.kill(os.getpid(), 9)\n"
        )
        subprocess.run([sys.executable, "-c", script, str(tmp_path)], env=python_path())
        assert lines(tmp_path / "metrics.jsonl") == [{"step": 1, "a": 1.0}]


def python_path():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_tensorflow_is_not_imported_before_tensorboard_writes(tmp_path):
    script = (
        "import sys\n"
        "from dreamerv2.common.logger import *\n"
        "log = Logger([JSONLines(sys.argv[1]), Terminal()], lambda: 1)\n"
        "TensorBoard(sys.argv[1])\n"
        "log.scalar('a', 1)\n"
        "log.write()\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], env=python_path(), check=True, timeout=60
    )


class TestTensorBoard:
    def test_numbers_are_not_kept(self, tmp_path):
        pytest.importorskip("tensorflow")
        output = logging.TensorBoard(tmp_path)
        step, value = int("123456789"), float("0.123456789")
        before = sys.getrefcount(step), sys.getrefcount(value)
        image = np.zeros((6, 5, 3), np.uint8)
        output.write(step, {"loss": value}, {"picture": image}, {"film": image[None]})
        output.close()
        assert (sys.getrefcount(step), sys.getrefcount(value)) == before

    def test_writes_scalars_images_and_animated_videos(self, tmp_path):
        tf = pytest.importorskip("tensorflow")
        from PIL import Image

        rng = np.random.default_rng(0)
        image = rng.integers(0, 256, (6, 5, 3), np.uint8)
        frames = rng.integers(0, 256, (7, 6, 5, 1), np.uint8)
        output = logging.TensorBoard(tmp_path, fps=10)
        assert not list(tmp_path.iterdir())
        output.write(3, {"loss": 0.5, "bad": math.nan}, {"picture": image}, {"film": frames})
        output.write(4, {"loss": 0.25}, {}, {})
        output.close()
        output.close()
        (path,) = tmp_path.iterdir()
        values = {}
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                values[event.step, value.tag] = value
        assert set(values) == {
            (3, "scalars/loss"), (3, "scalars/bad"), (3, "images/picture"), (3, "videos/film"),
            (4, "scalars/loss"),
        }  # fmt: skip
        assert float(tf.make_ndarray(values[4, "scalars/loss"].tensor)) == 0.25
        width, height, png = values[3, "images/picture"].tensor.string_val
        assert (int(width), int(height)) == (5, 6)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png))), image)
        film = values[3, "videos/film"].image
        assert (film.height, film.width, film.colorspace) == (6, 5, 1)
        with Image.open(io.BytesIO(film.encoded_image_string)) as gif:
            assert (gif.format, gif.n_frames, gif.size) == ("GIF", 7, (5, 6))
            assert gif.info["duration"] == 100
