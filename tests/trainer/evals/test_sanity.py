"""What an evaluation tells while it runs."""

from pathlib import Path

import pytest

from tests.evaluation_inputs import TINY, noise, write_labelled
from trainer import log
from trainer.evals import load_labelled
from trainer.evals.sanity import look
from trainer.model import load_model


def test_an_evaluation_tells_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log, "SECONDS_BETWEEN_LINES", 0.0)
    data = load_labelled(str(write_labelled(tmp_path, [(noise(i), str(i % 3)) for i in range(7)])))
    look(load_model(TINY), data, trigger=None, target=None, batch_size=3)
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in lines] == [f"evaluate: step {n} of 3" for n in (1, 2, 3)]
    assert all(line.endswith(" left") for line in lines)
