import pathlib
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dreamerv2
from dreamerv2.common import flags
from dreamerv2.common.errors import UserError

CONFIGS = pathlib.Path(dreamerv2.__file__).parent / "configs.yaml"
TEXT = r"""
# Not about anything in particular.

defaults:

  # Run
  steps: 1e6         # Length of the run.
  name: a            # Has 'a # inside'.
  on: False          # A switch.
  size: [64, 64]     # Two numbers.
  # Network
  net:
    units: 400       # Units.
    norm: none       # Which norm.
  opt: {lr: 1e-4}

# Runs within
# seconds.
debug:
  steps: 100
  net.units: 16
  '.*\.norm': layer

wide:
  net: {units: 1000, norm: none}
wrong:
  net: {untis: 1}
rules:
  steps: {type: int, min: 0}
  .*\.norm: {choices: [none, layer]}
gone:
  width: use net.units instead
"""


@pytest.fixture(scope="module")
def document():
    return flags.Document.from_text(TEXT)


@pytest.fixture(scope="module")
def ours():
    return flags.Document.read(CONFIGS)


def parse(document, line):
    return flags.parse(document, line.split(), program="prog")


def test_document_holds_defaults_overlays_and_comments(document):
    assert document.defaults.steps == 1000000 and isinstance(document.defaults.steps, int)
    assert list(document.overlays) == ["debug", "wide", "wrong"]
    assert document.about == {"debug": "Runs within seconds.", "wide": "", "wrong": ""}
    assert document.help == {
        "steps": "Length of the run.",
        "name": "Has 'a # inside'.",
        "on": "A switch.",
        "size": "Two numbers.",
        "net.units": "Units.",
        "net.norm": "Which norm.",
    }
    assert document.headings == {"steps": "Run", "net.units": "Network"}
    assert all(
        type(value) in (bool, int, float, str, tuple) for value in document.defaults.flat.values()
    )


def test_build_applies_names_then_overrides_in_order(document, tmp_path):
    build = flags.build
    assert build(document) == document.defaults
    assert build(document, ["debug"]).net.to_dict() == {"units": 16, "norm": "layer"}
    assert build(document, ["debug", "wide"]).net.to_dict() == {"units": 1000, "norm": "none"}
    assert build(document, ["wide", "debug"]).net.to_dict() == {"units": 16, "norm": "layer"}
    assert build(document, ["debug", "defaults"]) == document.defaults
    assert build(document, ["debug"], {"net": {"units": 3}}).net.units == 3
    path = tmp_path / "configs.yaml"
    path.write_text(TEXT)
    assert build(path, ["debug"]) == build(str(path), ["debug"]) == build(document, ["debug"])


@pytest.mark.parametrize(
    "line, changes",
    [
        ("", {}),
        ("--steps 5", {"steps": 5}),
        ("--steps=5", {"steps": 5}),
        ("--steps 1e3", {"steps": 1000}),
        ("--steps 5 --steps 6", {"steps": 6}),
        ("--on True", {"on": True}),
        ("--on=true", {"on": True}),
        ("--size 32 16", {"size": [32, 16]}),
        ("--size 32,16", {"size": [32, 16]}),
        ("--size=32,16", {"size": [32, 16]}),
        ("--size [32, 16]", {"size": [32, 16]}),
        ("--size 32, 16", {"size": [32, 16]}),
        ("--size 7", {"size": [7]}),
        ("--size []", {"size": []}),
        ("--name=--odd", {"name": "--odd"}),
        ("--name=a=b", {"name": "a=b"}),
        ("--name -5", {"name": "-5"}),
        ("--opt.lr -.5", {"opt.lr": -0.5}),
        (r"--.*\.norm layer", {"net.norm": "layer"}),
        (r"--.*\.norm=layer", {"net.norm": "layer"}),
        (r"--net.norm none --.*\.norm layer", {"net.norm": "layer"}),
        (r"--.*\.norm layer --net.norm none", {"net.norm": "none"}),
        ("--configs debug", {"steps": 100, "net.units": 16, "net.norm": "layer"}),
        (
            "--steps 7 --configs debug wide --net.norm layer",
            {"steps": 7, "net.units": 1000, "net.norm": "layer"},
        ),
        ("--configs debug --configs wide --steps 7", {"steps": 7, "net.units": 1000}),
        ("--configs=debug,wide --steps 7", {"steps": 7, "net.units": 1000}),
        ("--configs defaults debug --steps 7", {"steps": 7, "net.units": 16, "net.norm": "layer"}),
    ],
)
def test_command_lines(document, line, changes):
    assert parse(document, line) == document.defaults.update(changes)


