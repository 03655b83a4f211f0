from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import tiny

from dreamerv2 import train
from dreamerv2.cluster import Cluster, read_cluster
from dreamerv2.common.errors import UserError
from dreamerv2.logdir import derive_seed

TWO = ["10.0.0.1:2222", "node-2.cluster:2222"]


def read(cluster: Any, kind: Any = "worker", index: Any = 0) -> Cluster:
    text = json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})
    return read_cluster({"TF_CONFIG": text})


@pytest.mark.parametrize("environ", [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": "{}"}])
def test_nothing_is_one_process(environ: dict[str, str]) -> None:
    assert read_cluster(environ) == Cluster()
    assert read({"worker": TWO[:1]}) == Cluster()


def test_workers_in_their_order_and_a_chief_before_them() -> None:
    for index in range(2):
        assert read({"worker": TWO}, index=index) == Cluster(tuple(TWO), index)
    split = {"chief": TWO[:1], "worker": [TWO[1], "[::1]:3"]}
    three = (*TWO, "[::1]:3")
    assert read(split, "chief") == Cluster(three, 0)
    assert [read(split, index=i) for i in range(2)] == [Cluster(three, i) for i in (1, 2)]


def test_one_process_changes_nothing() -> None:
    config, alone = tiny.config({"logdir": "~/run"}), Cluster()
    assert alone.own(config) is config and alone.leads
    assert alone.seed(3, 4) == (3, 4)
    assert alone.share(7) == 7


def test_what_a_worker_has_of_the_whole() -> None:
    config = tiny.config({"logdir": "~/run"})
    first, second = (Cluster(tuple(TWO), index) for index in range(2))
    assert first.own(config).logdir == "~/run"
    assert pathlib.Path(second.own(config).logdir) == pathlib.Path("~/run/workers/1")
    assert first.seed(3) == (3,)
    parts = [(3,), (3, 5), (3, 1), (0,), (1,), (1, 3)]
    seeds = [derive_seed(7, *worker.seed(*p)) for worker in (first, second) for p in parts]
    assert len(set(seeds)) == len(seeds)
    assert first.share(16) == 8 and first.share(7) == 4


REFUSALS = {
    "is no JSON: {'cluster'": "{'cluster': 1}",
    "is no JSON: worker0": "worker0",
    "does not consist of cluster and task: [1]": "[1]",
    "does not consist of cluster and task": {"cluster": [1]},
    "names a job that is no worker: ps": {"cluster": {"worker": TWO, "ps": TWO}},
    "names a job that is no worker: evaluator": {"cluster": {"worker": TWO, "evaluator": TWO}},
    "has no list of addresses": {"cluster": {"worker": TWO[0]}},
    "has an address that is no host:port: host": {"cluster": {"worker": ["host"]}},
    "has an address that is no host:port: h:0": {"cluster": {"worker": ["h:0"]}},
    "has an address that is no host:port: h:70000": {"cluster": {"worker": ["h:70000"]}},
    "has an address that is no host:port: 7": {"cluster": {"worker": [7]}},
    "names an address twice: a:1": {
        "cluster": {"worker": ["a:1", "a:1"]},
        "task": {"type": "worker", "index": 0},
    },
    "has more than one chief": {"cluster": {"chief": TWO}},
    "has a task whose type is not worker: null": {"cluster": {"worker": TWO}},
    "has a task whose type is not worker: evaluator": {
        "cluster": {"worker": TWO},
        "task": {"type": "evaluator", "index": 0},
    },
    "has a task whose type is not in its cluster: chief": {
        "cluster": {"worker": TWO},
        "task": {"type": "chief", "index": 0},
    },
    **{
        f"has a task whose index is none of its cluster: {json.dumps(index)}; number": {
            "cluster": {"worker": TWO},
            "task": {"type": "worker", **({} if index is None else {"index": index})},
        }
        for index in (None, 2, -1, "0", True, 0.0)
    },
}


@pytest.mark.parametrize(("words", "value"), REFUSALS.items(), ids=list(REFUSALS))
def test_refuses_in_one_sentence(words: str, value: Any) -> None:
    text = value if isinstance(value, str) else json.dumps(value)
    with pytest.raises(UserError) as caught:
        read_cluster({"TF_CONFIG": text})
    message = str(caught.value)
    assert message.startswith(f"the environment variable TF_CONFIG {words}"), message
    assert "; " in message and message.endswith("to train on this machine alone.")
    assert "\n" not in message and len(message) < 400


def test_the_command_line_refuses_before_anything_is_written(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TF_CONFIG", "{")
    flags = ["--configs", "debug", "--task", "dummy_catch", "--logdir", str(tmp_path / "run")]
    assert train.main(flags) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the environment variable TF_CONFIG") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
