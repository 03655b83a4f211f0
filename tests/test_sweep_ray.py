"""A sweep on a Ray cluster of two nodes on this machine, of which one dies meanwhile."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
from typing import Any

import pytest
from sweep_parts import QUICK, TRAINING, check_history, fake_run, history, wait_for

from dreamerv2.common.errors import UserError
from dreamerv2.sweeps import ray_pool, status
from dreamerv2.sweeps.driver import Driver
from dreamerv2.sweeps.lease import read_holder


@pytest.fixture
def cluster() -> Any:
    pytest.importorskip("ray", reason="the ray extra is not installed")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 * 2**20}
    cluster = Cluster()

    def add() -> Any:
        for _ in range(3):  # Ray waits 30 s for itself, which a busy machine may exceed.
            with contextlib.suppress(Exception):
                return cluster.add_node(**node)
        return pytest.skip("this machine is too busy for Ray to start in time")

    try:
        add()  # The head.
        yield cluster, add()
    finally:
        cluster.shutdown()


def test_node_and_worker_die_and_every_run_is_completed_once(
    cluster: Any, tmp_path: pathlib.Path
) -> None:
    cluster, node = cluster
    runs = [fake_run(tmp_path, "atari_pong", seed, 150) for seed in (1, 2, 3)]
    events: list[dict[str, Any]] = []
    with pytest.raises(UserError, match=r"--cpus-per-run is 3, but the largest machine .* 1 cores"):
        ray_pool.RayPool(cluster.address, 0, 3)
    with ray_pool.RayPool(cluster.address) as pool:
        assert (pool.gpus, pool.cpus, pool.slots()) == (0, 1, 2)
        pool.check_storage(tmp_path)

        def begin() -> Driver:
            return Driver(
                runs, pool, lambda event, **about: events.append({"event": event, **about}),
                program=TRAINING, timing=QUICK, pause=0.1,
            )  # fmt: skip

        driver = begin()

        def until(condition: Any) -> Any:
            def step() -> Any:
                driver.step()
                return condition()

            return wait_for(step, 100)

        def saved(run: Any) -> int:
            rows = history(run)
            return rows[-1][2] if rows and rows[-1][0] == "save" else 0

        until(lambda: saved(runs[0]) and saved(runs[1]))
        driver.stop()
        until(lambda: driver.finished)
        for run in runs[:2]:
            assert history(run)[-1][0] == "end"
            assert not read_holder(pathlib.Path(run.logdir) / ".sweep")[0]
        driver = begin()
        until(lambda: saved(runs[0]) and saved(runs[1]))
        # Both nodes have one: the one on the second dies, and what it ran saves.
        cluster.remove_node(node, allow_graceful=False)
        until(lambda: any(event["event"] == "lost" for event in events))
        running = [run for run in runs if read_holder(pathlib.Path(run.logdir) / ".sweep")[0]]
        victim = next(run for run in running if saved(run))
        os.kill(saved(victim), signal.SIGKILL)
        until(lambda: driver.finished)
    for run in runs:
        check_history(run)
    status.write_plan(tmp_path, runs)
    assert [s.state for s in status.read_sweep(tmp_path, QUICK)] == ["done"] * 3
    reasons = [event["reason"] for event in events if "reason" in event]
    assert any("died" in reason or "dead" in reason for reason in reasons), reasons
    assert any("signal 9" in reason for reason in reasons), reasons


def test_what_cannot_be_reached_or_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(UserError, match="not installed: run python -m pip install 'ray"):
            ray_pool.check_address(None)
    pytest.importorskip("ray", reason="the ray extra is not installed")
    for address in ("nowhere", "ray://host:1", "host:x"):
        with pytest.raises(UserError, match="use auto on a machine of the cluster"):
            ray_pool.check_address(address)
    with pytest.raises(UserError, match=r"--gpus-per-run is 1\.5; use a whole number"):
        ray_pool.RayPool(None, 1.5)
    with pytest.raises(UserError, match=r"cannot be reached .* start Ray there"):
        ray_pool.check_address("127.0.0.1:1")
