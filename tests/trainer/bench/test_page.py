"""The page of a bench: whole, escaped, and asking the network for nothing."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from trainer import cli
from trainer.bench.page import write_page
from trainer.bench.results import Figure, attacks_of, mean_of, results_table, table_of, write_results
from trainer.bench.sensitivity import curves

HOSTILE = "ft[bank=<script>alert(1)</script>]"


def row(method: str, attack: str, epoch: int, **more: Any) -> dict[str, Any]:
    given = {"suite": "demo", "lr": 0.0 if method == "none" else 1e-3, "seed": 0, "victim": f"{attack}-0"}
    figures = {"ba1": 90.0 - epoch, "asr1": 100.0 / (epoch + 1), "ba1_named": 95.0, "ba1_unnamed": 85.0}
    told = {"trigger_sha256": "t" * 64, "weights_sha256": "w" * 64, "seconds": 3.0, "last": epoch in (0, 2)}
    return given | figures | told | {"method": method, "attack": attack, "epoch": epoch} | more


PLACES = {"triggered_to_clean": [0.9, 0.8], "triggered_to_target": [0.1, 0.2], "rebound_asr1": 4.0}
ROWS = [
    row(method, attack, epoch, counterfactual_object=99.0, **(PLACES if epoch in (0, 2) else {}))
    for attack in ("badnet", "sig")
    for method, epochs in (("none", (0,)), (HOSTILE, (1, 2)), ("anchored", (1, 2)))
    for epoch in epochs
]


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]


def test_the_page_is_whole_and_requests_nothing(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", ROWS)
    text = (tmp_path / "page.html").read_text("utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.tags.count("svg") == 5
    assert reader.tags.count("table") == 5
    assert "with their options" in text
    assert "script" not in reader.tags
    assert all(link.startswith("#") for link in reader.links)
    assert not re.findall(r"url\((?!#)", text)
    assert "&lt;script&gt;" in text


def test_a_method_has_one_colour_in_all_figures(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", ROWS)
    text = (tmp_path / "page.html").read_text("utf-8")
    found: dict[str, set[str]] = {}
    for colour, name in re.findall(r'class="dot" style="color:(#\w+)">&#9679;</span>&nbsp;([^ <]+)', text):
        found.setdefault(name, set()).add(colour)
    assert {len(colours) for colours in found.values()} == {1}
    assert len({colour for colours in found.values() for colour in colours}) == len(found) == 3


def test_means_are_of_methods_that_were_run_with_every_attack() -> None:
    table = table_of([*ROWS, row("par", "sig", 2)])
    assert mean_of(table["par", 1e-3], attacks_of(table), "ba1") is None
    assert mean_of(table["anchored", 1e-3], attacks_of(table), "ba1") == Figure(88.0, None, 2)
    (line,) = (line for line in results_table(table).splitlines() if line.startswith("| par |"))
    assert line == "| par | 0.001 |  | 88.0 / 33.3 |  |  |  |  |"


def test_same_rows_same_bytes(tmp_path: Path) -> None:
    for name in ("one.html", "two.html"):
        write_page(tmp_path / name, ROWS)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()


@pytest.mark.parametrize("ending", [".html", ".md", ".json"])
def test_report_writes_what_the_ending_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    write_results(tmp_path / "results.parquet", ROWS)
    out = tmp_path / f"result{ending}"
    monkeypatch.setattr("sys.argv", ["trainer", "report", str(tmp_path), "--out", str(out)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 0
    assert out.read_text("utf-8")[:1] == {".html": "<", ".md": "|", ".json": "["}[ending]
    assert "| anchored | 0.001 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("{folder}", "--out", "a.txt"), "is written as .html, .md or .json"),
        (("{empty}", "--out", "a.html"), "holds no results.parquet"),
        (("a.json", "--out", "b.json"), "give the one after the defence"),
        (("a.json", "b.json", "--out", "c.txt"), "are written as .html or .json"),
    ],
)
def test_report_says_what_is_missing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    said: str,
) -> None:
    (tmp_path / "empty").mkdir()
    write_results(tmp_path / "results.parquet", ROWS)
    given = [word.format(folder=tmp_path, empty=tmp_path / "empty") for word in words]
    monkeypatch.setattr("sys.argv", ["trainer", "report", *given])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    assert said in capsys.readouterr().err


def test_an_option_of_three_values_is_a_curve_and_its_default_a_point(tmp_path: Path) -> None:
    values = {"cleanerclip[counterfactual_weight=0.5]": 40.0, "cleanerclip": 30.0}
    values |= {"cleanerclip[counterfactual_weight=2]": 20.0, "cleanerclip[tau_negative=0.1]": 10.0}
    given = [row(method, "sig", 2, asr1=asr) for method, asr in values.items()]
    given += [row("cleanerclip", "badnet", 2, asr1=99.0)]
    found = curves(table_of(given))
    assert list(found) == ["cleanerclip at 0.001: counterfactual_weight"]
    assert found["cleanerclip at 0.001: counterfactual_weight"] == [(0.5, 88, 40), (1, 88, 30), (2, 88, 20)]
    write_page(tmp_path / "page.html", given)
    assert "What an option does" in (tmp_path / "page.html").read_text("utf-8")
