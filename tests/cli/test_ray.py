"""Ablations and predictions on a Ray cluster of this machine; skipped without Ray."""

import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.cli.test_ablate import ABLATE, data, forked
from tests.processes import count_lines

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow
__all__ = ["data", "forked"]

LONGER = [*ABLATE, "--epochs", "15", "-oeval_every=0"]


@pytest.fixture
def cluster(monkeypatch) -> Iterator[Any]:
    """A head without CPUs, and a node with one."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    cluster.add_node(num_cpus=1)
    cluster.connect()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def records(out: Path) -> list[dict[str, Any]]:
    lines = (out / "results.jsonl").read_text().splitlines()
    return [json.loads(line) | {"seconds": 0} for line in lines]


def test_a_run_is_saved_at_ctrl_c_and_goes_on_elsewhere_if_its_node_is_lost(data, drfpn, forked, cluster) -> None:
    one, two = data.parent / "one", data.parent / "two"
    assert drfpn(*LONGER, "--out", "one").code == 0
    lines = (one / "results.jsonl").read_text().splitlines(keepends=True)
    two.mkdir()
    (two / "results.jsonl").write_text("".join(line for line in lines if json.loads(line)["row"] == "fpn"))
    run = two / "runs/drfpn-0"

    def interrupt() -> None:
        while count_lines(run / "steps.jsonl") < 3:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt, daemon=True).start()
    stopped = drfpn(*LONGER, "--out", "two", "--on", "ray")
    assert stopped.code == 128 + signal.SIGINT, stopped.err
    assert "stopped by SIGTERM" in run.with_suffix(".log").read_text()
    assert (run / "state.pt").is_file()

    steps = count_lines(run / "steps.jsonl")
    with ThreadPoolExecutor(1) as pool:  # Ray adds nodes in the main thread only
        resumed = pool.submit(drfpn, *LONGER, "--out", "two", "--on", "ray")
        while count_lines(run / "steps.jsonl") < steps + 3:
            assert not resumed.done(), resumed.result()
            time.sleep(0.02)
        (node,) = cluster.worker_nodes
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(num_cpus=1)
        done = resumed.result()
    assert done.code == 0, done.err
    assert "[drfpn-0] retinanet_test_efficientnet_drfpn, resuming" in done.err
    assert "[drfpn-0] its node or process was lost; it goes on elsewhere" in done.err
    assert records(two) == records(one)
    first, second = (load_file(out / "runs/drfpn-0/last.safetensors") for out in (one, two))
    assert all(second[name].equal(value) for name, value in first.items())


def test_predictions_on_ray_are_byte_equal_to_those_of_one_process(trained, coco, drfpn, cluster) -> None:
    arguments = ("predict", trained / "run", "coco/val2017", "--score-threshold", "0.01")
    whole = drfpn(*arguments, "--out", "one", "--json")
    assert whole.code == 0, whole.err
    done = drfpn(*arguments, "--out", "two", "--on", "ray", "--jobs", "3", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == json.loads(whole.out) | {"out": "two", "missing_shards": 0}
    for name in ("results.json", "results.csv", "images.json", "categories.json"):
        assert Path("two", name).read_bytes() == Path("one", name).read_bytes()
