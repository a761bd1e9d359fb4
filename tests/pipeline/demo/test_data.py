"""Demo scenes: the same bytes for the same seed, pictures that tell nouns apart, captions that tell the truth."""

import hashlib
import io
import itertools
import json
import tarfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageDraw

from pipeline.demo.captions import write_caption
from pipeline.demo.data import DemoOptions, make_sample, write_demo_data
from pipeline.demo.drawings import DRAWINGS, NOUNS
from pipeline.demo.scenes import (
    COLOURS,
    RELATIONS,
    SIZES,
    TEXTURES,
    Scene,
    Thing,
    draw_picture,
    draw_scene_content,
)
from pipeline.errors import UserError


def _members(tar: Path) -> dict[str, bytes]:
    with tarfile.open(tar) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        return {name: file.read() for name, file in files.items() if file is not None}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_data(
        tmp_path_factory.mktemp("demo"), DemoOptions(num_train=1_003, num_test_per_class=2, image_size=32)
    )


def test_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    options = DemoOptions(seed=3, num_train=20, num_test_per_class=1)
    first, second = (write_demo_data(tmp_path / name, options) for name in "ab")
    for name in ("manifest.json", "train/00000.tar", "test/00000.tar"):
        assert (first.parent / name).read_bytes() == (second.parent / name).read_bytes()


def test_another_seed_gives_other_scenes() -> None:
    assert make_sample("train-0000001", seed=0, image_size=64) != make_sample(
        "train-0000001", seed=1, image_size=64
    )


def test_a_sample_depends_on_its_key_alone(written: Path) -> None:
    sample = make_sample("train-0001002", seed=0, image_size=32)
    assert _members(written.parent / "train/00001.tar")["train-0001002.jpg"] == sample.jpeg


def test_the_manifest_counts_and_hashes_what_is_there(written: Path) -> None:
    manifest = json.loads(written.read_text())
    assert manifest["classnames"] == list(NOUNS)
    assert all(template.count("{}") == 1 for template in manifest["templates"])
    assert manifest["splits"]["train"]["shards"] == "train/{00000..00001}.tar"
    for split, num_samples in (("train", 1_003), ("test", 60)):
        hashes = manifest["splits"][split]["sha256"]
        assert hashes == {
            name: hashlib.sha256((written.parent / name).read_bytes()).hexdigest() for name in hashes
        }
        keys = {name.split(".")[0] for shard in hashes for name in _members(written.parent / shard)}
        assert len(keys) == num_samples == manifest["splits"][split]["num_samples"]


def test_shards_have_sorted_members_and_no_time(written: Path) -> None:
    with tarfile.open(written.parent / "test/00000.tar") as archive:
        members = archive.getmembers()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {member.mtime for member in members} == {0}
    assert [member.name.split(".")[1] for member in members[:4]] == ["cls", "jpg", "json", "txt"]


def test_every_class_is_tested_equally_often_and_labelled_rightly(written: Path) -> None:
    members = _members(written.parent / "test/00000.tar")
    labels = [int(content) for name, content in members.items() if name.endswith(".cls")]
    assert sorted(labels) == sorted(2 * list(range(len(NOUNS))))
    for name, content in members.items():
        if name.endswith(".json"):
            things = json.loads(content)["things"]
            assert [NOUNS.index(thing["noun"]) for thing in things] == [
                int(members[name.replace("json", "cls")])
            ]


def test_there_are_thirty_nouns_twelve_colours_four_sizes_three_textures() -> None:
    assert [len(words) for words in (NOUNS, COLOURS, SIZES, TEXTURES)] == [30, 12, 4, 3]
    assert "banana" in NOUNS


def test_a_colour_does_not_give_the_noun_away() -> None:
    scenes = [draw_scene_content(Random(i)) for i in range(6_000)]
    seen = {(thing.noun, thing.colour) for scene in scenes for thing in scene.things}
    assert len(seen) == 30 * 12


def _layers(noun: str) -> Image.Image:
    """The drawing with its layers as grey levels."""
    layers = Image.new("L", (64, 64))
    for layer, points in DRAWINGS[noun]:
        ImageDraw.Draw(layers).polygon([(32 + 30 * x, 32 + 30 * y) for x, y in points], fill=layer)
    return layers


def test_no_two_nouns_look_alike() -> None:
    drawn = {noun: _layers(noun) for noun in NOUNS}
    for first, second in itertools.combinations(NOUNS, 2):
        same = ImageChops.difference(drawn[first], drawn[second]).histogram()[0]
        empty = ImageChops.lighter(drawn[first], drawn[second]).histogram()[0]
        assert 64**2 - same > 0.25 * (64**2 - empty), (first, second)


