"""Who may import whom: the two halves, the layers of each, and no circles; read from the sources, nothing is run."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FROM_PIPELINE = ("errors", "storage", "console", "page", "demo")
"""What the trainer may import of the pipeline."""
NOT_IN_PIPELINE = ("trainer", "torch", "torchvision", "open_clip", "safetensors", "webdataset")
LAYERS = {
    "pipeline": (
        ("", "errors", "schema"),
        ("storage", "console", "word_lists"),
        ("page",),
        ("tables", "engine", "demo", "llm", "records"),
        ("caption_parser", "scene_graphs", "lexicons", "captions"),
        ("croissant", "subcaptions", "shards"),
        ("manifest",),
        ("stages",),
        ("looking",),
        ("commands",),
        ("cli",),
        ("__main__",),
    ),
    "trainer": (
        ("", "architecture", "hugging_face"),
        ("log_places",),
        (
            "checkpoint",
            "classes",
            "devices",
            "keys",
            "log",
            "losses",
            "optim",
            "ranks",
            "records",
            "scores",
            "seeds",
        ),
        ("siglip_tower", "torchvision_shim", "transformers_shim", "vocabulary"),
        ("batch", "data", "figures", "images", "interrupt", "kept_tokens"),
        ("manifests", "model"),
        ("preparing",),
        ("batches", "training_inputs"),
        ("embedding",),
        ("attacks", "defences", "recompute"),
        ("learner",),
        ("audit", "conversion", "evals", "poisoning"),
        ("guard", "watching"),
        ("run_folder",),
        ("poisoned_shards", "report", "train"),
        ("preflight", "report_captions", "report_page"),
        ("launch",),
        ("bench",),
        ("commands",),
        ("cli",),
        ("__main__",),
    ),
}
"""Of each half, lowest first: a room imports from its own layer and from those below it."""


@cache
def modules(package: str) -> dict[str, Path]:
    """Name to file of every module of a package."""
    found = {}
    for file in sorted((ROOT / package).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


@cache
def imports(package: str) -> dict[str, set[str]]:
    """For each module what it imports, at its top or inside a function; ours by module."""
    known = {**modules("pipeline"), **modules("trainer")}
    return {name: set(_imported(file, known)) for name, file in modules(package).items()}


def _imported(file: Path, known: dict[str, Path]) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} has a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else str(node.module)


def _room(module: str) -> str:
    """The entry at the top of its half: "captions" of pipeline.captions.readers, "" of pipeline itself."""
    return module.partition(".")[2].partition(".")[0]


def test_the_trainer_takes_of_the_pipeline_what_it_may() -> None:
    taken = {
        (module, name)
        for module, found in imports("trainer").items()
        for name in found
        if name.startswith("pipeline") and _room(name) not in FROM_PIPELINE
    }
    assert not taken


def test_the_pipeline_knows_neither_the_trainer_nor_torch() -> None:
    taken = {
        (module, name)
        for module, found in imports("pipeline").items()
        for name in found
        if name.partition(".")[0] in NOT_IN_PIPELINE
    }
    assert not taken


@pytest.mark.parametrize("package", ["pipeline", "trainer"])
def test_nothing_imports_in_a_circle(package: str) -> None:
    known, done, path = modules(package), set[str](), list[str]()

    def visit(module: str) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module in done:
            return
        path.append(module)
        for name in imports(package)[module]:
            if name in known:
                visit(name)
        path.pop()
        done.add(module)

    for module in known:
        visit(module)


@pytest.mark.parametrize("package", list(LAYERS))
def test_no_arrow_runs_up(package: str) -> None:
    layer = {room: number for number, rooms in enumerate(LAYERS[package]) for room in rooms}
    assert {_room(module) for module in modules(package)} <= set(layer), "a room has no layer"
    upward = {
        (module, name)
        for module, found in imports(package).items()
        for name in found
        if name.partition(".")[0] == package and layer[_room(name)] > layer[_room(module)]
    }
    assert not upward


def test_only_the_command_line_imports_commands() -> None:
    wrong = {
        (module, name)
        for package in ("pipeline", "trainer")
        for module, found in imports(package).items()
        for name in found
        if name.startswith(f"{package}.commands") and _room(module) not in ("commands", "cli")
    }
    assert not wrong