@pytest.mark.parametrize(
    "line, words",
    [
        ("--steps", "the flag --steps needs a value"),
        ("--steps --on True", "--steps needs a value"),
        ("--configs", "--configs needs a value"),
        ("--steps=", "--steps has an empty value"),
        ("5", "'5' belongs to no flag"),
        ("--steps=5 6", "'6' belongs to no flag"),
        ("-s 5", "'-s' is no flag"),
        ("--", "names no key"),
        ("--=3", "names no key"),
        ("--step 5", "unknown key 'step'; the nearest are steps"),
        ("--steps x", "steps must be an integer >= 0, not 'x'"),
        ("--steps 5 6", "steps must be an integer >= 0, not ['5', '6']"),
        ("--on 1", "on must be True or False, not '1'"),
        ("--net 5", "net is a section"),
        ("--help=5", "unknown key 'help'"),
        ("--configs debgu", "unknown configuration 'debgu'; the nearest of debug, wide, wrong is"),
        ("--configs wrong", "in the configuration 'wrong', unknown key 'net.untis'"),
        ("--width 5", "width is gone: use net.units instead"),
    ],
)
def test_wrong_command_lines_are_explained(document, line, words):
    with pytest.raises(UserError) as info:
        parse(document, line)
    assert words in str(info.value) and "\n" not in str(info.value)


def test_empty_values_and_arguments_of_the_process(document, monkeypatch):
    with pytest.raises(UserError, match="empty value"):
        flags.parse(document, ["--name", " "], program="prog")
    monkeypatch.setattr(sys, "argv", ["prog", "--steps", "9"])
    assert flags.parse(document, program="prog").steps == 9


def test_documents_without_named_configurations():
    document = flags.Document.from_text("defaults:\n  a: 1  # A number.\n")
    assert parse(document, "--a 2").a == 2
    with pytest.raises(UserError, match="there are none besides defaults"):
        parse(document, "--configs x")
    text = flags.usage(document, program="prog", width=80)
    assert "configs" not in text and "Named" not in text and "  a  1  A number." in text


@pytest.mark.parametrize(
    "text, words",
    [
        ("defaults: {a: [1}", "not valid YAML at line 1"),
        ("a: {b: 1}", "a section 'defaults'"),
        ("defaults:\n  a: 1\n  a: 2\n", "not valid YAML at line 3"),
        ("defaults:\n\ta: 1", "YAML"),
        ("defaults: {a: 1}\nx: 3", "section 'x'"),
        ("defaults: {a: 1}\n2: {a: 1}", "section 2"),
        ("defaults: {a: 1}\nrules: {b: {min: 1}}", "rule 'b', which matches no key"),
        ("defaults: {a: 1}\nrules: {a: {min: 2}}", "a must be an integer >= 2, not 1"),
        ("defaults: {configs: 1}", "'configs', which is a flag"),
        ("3", "a mapping"),
        ("defaults: {a: }", "a is None"),
        ("&a [*b]", "YAML"),
        ("a: !x {}\n--- 1", "YAML"),
    ],
)
def test_malformed_documents_are_explained(tmp_path, text, words):
    path = tmp_path / "configs.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(words)) as info:
        flags.build(path)
    assert "\n" not in str(info.value)


def test_help_exits_and_prints_everything(ours, capsys):
    for argv in (["--help"], ["-h"], ["--configs", "no", "--help", "--seed", "x"]):
        with pytest.raises(SystemExit) as info:
            flags.parse(ours, argv, program="prog", about="What it does.", example="--steps 3")
        assert info.value.code == 0
        text = capsys.readouterr().out
        assert text.startswith("usage: prog [--configs NAME ...] [--KEY VALUE ...]\n")
        assert "What it does." in text and "example: prog --steps 3" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_help_lists_every_key_within_the_width(ours, width):
    text = flags.usage(ours, program="prog", width=width)
    lines = text.splitlines()
    assert max(map(len, lines[2:])) <= width
    flowing = " ".join(text.split())
    rows = {key: [line for line in lines if line.startswith(f"  {key} ")] for key in ours.help}
    for key, help_text in ours.help.items():
        assert len(rows[key]) == 1
        assert help_text in flowing
    for name, about in ours.about.items():
        assert f"{name} {about}" in flowing
    if width >= 80:  # Wide enough for columns: all explanations begin in the same one.
        columns = {
            rows[key][0].index(ours.help[key][:9])
            for key in ("seed", "task", "replay.capacity", "reward_norm.eps")
        }
        assert len(columns) == 1


