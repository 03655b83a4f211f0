import copy
import pathlib
import pickle
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamerv2.common.config import Config
from dreamerv2.common.errors import UserError
from dreamerv2.common.schema import Schema, show

TREE = {
    "seed": 0,
    "name": "run",
    "lr": 1e-4,
    "on": True,
    "size": [64, 64],
    "tags": ["image"],
    "rssm": {"deter": 200, "act": "elu", "norm": "none", "discrete": 32},
    "head": {"opt": {"lr": 0.1}, "norm": "none"},
    "mode": 32,
    "ent": 2e-3,
    "word": ".*",
}
SCHEMA = Schema(
    rules={
        "seed": {"min": 0},
        r".*lr": {"above": 0, "max": 10},
        "size": {"min": 1, "items": [2, 2]},
        r".*\.norm": {"choices": ["none", "layer"]},
        r"rssm\.discrete": {"type": "int", "min": 2, "also": [False]},
        "mode": {"choices": [32, 16, "half"], "aliases": {"True": "half"}},
        "ent": {"type": "float", "also_text": {r"\w+\(.*\)": "a schedule such as linear(1,0,9)"}},
        "word": {"type": "regex"},
    },
    gone={r"old\..*": "use lr instead"},
)


@pytest.fixture
def config():
    return Config(TREE, SCHEMA)


def exact(value):
    return type(value), value


def test_access(config):
    assert config.rssm.deter == config["rssm"]["deter"] == config["rssm.deter"] == 200
    assert config.head.opt.lr == 0.1
    assert list(config) == list(TREE) and len(config) == len(TREE)
    assert dict(config.rssm) == {"deter": 200, "act": "elu", "norm": "none", "discrete": 32}
    assert "rssm" in config and "rssm.deter" in config and "deter" in config.rssm
    assert "rssm.de" not in config and "deter" not in config and 3 not in config
    assert config.get("nothing", 7) == 7
    assert "rssm" in dir(config) and "update" in dir(config)
    assert config.size == (64, 64)


def test_missing_names_are_explained(config):
    with pytest.raises(AttributeError, match=r"rssm\.deter"):
        _ = config.rssm.detr
    with pytest.raises(KeyError, match=r"rssm\.deter"):
        _ = config["rssm.detr"]
    with pytest.raises(KeyError):
        _ = config["seed.more"]
    assert not hasattr(config, "__array__")


def test_immutable(config):
    with pytest.raises(AttributeError, match="update"):
        config.seed = 1
    with pytest.raises(AttributeError):
        del config.seed
    with pytest.raises(TypeError):
        config["seed"] = 1
    config.flat["seed"] = 1
    config.to_dict()["rssm"]["deter"] = 1
    changed = config.update({"seed": 1})
    assert config.seed == 0 and config.rssm.deter == 200 and changed.seed == 1


def test_flat_and_to_dict(config):
    assert config.flat["head.opt.lr"] == 0.1
    assert list(config.flat)[6:9] == ["rssm.deter", "rssm.act", "rssm.norm"]
    assert config.to_dict() == TREE
    assert config.rssm.flat == dict(config.rssm)
    assert Config(config.flat, SCHEMA) == config


def test_equality_hash_and_text(config):
    same = Config(TREE)
    assert config == same and hash(config) == hash(same) and repr(config) == repr(same)
    other = config.update({"rssm.deter": 201})
    assert config != other and config.head == other.head and config != TREE
    assert len({config, same, other}) == 2
    assert eval(repr(config)) == config
    assert "rssm.deter     200" in str(config).splitlines()


def test_copies_and_pickles_keep_types(config):
    for clone in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert clone == config
        assert clone.update({"ent": "linear(1,0,9)"}).ent == "linear(1,0,9)"
        with pytest.raises(UserError):
            clone.update({"seed": -1})


def test_update_nested_flat_and_regex_in_order(config):
    new = config.update(
        {
            "rssm": {"deter": 1, "act": "relu"},
            "head.opt.lr": 3,
            r".*\.norm": "layer",
            "head": {"norm": "none"},
        }
    )
    assert (new.rssm.deter, new.rssm.act, new.rssm.norm) == (1, "relu", "layer")
    assert exact(new.head.opt.lr) == (float, 3.0)
    assert new.head.norm == "none"  # Later than the pattern, so it wins.
    pairs = [("head.norm", "none"), (r".*\.norm", "layer")]
    assert config.update(pairs).head.norm == "layer"
    assert config.update(pairs[::-1]).head.norm == "none"
    assert config.update({r"(rssm|.*opt)": {"lr|deter": 5}}) == config.update(
        {"rssm.deter": 5, "head.opt.lr": 5}
    )


def test_update_of_a_section_names_whole_keys(config):
    assert config.rssm.update({"deter": "7"}).deter == 7
    with pytest.raises(UserError, match=r"rssm\.discrete must be an integer >= 2 or False, not 1"):
        config.rssm.update({"discrete": 1})
    with pytest.raises(UserError, match=r"'rssm\.detr'.*rssm\.deter"):
        config.rssm.update({"detr": 1})