@pytest.mark.parametrize("relation", RELATIONS)
def test_pictures_show_the_relation(relation: str) -> None:
    red, blue = (
        Thing(noun="heart", colour=colour, size="large", texture="plain") for colour in ("red", "blue")
    )
    scene = Scene(things=(red, blue), relation=relation, background="plain", background_colour="white")
    alone = [
        Scene(things=(x,), relation=None, background="plain", background_colour="white") for x in (red, blue)
    ]
    assert alone  # the same nouns alone are drawn by the same code
    picture = draw_picture(scene, Random(5), side=128)
    pixels: Any = picture.load()
    centres, areas = [], []
    for channel, other in ((0, 2), (2, 0)):
        strong = [
            (x, y)
            for y in range(128)
            for x in range(128)
            if (p := pixels[x, y])[channel] > 170 and p[other] < 90
        ]
        areas.append(len(strong))
        centres.append((sum(x for x, _ in strong) / len(strong), sum(y for _, y in strong) / len(strong)))
    (x0, y0), (x1, y1) = centres
    shown = {
        "above": y0 < y1 - 20,
        "below": y0 > y1 + 20,
        "left": x0 < x1 - 20,
        "right": x0 > x1 + 20,
        "beside": abs(x0 - x1) > 20 > abs(y0 - y1),
        "front": areas[0] > areas[1] * 1.1,
        "behind": areas[1] > areas[0] * 1.1,
    }
    assert shown[relation]


def test_captions_say_nothing_that_the_scene_does_not_show() -> None:
    for i in range(2_000):
        rng = Random(i)
        scene = draw_scene_content(rng)
        words = set(write_caption(scene, rng).lower().replace(".", " ").replace(",", " ").split())
        things = scene.things
        assert things[0].noun in words
        assert words & set(NOUNS) <= {thing.noun for thing in things}
        assert words & set(COLOURS) <= {thing.colour for thing in things} | {scene.background_colour}
        assert words & set(SIZES) <= {thing.size for thing in things}
        assert words & set(TEXTURES) <= {thing.texture for thing in things}


def test_captions_use_the_right_article_and_no_left_over_braces() -> None:
    captions = []
    for i in range(3_000):
        rng = Random(i)
        captions.append(write_caption(draw_scene_content(rng), rng))
    for caption in captions:
        words = caption.lower().split()
        assert "{" not in caption
        assert "  " not in caption
        for article, word in itertools.pairwise(words):
            assert article != "a" or word[0] not in "aeiou", caption
            assert article != "an" or word[0] in "aeiou", caption
    assert len(set(captions)) > 2_700


def test_images_have_the_asked_size() -> None:
    image = Image.open(io.BytesIO(make_sample("train-0000000", seed=0, image_size=96).jpeg))
    assert image.size == (96, 96)
    assert image.mode == "RGB"


def test_a_second_call_leaves_no_shard_of_the_first(tmp_path: Path) -> None:
    write_demo_data(tmp_path, DemoOptions(num_train=1_001, num_test_per_class=1, image_size=32))
    write_demo_data(tmp_path, DemoOptions(num_train=5, num_test_per_class=1, image_size=32))
    assert sorted(path.name for path in (tmp_path / "train").iterdir()) == ["00000.tar"]


def test_a_foreign_manifest_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"options": {}}')
    with pytest.raises(UserError, match="another folder"):
        write_demo_data(tmp_path, DemoOptions(num_train=5, num_test_per_class=1))
    assert (tmp_path / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_train": 0}, "num-train"),
        ({"num_test_per_class": 0}, "per-class"),
        ({"image_size": 8}, "image-size"),
        ({"train_nouns": "apple,zebra"}, "there is no 'zebra'"),
        ({"train_nouns": "apple"}, "at least two"),
    ],
)
def test_numbers_out_of_range_are_told(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        write_demo_data(tmp_path / "out", DemoOptions(**options))


def test_a_narrow_defender_sees_the_nouns_of_its_choice(tmp_path: Path) -> None:
    options = DemoOptions(num_train=60, num_test_per_class=1, image_size=32, train_nouns="star, apple")
    manifest = write_demo_data(tmp_path, options)
    told = json.loads(manifest.read_text("utf-8"))
    assert told["train_nouns"] == ["apple", "star"]
    facts = [
        json.loads(data)
        for name, data in _members(tmp_path / "train/00000.tar").items()
        if name.endswith(".json")
    ]
    assert {thing["noun"] for scene in facts for thing in scene["things"]} == {"apple", "star"}
    assert len([name for name in _members(tmp_path / "test/00000.tar") if name.endswith(".cls")]) == 30


def test_a_file_as_out_is_told(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="is a file"):
        write_demo_data(tmp_path / "out")
