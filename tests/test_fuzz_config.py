"""Whatever stands in flags and configuration files: a configuration, or one sentence."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import CONFIGS, VECTOR, config

from dreamerv2 import cli, limits, logdir, train
from dreamerv2.common import flags
from dreamerv2.common.config import Config
from dreamerv2.common.envs.spaces import ActSpec
from dreamerv2.common.errors import UserError
from dreamerv2.common.yaml_text import parse_yaml

DOCUMENT = flags.Document.read(CONFIGS)
KEYS = list(DOCUMENT.defaults.flat)
QUICK = settings(max_examples=60, derandomize=True, deadline=None, database=None,
                 suppress_health_check=list(HealthCheck))  # fmt: skip

scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from([10**18, -(10**18), 10**400, 1e308, "1e18", "9" * 5000, "inf", "nan", "[", "",
                       "linear(1,0,0)", "((((", "a" * 20000, b"bytes"])
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
keys = st.sampled_from(
    [*KEYS, "rssm", "replay", ".*", r".*\.units", "(", "a.b", "", "."]
) | st.text(max_size=12)


def sentence(error: UserError) -> None:
    assert "\n" not in str(error).strip() or len(str(error)) < 2000
    assert len(str(error)) < 3000


@QUICK
@given(st.dictionaries(keys, values, max_size=3))
def test_updates(changes: dict[str, Any]) -> None:
    try:
        changed = DOCUMENT.defaults.update(changes)
    except UserError as error:
        sentence(error)
    else:
        assert list(changed.flat) == KEYS
        for key, value in changed.flat.items():
            assert type(value) in (bool, int, float, str, tuple), key


@QUICK
@given(st.sampled_from(KEYS), st.sampled_from(["1e18", "-1", "1e999", "99999999999999999999", "x"]))
def test_values_of_flags_are_right_or_refused(key: str, text: str) -> None:
    try:
        value = flags.build(DOCUMENT, [], [(key, text)])[key]
    except UserError as error:
        assert key in str(error)
        sentence(error)
    else:
        assert str(value)


words = st.sampled_from(
    ["--configs", "--task", "--", "---", "--=", "--x=", "-h5", "-1", "[", "[1,2]", "small", "atari",
     "--rssm.deter", "--rssm", "--.*", "--(", "--configs=debug,small", "--steps=1e9", "\0", "🎮"]
) | st.text(max_size=8)  # fmt: skip


@QUICK
@given(st.lists(words, max_size=6))
def test_arguments(argv: list[str]) -> None:
    argv = [word for word in argv if word not in ("-h", "--help")]
    try:
        flags.parse(DOCUMENT, argv, program="p")
    except UserError as error:
        sentence(error)


@pytest.mark.parametrize("program", ["train", "evaluate", "play", "scores", "plot", "check"])
@settings(parent=QUICK, max_examples=12)
@given(st.lists(words, min_size=1, max_size=4))
def test_command_lines_end_with_status_2(program: str, argv: list[str]) -> None:
    # Something that no program knows comes first, lest one really begins its work.
    assert (
        cli.main([program, "--nonsense-flag", *[w for w in argv if w not in ("-h", "--help")]]) == 2
    )


pieces = st.sampled_from(
    ["task: atari_pong\n", "steps: 1e6\n", "rssm:\n", "  deter: 5\n", "&a ", "*a", "<<: *a\n",
     "!!python/object/apply:os.system ['true']\n", "!!python/name:os.system\n", "!!int x\n",
     "!!timestamp 2001-99-99\n", "!!binary x\n", "!!set {a, b}\n", "!!float a\n", "? [a]\n: b\n",
     "[" * 3000, "{" * 50, "a: &x [*x]\n", "b: &y {c: *y}\n", "- 1\n", "\t", "%YAML 9.9\n", "---\n",
     "seed: " + "9" * 5000 + "\n", "'", '"', "|\n", "task: " + "x" * 20000 + "\n", "\x00", "1: 2\n"]
) | st.text(max_size=10)  # fmt: skip


@settings(parent=QUICK, max_examples=60)
@given(st.lists(pieces, max_size=6))
def test_stored_configurations(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    folder = tmp_path_factory.mktemp("run")
    text = "".join(lines).encode("utf-8", "surrogatepass")
    (folder / "config.yaml").write_bytes(text)
    for load in (
        lambda: Config.load(folder / "config.yaml"),
        lambda: Config.load(folder / "config.yaml", like=DOCUMENT.defaults),
        lambda: logdir.check_logdir(DOCUMENT.defaults.update({"logdir": str(folder)})),
        lambda: flags.Document.read(folder / "config.yaml"),
        lambda: parse_yaml(text.decode("utf-8", "replace"), "rt", "it"),
    ):
        try:
            load()
        except UserError as error:
            sentence(error)


def bomb(kind: str, levels: int = 12) -> str:
    open_, close = ("[", "]") if kind == "list" else ("{", "}")
    lines = [f"a0: &a0 {open_}{'x' if kind == 'list' else 'k: x'}{close}"]
    for n in range(1, levels):
        items = [f"*a{n - 1}" if kind == "list" else f"k{i}: *a{n - 1}" for i in range(10)]
        lines.append(f"a{n}: &a{n} {open_}{', '.join(items)}{close}")
    return "\n".join(lines) + f"\nlog_keys_video: *a{levels - 1}\njit: *a{levels - 1}\n"


@pytest.mark.parametrize("kind", ["list", "mapping"])
@pytest.mark.parametrize("key", ["log_keys_video", "jit", "seed", "logdir", "model_opt.lr"])
def test_a_few_lines_do_not_become_terabytes(kind: str, key: str) -> None:
    tree = parse_yaml(bomb(kind), "safe", "bomb")
    with pytest.raises(UserError) as error:
        DOCUMENT.defaults.update({key: tree["jit"]})
    sentence(error.value)
    assert key in str(error.value)


def test_patterns_in_stored_files_are_not_tried(tmp_path: pathlib.Path) -> None:
    (tmp_path / "config.yaml").write_text("'(.*)*(.*)*(.*)*(.*)*x': 1\n")
    with pytest.raises(UserError, match="unknown key"):
        logdir.load_config(tmp_path)


@pytest.mark.parametrize(
    "key", [key for key in KEYS if re.search(r"\.(units|deter|hidden|stoch|discrete|layers|batch|"
            r"length|cnn_depth|mlp_layers|cnn_kernels|ensemble)$|^(envs|imag_horizon|render_size|"
            r"disag_models|save_keep|action_repeat|seed)$", key)]
)  # fmt: skip
def test_sizes_that_fill_any_memory_are_refused(key: str) -> None:
    with pytest.raises(UserError, match=f"{key} must be"):
        DOCUMENT.defaults.update({key: [10**18] * 2 if "size" in key else 10**18})


@pytest.mark.parametrize(
    "changes, part",
    [
        ({"rssm.deter": 65536}, "networks of rssm"),
        ({r".*\.units": 65536, r".*\.layers": 4}, "networks of"),
        ({"encoder.mlp_layers": [65536, 65536]}, "networks of encoder"),
        ({"dataset.batch": 65536, "dataset.length": 65536}, "dataset.batch"),
        ({"imag_horizon": 10000, "dataset.batch": 60000}, "imag_horizon"),
    ],
)
def test_networks_and_batches_that_do_not_fit_are_refused(
    changes: dict[str, Any], part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits.os, "sysconf", {"SC_PHYS_PAGES": 2**23, "SC_PAGE_SIZE": 4096}.get)
    with pytest.raises(UserError, match=f"GB of memory, but this machine has 34; .*{part}"):
        limits.check_memory(config().update(changes), VECTOR, ActSpec("discrete", (4,)))
    limits.check_memory(config(), VECTOR, ActSpec("discrete", (4,)))


def test_the_estimate_of_weights_is_near_the_truth() -> None:
    from tiny import IMAGE, agent

    for changes in ({}, {"rssm.discrete": False, "encoder.cnn_depth": 8}):
        made = agent(changes, obs={**IMAGE, **VECTOR})
        counted = sum(
            int(v.shape.num_elements())
            for key, v in made.variables().items()
            if key.startswith("weights/")
        )
        estimate = sum(limits.weights(config(changes), {**IMAGE, **VECTOR},
                                      ActSpec("discrete", (4,))).values())  # fmt: skip
        assert 0.75 < estimate / counted < 1.5


def test_a_damaged_run_is_one_sentence(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ["[" * 3000, "a: &x [*x]", "seed: " + "9" * 5000, "\x00", "rssm: {deter: 1e18}"]:
        (tmp_path / "config.yaml").write_text(text)
        assert train.main(["--logdir", str(tmp_path)]) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: logdir ") and err.count("\n") == 1 and len(err) < 1000
