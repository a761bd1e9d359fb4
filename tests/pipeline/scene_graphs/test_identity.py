"""The bundled parser is told by its files as it tells itself, and who hands parts to workers never loads it."""

import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.scene_graphs.identity import RULE_SETS, bundled_identity
from pipeline.scene_graphs.parser import CaptionParser

RUN = """
import sys
from pathlib import Path
from pipeline.captions.readers import InputOptions
from pipeline.stages import PipelineOptions, run_stages

if __name__ == "__main__":
    out, workers = Path(sys.argv[2]), int(sys.argv[3])
    run_stages(PipelineOptions(source=InputOptions(input=sys.argv[1]), out=out, rows_per_part=2, workers=workers))
    print("spacy" in sys.modules)
"""


@pytest.mark.parametrize("rules", RULE_SETS)
def test_files_say_what_the_loaded_parser_says(rules: str) -> None:
    assert bundled_identity(rules) == CaptionParser(rules=rules).identity()


def test_rules_that_are_none_are_refused() -> None:
    with pytest.raises(UserError, match="Rules 'x' are unknown"):
        bundled_identity("x")


def test_who_hands_parts_to_workers_loads_no_parser(tmp_path: Path) -> None:
    (tmp_path / "run.py").write_text(RUN)
    (tmp_path / "in.tsv").write_text(
        "".join(f"a dog chases a ball {n}\thttp://x/{n}.jpg\n" for n in range(4))
    )
    for workers, loads in ((2, "False"), (1, "True")):
        command: list[str | Path] = [
            sys.executable,
            tmp_path / "run.py",
            tmp_path / "in.tsv",
            tmp_path / str(workers),
            str(workers),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout.strip()) == (0, loads), done.stderr
    assert subprocess.run(["diff", "-r", tmp_path / "1", tmp_path / "2"], check=False).returncode == 0
