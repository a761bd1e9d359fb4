"""The Ray engine: two nodes, one of them killed midway, and the bytes of the local engine."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.captions.readers import InputOptions
from pipeline.engine import map_parts, ray_cluster
from pipeline.errors import UserError
from pipeline.stages import PipelineOptions, run_stages

ray = pytest.importorskip("ray")
CAPTIONS = (
    "a black dog chasing a red ball",
    "two women holding a big umbrella",
    "an old man in a small boat",
)
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # Ray leaves sockets to its end


@pytest.fixture
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster  # noqa: TID251

    head = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield found
    finally:
        ray.shutdown()
        found.shutdown()


def note_and_wait(folder: Path, lost: str, part: tuple[int, float]) -> tuple[int, str]:
    """Says where the part is done, as a file, and takes a while over it; on the lost node, for ever."""
    number, seconds = part
    node = ray.get_runtime_context().get_node_id()
    (folder / f"{number}-{node}-{os.getpid()}").touch()
    time.sleep(600 if node == lost else seconds)
    return number, node


def test_a_lost_node_costs_its_parts_a_retry(cluster: Any, tmp_path: Path) -> None:
    from functools import partial

    second = cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    (tmp_path / "notes").mkdir()
    captions = tmp_path / "in.tsv"
    captions.write_text("".join(f"{CAPTIONS[n % 3]}\thttp://x/{n}\n" for n in range(12)))
    options = PipelineOptions(
        source=InputOptions(input=str(captions)), out=tmp_path / "local", rows_per_part=3
    )
    with ray_cluster(cluster.address, workers=1):
        lost = second.node_id
        results = []
        parts = [(number, 1.0) for number in range(10)]
        work = partial(note_and_wait, tmp_path / "notes", lost)
        for result in map_parts(work, parts, workers=1, label="waiting"):
            results.append(result)
            if second is not None and any(lost in path.name for path in (tmp_path / "notes").iterdir()):
                cluster.remove_node(second, allow_graceful=False)
                second = None
    assert second is None  # it was killed with a part in its hands
    assert sorted(number for number, _ in results) == list(range(10))
    tried = [path.name.partition("-")[0] for path in (tmp_path / "notes").iterdir()]
    assert len(tried) > len(set(tried)) == 10

    run_stages(options)
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        run_stages(
            PipelineOptions(
                source=InputOptions(input=str(captions)),
                out=tmp_path / "ray",
                rows_per_part=3,
                engine="ray",
                ray_address=cluster.address,
            )
        )
    finally:
        del os.environ["RAY_ADDRESS"]
    made = {
        p.relative_to(tmp_path / "ray"): p.read_bytes() for p in (tmp_path / "ray").rglob("*") if p.is_file()
    }
    assert made == {
        p.relative_to(tmp_path / "local"): p.read_bytes()
        for p in (tmp_path / "local").rglob("*")
        if p.is_file()
    }


def test_a_cluster_that_does_not_answer_is_said_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: Any) -> None:
        raise ConnectionError("Could not find any running Ray instance.\nmore")

    monkeypatch.setattr(ray, "init", refuse)
    missing = pytest.raises(UserError, match=r"no Ray cluster at 10\.0\.0\.9:6379: Could not find")
    with missing, ray_cluster("10.0.0.9:6379", workers=1):
        pass
    with pytest.raises(UserError, match="--ray-address goes with --engine ray"):
        PipelineOptions(out=tmp_path, ray_address="auto")
    with pytest.raises(UserError, match="there is no engine 'spark'; one of: local, ray"):
        PipelineOptions(out=tmp_path, engine="spark")