def test_pattern_must_match_the_whole_key_and_plain_names_are_no_patterns(config):
    with pytest.raises(UserError, match="unknown key"):
        config.update({"(deter)": 1})
    with pytest.raises(UserError, match="unknown key"):
        config.update({"rssm.d.ter": 1})
    with pytest.raises(UserError, match="neither a key nor a regular expression"):
        config.update({"*.norm": "layer"})


@pytest.mark.parametrize(
    "key, value, result",
    [
        ("seed", 1e6, 1000000),
        ("seed", "1e6", 1000000),
        ("seed", "12", 12),
        ("seed", 3.0, 3),
        ("seed", np.int64(4), 4),
        ("seed", "9007199254740993", 9007199254740993),
        ("lr", 1, 1.0),
        ("lr", "1e-4", 1e-4),
        ("lr", "2", 2.0),
        ("lr", np.float32(0.5), 0.5),
        ("on", "true", True),
        ("on", "False", False),
        ("on", False, False),
        ("on", "TRUE", True),
        ("name", "x y", "x y"),
        ("name", "3", "3"),
        ("name", pathlib.PurePosixPath("a/b"), "a/b"),
        ("size", [32, "16"], (32, 16)),
        ("size", "32,16", (32, 16)),
        ("size", "[32, 16]", (32, 16)),
        ("size", (1e2, 2.0), (100, 2)),
        ("tags", [], ()),
        ("tags", "[]", ()),
        ("tags", "a,b", ("a", "b")),
        ("tags", "a", ("a",)),
        ("rssm.discrete", False, False),
        ("rssm.discrete", "False", False),
        ("rssm.discrete", "8", 8),
        ("rssm.norm", "layer", "layer"),
        ("mode", "16", 16),
        ("mode", 16.0, 16),
        ("mode", "half", "half"),
        ("mode", True, "half"),
        ("ent", "0.5", 0.5),
        ("ent", 1, 1.0),
        ("ent", "linear(1e-3,1e-4,5e5)", "linear(1e-3,1e-4,5e5)"),
        ("word", "a|b", "a|b"),
    ],
)
def test_values_take_the_type_of_the_key(config, key, value, result):
    new = config.update({key: value})
    assert exact(new[key]) == exact(result)
    if isinstance(result, tuple):
        assert [exact(item) for item in new[key]] == [exact(item) for item in result]
    default = config[key]
    assert exact(new.update({key: default})[key]) == exact(default)  # And back again.


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("seed", 1.5, "an integer >= 0, not 1.5; for example 0"),
        ("seed", "x", "an integer"),
        ("seed", True, "integer"),
        ("seed", None, "not None"),
        ("seed", -1, ">= 0"),
        ("seed", [1], "integer"),
        ("seed", "1e400", "integer"),
        ("seed", float("nan"), "integer"),
        ("lr", "fast", "a number > 0 and <= 10, not 'fast'; for example 1e-4"),
        ("lr", 0, "> 0"),
        ("lr", 11, "<= 10"),
        ("lr", False, "number"),
        ("lr", "inf", "number"),
        ("lr", 10**400, "number"),
        ("on", 1, "True or False"),
        ("on", "yes", "True or False"),
        ("name", 3, "text, not 3"),
        ("name", ["a", "b"], "text"),
        ("size", [64], "a list of 2 integers >= 1, not [64]"),
        ("size", "64,x", "2 integers"),
        ("size", [0, 1], ">= 1"),
        ("size", [1.5, 1], "integers"),
        ("tags", [1], "a list of texts"),
        ("rssm.discrete", True, "or False"),
        ("rssm.discrete", 0, "or False"),
        ("rssm.norm", "batch", "one of none, layer, not 'batch'; for example none"),
        ("mode", 64, "one of 32, 16, half"),
        ("mode", "bf", "one of"),
        ("ent", "fast", "a number or a schedule such as linear(1,0,9), not 'fast'"),
        ("word", "*", "a regular expression"),
    ],
)
def test_wrong_values_name_key_value_and_mend(config, key, value, words):
    with pytest.raises(UserError) as info:
        config.update({key: value})
    message = str(info.value)
    assert message.startswith(f"{key} must be ") and words in message and "for example" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("rssm.detr", 1, "the nearest are rssm.deter"),
        ("deter", 1, "rssm.deter"),
        ("zzzz", 1, "nearest"),
        ("rssm", 3, "rssm is a section; set its values, such as rssm.deter"),
        ("seed", {"a": 1}, "unknown key 'seed.a'"),
        (3, 1, "must be text"),
        ("old.thing", 1, "old.thing is gone: use lr instead"),
    ],
)
def test_wrong_keys_are_explained(config, key, value, words):
    with pytest.raises(UserError) as info:
        config.update({key: value})
    assert words in str(info.value)


@pytest.mark.parametrize(
    "tree",
    [
        {"a": None},
        {"a": object()},
        {"items": 1},
        {"a": {"update": 1}},
        {"_a": 1},
        {"a b": 1},
        {"": 1},
        {1: 2},
        {"a": 1, "a.b": 2},
        {"a.b": 2, "a": 1},
        {"a": [[1]]},
    ],
)
def test_defaults_that_make_no_configuration(tree):
    with pytest.raises(UserError):
        Config(tree)


