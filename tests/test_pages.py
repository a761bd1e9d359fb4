"""Every page in a real browser: no complaint, no request, and it fits a phone, a desk, the dark and paper."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.captions.readers import InputOptions
from pipeline.demo.data import DemoOptions, write_demo_data
from pipeline.looking.preview import write_preview
from pipeline.stages import PipelineOptions, run_stages
from tests.browser import CHROMIUM, Browser, browser
from tests.trainer.audit.test_audit import FAST, model
from tests.trainer.bench.test_page import ROWS
from tests.trainer.test_report import _result
from trainer.audit.auditing import audit_model
from trainer.audit.page import write_audit_page
from trainer.bench.page import write_page as write_bench_page
from trainer.report import write_evaluation
from trainer.report_page import write_report_page

SCREENS: dict[str, dict[str, Any]] = {
    "phone": {"width": 390},
    "desk": {"width": 1280},
    "dark": {"width": 1280, "dark": True},
    "paper": {"width": 794, "media": "print"},
}
PLACES = {"triggered_to_clean": [0.1, 0.9], "triggered_to_target": [0.8, 0.2], "clean_to_target": [0.1, 0.1]}
HEADINGS = {
    "one": "BA and ASR",
    "two": "Counterfactual captions",
    "bench": "What it comes back by",
    "audit": "How far small triggers take the images",
    "preview": "",
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("pages")
    write_demo_data(at / "world", DemoOptions(num_train=40, num_test_per_class=1, image_size=32))
    cf = at / "cf"
    run_stages(PipelineOptions(source=InputOptions(input=str(at / "world/train")), out=cf, workers=1))
    write_preview(cf, at / "preview.html", num=6)
    write_evaluation(_result(170, 140), at / "before.json", places=PLACES)
    epochs = [{"epoch": 1, "ba1": 80.0, "asr1": 40.0}, {"epoch": 2, "ba1": 84.0, "asr1": 3.0}]
    write_evaluation(_result(168, 6), at / "after.json", by_epoch=epochs, places=PLACES)
    (at / "run").mkdir()
    (at / "run/summary.json").write_text(json.dumps({"steps": 62, "shards_sha256": "5" * 64}))
    lines = [json.dumps({"step": step, "epoch": 1, "loss": 1 / step}) for step in (10, 20, 30)]
    (at / "run/metrics.jsonl").write_text("\n".join(lines))
    Image.new("RGB", (900, 400), "grey").save(at / "seen.png")
    write_report_page(at / "before.json", None, out=at / "one.html")
    both = (at / "before.json", at / "after.json")
    shown = [at / "seen.png"]
    shards = str(cf / "shards")
    write_report_page(*both, out=at / "two.html", run=at / "run", pictures=shown, shards=shards)
    write_bench_page(at / "bench.html", [{**row, "suite": "a-suite-of-a-long-name"} for row in ROWS])
    options = replace(FAST, steps=2)
    write_audit_page(audit_model(model(9), str(at / "world/train"), options=options), at / "audit.html")
    return at


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here (Debian: apt install chromium)")
    with browser(tmp_path_factory.mktemp("chromium")) as started:
        yield started


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", HEADINGS)
def test_a_page_in_a_browser(pages: Path, chromium: Browser, name: str, screen: str) -> None:
    page = pages / f"{name}.html"
    chromium.open(page, **SCREENS[screen])
    assert chromium.complaints() == []
    elsewhere = [url for url in chromium.asked_for() if not url.startswith("data:")]
    assert elsewhere == [page.resolve().as_uri()]
    assert chromium.value("document.documentElement.scrollWidth") <= SCREENS[screen]["width"]
    assert HEADINGS[name] in chromium.value("document.body.innerText")
    broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).length"
    assert chromium.value(broken) == 0
    paper = chromium.value("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, paper[4:-1].split(","))) < 200) == (screen == "dark")


def test_the_browser_sees_what_the_test_asks_for(chromium: Browser, tmp_path: Path) -> None:
    (tmp_path / "bad.html").write_text(
        "<meta name=viewport content='width=device-width'><div style='width:900px'>x</div>"
        "<script>console.log('y'); nothing()</script><img src='missing.png'>"
    )
    chromium.open(tmp_path / "bad.html", width=390)
    assert len(chromium.complaints()) >= 2
    assert any(url.endswith("missing.png") for url in chromium.asked_for())
    assert chromium.value("document.documentElement.scrollWidth") > 390