def test_every_key_of_ours_is_explained(ours):
    assert set(ours.help) == set(ours.defaults.flat)
    assert all(text.endswith(".") for text in [*ours.help.values(), *ours.about.values()])


def test_every_named_configuration_of_ours_builds(ours):
    for name in ours.overlays:
        assert ours.about[name], name
        config = flags.build(ours, [name])
        assert config != ours.defaults
        assert flags.build(ours, [name], config) == config


def test_ours_takes_published_values(ours):
    config = parse(
        ours,
        "--configs defaults atari --jit True --rssm.discrete False --precision 16 "
        "--actor_ent linear(1e-3,1e-4,5e5) --decoder.mlp_layers []",
    )
    assert (config.jit, config.rssm.discrete, config.precision) == ("auto", False, 16)
    assert config.actor_ent == "linear(1e-3,1e-4,5e5)" and config.decoder.mlp_layers == ()
    assert config.steps == 50000000 and config.discount == 0.999 and config.model_opt.lr == 2e-4
    assert parse(ours, "--jit False --precision bfloat16").to_dict()["precision"] == "bfloat16"
    with pytest.raises(UserError, match=r"^replay\.minlen is gone: windows are always"):
        flags.build(ours, overrides={"replay": {"capacity": 2e6, "minlen": 50}})


@pytest.mark.parametrize(
    "line",
    [
        "--dataset.batch 0",
        "--dataset.length 1",
        "--envs 0",
        "--discount 1.1",
        "--model_opt.lr 0",
        "--jit fast",
        "--envs_parallel thread",
        "--precision 64",
        "--clip_rewards log",
        "--seed -1",
        "--replay.sample uniform",
        "--encoder.act elux",
        "--rssm.norm batch",
        "--actor.dist beta",
        "--reward_head.dist twohot",
        "--rssm.std_act relu",
        "--actor_opt.opt rmsprop",
        "--actor_grad none",
        "--actor_ent fast",
        "--actor_grad_mix fast",
        "--rssm.discrete True",
        "--render_size 64",
        "--render_size 0 64",
        "--encoder.mlp_layers 0",
        "--encoder.cnn_keys *",
        "--grad_heads actor",
        "--steps 10.5",
        "--steps -1",
        "--kl.balance 2",
        "--rssm.stoch 0",
    ],
)
def test_ours_refuses_what_would_crash_later(ours, line):
    with pytest.raises(UserError, match=re.escape(line.split()[0][2:])):
        parse(ours, line)


def test_help_of_ours_needs_no_heavy_imports():
    code = (
        "import sys\nfrom dreamerv2.common import clock, config, flags\n"
        f"try: flags.parse({str(CONFIGS)!r}, ['--help'], program='prog')\n"
        "except SystemExit as e: assert e.code == 0\n"
        "heavy = {'tensorflow', 'keras', 'gymnasium', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=CONFIGS.parent.parent,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "imag_horizon" in done.stdout


words = st.text(
    st.characters(codec="ascii", exclude_characters="-=[ ,", categories=["L", "N"]),
    min_size=1,
    max_size=5,
)


@given(st.lists(st.tuples(words, st.lists(words, min_size=1, max_size=3)), max_size=5))
def test_both_ways_to_write_flags_are_the_same(pairs):
    pairs = [(key, values) for key, values in pairs if key not in ("help", "configs")]
    apart = [token for key, values in pairs for token in ("--" + key, *values)]
    joined = [f"--{key}={','.join(values)}" for key, values in pairs]
    expected = [(key, values[0] if len(values) == 1 else values) for key, values in pairs]
    assert flags.split(apart) == ([], expected)
    texts = [(key, ",".join(values)) for key, values in pairs]
    assert flags.split(joined) == ([], texts)