def test_rules_are_checked():
    for rules in ({"a": {"mni": 1}}, {"a": 3}, {"a": {"type": "complex"}}, {"(": {"min": 1}}):
        with pytest.raises(UserError):
            Config({"a": 1}, Schema(rules))
    with pytest.raises(UserError, match="a must be an integer >= 2"):
        Config({"a": 1}, Schema({"a": {"min": 2}}))
    both = Schema({".*": {"min": 5}, "a": {"max": 5}})
    assert Config({"a": 1}, both).a == 1  # The last rule that matches counts.


def test_empty_list_remembers_its_declared_type():
    config = Config({"layers": [], "names": []}, Schema({"layers": {"type": "int"}}))
    new = config.update({"layers": "400, 400", "names": "a"})
    assert new.layers == (400, 400) and new.names == ("a",)
    again = Config({"layers": [1]}).update({"layers": []}).update({"layers": ["2"]})
    assert again.layers == (2,)


def test_save_and_load(config, tmp_path):
    path = tmp_path / "config.yaml"
    changed = config.update({"rssm.discrete": False, "ent": "linear(1,0,9)", "name": "True"})
    config.save(path)
    changed.save(path)
    assert [item.name for item in tmp_path.iterdir()] == ["config.yaml"]
    assert Config.load(path) == changed
    loaded = Config.load(path, like=config)
    assert loaded == changed and loaded.update({"rssm.discrete": 4}).rssm.discrete == 4
    path.write_text("seed: 5\n")
    assert Config.load(str(path), like=config) == config.update({"seed": 5})


def test_failed_save_keeps_the_old_file(config, tmp_path, monkeypatch):
    path = tmp_path / "config.yaml"
    config.save(path)

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        config.update({"seed": 9}).save(path)
    assert [item.name for item in tmp_path.iterdir()] == ["config.yaml"]
    assert Config.load(path, like=config) == config


@pytest.mark.parametrize(
    "text, words",
    [
        ("a: [1", "not valid YAML at line"),
        ("- 1", "a mapping"),
        ("", "a mapping"),
        ("a: 1\na: 2", "not valid YAML"),
        ("sed: 1", "unknown key 'sed'"),
        (b"\xff\xfe\xff", "read"),
    ],
)
def test_load_refuses_bad_files(config, tmp_path, text, words):
    path = tmp_path / "bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=words) as info:
        Config.load(path, like=config)
    assert "bad.yaml" in str(info.value)
    with pytest.raises(UserError, match="read"):
        Config.load(tmp_path / "missing.yaml")


def test_show_writes_what_people_write():
    values = [1e8, 2000000, 10000, 1e-4, 8e-5, 0.1, 0.0, 100.0, True, "", (64, 64), 123456]
    assert [show(value) for value in values] == [
        "1e8",
        "2e6",
        "10000",
        "1e-4",
        "8e-5",
        "0.1",
        "0.0",
        "100.0",
        "True",
        "''",
        "[64, 64]",
        "123456",
    ]
    assert show("a", quote=True) == "'a'"


finite = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
leaves = st.one_of(
    st.booleans(),
    st.integers(),
    finite,
    texts,
    st.lists(st.integers(), max_size=3),
    st.lists(finite, max_size=3),
    st.lists(texts, max_size=3),
)
# Mappings have methods whose names are refused, `keys` among them.
names = st.text(string.ascii_lowercase, min_size=1, max_size=3).map(lambda text: "k_" + text)
trees = st.dictionaries(
    names, leaves | st.dictionaries(names, leaves, min_size=1, max_size=3), min_size=1, max_size=5
)


@given(trees)
def test_any_tree_survives_flat_pickle_update_and_repr(tree):
    config = Config(tree)
    assert config.to_dict() == tree
    assert Config(config.flat) == config
    assert config.update(tree) == config.update(config.flat) == config
    assert pickle.loads(pickle.dumps(config)) == config
    assert eval(repr(config)) == config and hash(config) == hash(Config(tree))


@given(tree=trees)
def test_any_tree_survives_a_file_with_its_types(tmp_path_factory, tree):
    path = tmp_path_factory.getbasetemp() / "round_trip.yaml"
    config = Config(tree)
    config.save(path)
    loaded = Config.load(path, like=config)
    assert {key: exact(value) for key, value in loaded.flat.items()} == {
        key: exact(value) for key, value in config.flat.items()
    }


@given(finite)
def test_show_loses_nothing(value):
    assert float(show(value)) == value


@given(st.lists(st.integers(0, 10**9), min_size=2, max_size=2))
def test_lists_as_text_are_the_same_as_lists(numbers):
    config = Config({"size": [1, 1]})
    text = ",".join(map(str, numbers))
    assert config.update({"size": text}) == config.update({"size": numbers})
    assert config.update({"size": show(numbers)}).size == tuple(numbers)
