"""Options and fixtures shared by all tests."""

from __future__ import annotations

import os
import pathlib

import hypothesis
import pytest

# TensorFlow reads these when it is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


# How long an example takes depends on what else the machine does; each test has a time-out.
hypothesis.settings.register_profile("unhurried", deadline=None)
hypothesis.settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--golden",
        default=str(pathlib.Path(__file__).parent / "golden"),
        help="Folder of golden .npz files; every one of them is checked.",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "golden_path" in metafunc.fixturenames:
        paths = sorted(pathlib.Path(metafunc.config.getoption("--golden")).glob("*.npz"))
        assert paths, "the folder given by --golden holds no .npz file"
        metafunc.parametrize("golden_path", paths, ids=[p.stem for p in paths], scope="module")
