"""Which folders a run may begin in, and with which settings it may go on."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest

from dreamerv2.common import flags
from dreamerv2.common.config import Config
from dreamerv2.common.envs.spaces import ActSpec, ObsSpec
from dreamerv2.common.errors import UserError
from dreamerv2.logdir import CONFIGS, Logdir, check_logdir, derive_seed, load_config
from dreamerv2.spaces_file import save_spaces

SPACES = (
    {"image": ObsSpec((64, 64, 1), np.dtype("uint8")), "log_x": ObsSpec((), np.dtype("float32"))},
    ActSpec("discrete", (4,)),
)


def make(path: pathlib.Path, **changes: object) -> Config:
    sizes = {"rssm.deter": 6, r".*\.layers": 1}
    return flags.build(CONFIGS).update({**sizes, "logdir": str(path), **changes})


def leave_run(path: pathlib.Path, weights: bool = True, **changes: object) -> None:
    (path / "checkpoint").mkdir(parents=True)
    make(path, **changes).save(path / "config.yaml")
    save_spaces(path, *SPACES)
    if weights:
        (path / "checkpoint" / "ckpt-1.index").write_text("")


def content(path: pathlib.Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_seeds_of_different_purposes_differ() -> None:
    seeds = [derive_seed(0), derive_seed(1), derive_seed(0, 1), derive_seed(0, 1, 2)]
    assert len(set(seeds)) == 4
    assert derive_seed(3, 1) == derive_seed(3, 1)


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["lock"],
        ["lock", "replay/0.bin", "metrics.jsonl", ".config.yaml.7.tmp"],
        ["train.log"],
        ["metrics.jsonl.tmp"],
    ],
)
def test_begins_where_nothing_of_others_is(tmp_path: pathlib.Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    with Logdir(make(tmp_path), SPACES) as logdir:
        assert logdir.notice is None
    assert not (tmp_path / "missing").exists()
    assert check_logdir(make(tmp_path / "missing")) is None


def test_refuses_a_folder_of_something_else(tmp_path: pathlib.Path) -> None:
    for name in ("thesis.tex", "data", "src", "notes.md"):
        (tmp_path / name).write_text("mine")
    before = content(tmp_path)
    with pytest.raises(UserError, match=r"neither empty .*\(there is data, notes.md, src, \.\.\."):
        Logdir(make(tmp_path))
    assert content(tmp_path) == before


@pytest.mark.parametrize("text", ["model: resnet\n", "- 1\n", "a: [\n", "steps: many\n"])
def test_refuses_the_configuration_of_another_program(tmp_path: pathlib.Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    before = content(tmp_path)
    with pytest.raises(UserError, match="holds no run of this program: ") as caught:
        Logdir(make(tmp_path))
    assert "\n" not in str(caught.value)
    assert content(tmp_path) == before


def test_goes_on_with_the_same_settings_and_states_harmless_changes(
    tmp_path: pathlib.Path,
) -> None:
    leave_run(tmp_path, steps=100)
    assert check_logdir(make(tmp_path, steps=100), SPACES) is None
    changes = {"steps": 2e5, "eval_every": 7, "model_opt.lr": 1e-3, "dataset.batch": 3}
    with Logdir(make(tmp_path, **changes), SPACES) as logdir:
        assert logdir.notice is not None and "\n" not in logdir.notice
        for text in ("steps: 100 -> 2e5", "eval_every: 1e5 -> 7", "model_opt.lr: 1e-4 -> 1e-3"):
            assert text in logdir.notice
        assert logdir.notice.count("->") == 4


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("task", "dummy_count", "task: dummy_catch -> dummy_count"),
        ("action_repeat", 2, "action_repeat: 1 -> 2"),
        ("render_size", (96, 96), "render_size: [64, 64] -> [96, 96]"),
        ("rssm.deter", 20, "rssm.deter: 6 -> 20"),
        ("encoder.act", "relu", "encoder.act: elu -> relu"),
        ("critic.layers", 3, "critic.layers: 1 -> 3"),
        ("pred_discount", False, "pred_discount: True -> False"),
        ("actor_opt.opt", "sgd", "actor_opt.opt: adam -> sgd"),
        ("expl_behavior", "Plan2Explore", "expl_behavior: greedy -> Plan2Explore"),
    ],
)
def test_lists_what_a_run_cannot_go_on_with(
    tmp_path: pathlib.Path, key: str, value: object, text: str
) -> None:
    leave_run(tmp_path)
    before = content(tmp_path)
    config = make(tmp_path, **{key: value, "steps": 3})  # type: ignore[arg-type]
    with pytest.raises(UserError) as caught:
        Logdir(config, SPACES)
    assert text in str(caught.value) and "steps" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert content(tmp_path) == before


def test_a_long_list_is_cut(tmp_path: pathlib.Path) -> None:
    leave_run(tmp_path)
    config = make(tmp_path).update({r".*\.units": 9, r".*\.layers": 2, r".*\.act": "relu"})
    with pytest.raises(UserError, match=r", and \d+ more; use those of the run"):
        check_logdir(config)


def test_networks_may_change_as_long_as_there_are_no_weights(tmp_path: pathlib.Path) -> None:
    leave_run(tmp_path, weights=False)
    assert "rssm.deter" in str(check_logdir(make(tmp_path, **{"rssm.deter": 20}), SPACES))
    with pytest.raises(UserError, match="task: "):
        check_logdir(make(tmp_path, task="dummy_count"))


def test_exploration_may_change_as_long_as_it_has_no_networks(tmp_path: pathlib.Path) -> None:
    leave_run(tmp_path)
    changes = {"expl_behavior": "Random", "disag_models": 3}
    assert "disag_models: 10 -> 3" in str(check_logdir(make(tmp_path, **changes), SPACES))
    leave_run(tmp_path / "other", expl_behavior="Plan2Explore")
    with pytest.raises(UserError, match="expl_behavior: Plan2Explore -> Random, disag_models"):
        check_logdir(make(tmp_path / "other", **changes))


def test_other_spaces_are_listed(tmp_path: pathlib.Path) -> None:
    leave_run(tmp_path)
    color = {"image": ObsSpec((64, 64, 3), np.dtype("uint8"))}
    with pytest.raises(UserError) as caught:
        check_logdir(make(tmp_path), (color, ActSpec("continuous", (2,))))
    assert "observation image: uint8 (64, 64, 1) -> uint8 (64, 64, 3)" in str(caught.value)
    assert "action space: discrete 4 -> continuous 2" in str(caught.value)
    vector = {**SPACES[0], "vector": ObsSpec((2,), np.dtype("float32"))}
    with pytest.raises(UserError, match=r"observation vector: nothing -> float32 \(2,\);"):
        check_logdir(make(tmp_path), (vector, SPACES[1]))


def test_one_process_at_a_time(tmp_path: pathlib.Path) -> None:
    with Logdir(make(tmp_path)), pytest.raises(UserError, match=r"in use by process \d+ on"):
        Logdir(make(tmp_path))
    Logdir(make(tmp_path)).__exit__(None, None, None)


def test_load_config_says_what_is_wrong(tmp_path: pathlib.Path) -> None:
    leave_run(tmp_path / "task" / "1", steps=7)
    assert load_config(tmp_path / "task" / "1").steps == 7
    with pytest.raises(UserError, match="is no folder"):
        load_config(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"did you mean 'task/1' in it\?"):
        load_config(tmp_path)
    with pytest.raises(UserError, match="name the logdir of a run"):
        load_config(tmp_path / "task" / "1" / "checkpoint")
