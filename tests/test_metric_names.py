"""Every metric is explained, and every explanation is of a metric that there is."""

from __future__ import annotations

import ast
import re

import pytest
import tiny
from building import ROOT
from metric_names import documented, unexplained

# As different as runs get: which metrics there are depends on these.
RUNS = [
    (tiny.IMAGE, {"precision": 16, "actor_grad": "both", "expl_behavior": "Plan2Explore"}),
    (tiny.VECTOR, {"expl_behavior": "ModelLoss", "expl_extr_scale": 1.0}),
]


@pytest.fixture(scope="module")
def logged() -> set[str]:
    """Names of what one update of each of these agents reports."""
    names: set[str] = set()
    for obs, changes in RUNS:
        agent = tiny.agent(changes, obs, tiny.CONTINUOUS)
        _, metrics = agent.train(tiny.batch(obs, tiny.CONTINUOUS), 0)
        names.update(metrics)
    return names


def templates() -> list[str]:
    """Texts in the code as patterns; what is inserted into them may be anything."""
    found = []
    paths = [*(ROOT / "dreamerv2").glob("*.py"), *(ROOT / "dreamerv2" / "common").glob("*.py")]
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.escape(node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = [v.value if isinstance(v, ast.Constant) else None for v in node.values]
                pattern = "".join(".+" if part is None else re.escape(part) for part in parts)
                if len(pattern.replace(".+", "")) >= 4:
                    found.append(pattern)
    return found


def test_every_metric_of_an_update_is_explained(logged: set[str]) -> None:
    assert {"kl_loss", "actor_grad_mix", "model_loss_scale", "expl_predictor_loss"} <= logged
    assert not unexplained(logged)


def test_every_explained_metric_exists(logged: set[str]) -> None:
    patterns = templates()
    for name in documented():
        text = name.replace("*", "x_x")
        assert any(re.fullmatch(name.replace("*", ".+"), key) for key in logged) or any(
            re.fullmatch(pattern, text) for pattern in patterns
        ), name


def test_names_are_matched_whole() -> None:
    assert unexplained(["step", "kl_loss", "kl_lossy", "eval_return", "sum_train_log_x"]) == {
        "kl_lossy"
    }
