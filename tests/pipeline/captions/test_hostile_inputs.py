"""Inputs as strangers make them: every row is kept, what is wrong is named, and one bad file costs itself alone."""

import gzip
import io
import json
import os
import tarfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.captions.readers import InputOptions, open_source
from pipeline.errors import UserError
from pipeline.schema import Caption
from pipeline.stages import PipelineOptions, run_stages
from pipeline.storage import read_table, read_tar
from tests.small_inputs import image_bytes, write_tar


def rows(path: Path, **options: Any) -> tuple[list[Caption], list[str]]:
    faults: list[str] = []
    source = open_source(InputOptions(input=str(path), **options))
    return [row for file in source.files for row in source.rows(file, faults=faults)], faults


def augment(file: Path, out: Path, **options: Any) -> dict[str, Any]:
    return run_stages(PipelineOptions(source=InputOptions(input=str(file), **options), out=out))


def samples(out: Path) -> list[dict[str, Any]]:
    shards = sorted(out.glob("shards/*.tar"))
    found = [sample for shard in shards for sample in read_tar(shard, wanted=None, faults=[])]
    return [json.loads(sample.members["json"]) for sample in found]


# ------------------------------------------------------------------------------------------------ texts and numbers
def test_lone_surrogates_stop_nothing(tmp_path: Path) -> None:
    line = '{"id": "k\\ud800", "caption": "a dog \\udfff", "url": "http://x/\\ud800.jpg"}\n'
    (tmp_path / "a.jsonl").write_text(line)
    assert augment(tmp_path / "a.jsonl", tmp_path / "out")["rows"]["ok"] == 1
    members = {"1.txt": b"a dog", "1.json": b'{"note": "\\ud800", "fine": "\xc3\xa9"}'}
    augment(write_tar(tmp_path / "a.tar", members), tmp_path / "tar")
    (sample,) = samples(tmp_path / "tar")
    assert (sample["note"], sample["fine"]) == ("\ud800", "é")


def test_a_file_name_that_is_no_utf8_stops_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    name = os.fsdecode(b"k\xe9y.tar")
    write_tar(folder / name, {"1.txt": b"a dog", "1.png": image_bytes()})
    write_tar(folder / "z.tar", {"2.txt": b"a cat"})
    manifest = augment(folder, tmp_path / "out")
    assert (manifest["rows"]["in"], manifest["rows"]["image_status"]) == (2, {"none": 1, "ok": 1})
    assert manifest["inputs"][0]["path"].endswith("k\ufffdy.tar")


def test_numbers_beyond_every_limit_keep_their_sample(tmp_path: Path) -> None:
    digits = "9" * 5_000
    fields = f'{{"caption": "a dog", "n": {digits}, "x": 1e999, "y": NaN, "z": -Infinity, "w": 0.5}}'
    augment(write_tar(tmp_path / "a.tar", {"1.json": fields.encode()}), tmp_path / "out")
    shard = next(iter(read_tar(tmp_path / "out/shards/00000.tar", wanted=None, faults=[])))
    sample = json.loads(shard.members["json"], parse_constant=pytest.fail)
    assert [sample[name] for name in "nxyzw"] == [digits, "1e999", None, None, 0.5]
    assert sample["caption"] == "a dog"
    (tmp_path / "a.json").write_text(
        f'{{"annotations": [{{"id": {digits}, "caption": "a cat"}}], "n": {digits}}}'
    )
    assert rows(tmp_path / "a.json")[0][0].caption == "a cat"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("zipped", [False, True])
def test_any_unicode_encoding_is_read(tmp_path: Path, encoding: str, zipped: bool) -> None:
    pack = gzip.compress if zipped else bytes
    end = ".gz" if zipped else ""
    texts = {
        "a.tsv": "a black dog\thttp://x/1\na cat\thttp://x/2\n",
        "a.csv": "caption,image\na black dog,1\na cat,2\n",
        "a.jsonl": '{"caption": "a black dog"}\n{"caption": "a cat"}\n',
        "a.json": '{"annotations": [{"caption": "a black dog"}, {"caption": "a cat"}]}',
    }
    for name, text in texts.items():
        file = tmp_path / (name + end)
        file.write_bytes(pack(text.encode(encoding)))
        assert [row.caption for row in rows(file)[0]] == ["a black dog", "a cat"], name


def test_keys_of_webdatasets_own_form_survive_being_read_again(tmp_path: Path) -> None:
    lines = [{"key": key, "caption": "a dog"} for key in ("__meta__", "..", ".hidden", "_", "a", "___a")]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    augment(tmp_path / "a.jsonl", tmp_path / "out")
    again = rows(tmp_path / "out/shards/00000.tar")[0]
    assert [row.key for row in again] == ["_meta__", "_", "_hidden", "_-2", "a", "_a"]


def test_long_captions_take_time_by_their_length(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("dog " * 2_000_000 + "\thttp://x\na red ball\thttp://y\n")
    write_tar(tmp_path / "a.tar", {"1.json": json.dumps({"caption": "big dog " * 1_800_000}).encode()})
    start = time.process_time()
    augment(tmp_path / "a.tsv", tmp_path / "out")
    augment(tmp_path / "a.tar", tmp_path / "tar")
    assert time.process_time() - start < 30
    (row, _) = read_table(tmp_path / "out/subcaptions/00000.parquet").to_pylist()
    assert (row["status"], len(row["caption"]), len(row["views"])) == ("too_long", 8_000_000 - 1, 4)
    assert all(len(view) < 3_000 for view in row["views"])


# ------------------------------------------------------------------------------------------------------------- csv
def test_an_unclosed_quote_costs_its_own_line(tmp_path: Path) -> None:
    for style in ('"{}",{}.png\n', '{}.png,"{}"\n', "{},{}.png\n"):
        header = "image,caption\n" if style.startswith("{}.") else "caption,image\n"
        lines = [style.format(*((n, "a dog") if "image,c" in header else ("a dog", n))) for n in range(1_000)]
        lines[3] = lines[3].replace('a dog"', "a dog").replace("a dog,", '"a dog,')
        lines[500] = lines[500].replace('a dog"', "a dog")
        (tmp_path / "a.csv").write_text(header + "".join(lines))
        found, faults = rows(tmp_path / "a.csv")
        assert len(found) == 1_000, style
        assert sum(row.caption == "a dog" for row in found) >= 998
        assert 1 <= len(faults) <= 2
        assert "line 5 has a quote that is not closed" in faults[0]


def test_a_quoted_line_end_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('caption,image\n"a ""black"" dog\nand a cat",1.png\na cow,2.png\n\n')
    found, faults = rows(tmp_path / "a.csv")
    assert [row.caption for row in found] == ['a "black" dog and a cat', "a cow"]
    assert faults == []


def test_a_quote_in_the_middle_is_read_as_before_and_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('caption,image\n"a "nice" dog",1.png\na 5" pipe,2.png\n')
    found, faults = rows(tmp_path / "a.csv")
    assert [(row.caption, row.image) for row in found] == [('a nice" dog"', "1.png"), ('a 5" pipe', "2.png")]
    assert len(faults) == 1


# -------------------------------------------------------------------------------------------------------- columns
def test_binary_captions_are_read(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": [b"a dog", b"a \xff cat", None]}), tmp_path / "a.parquet")
    assert [row.caption for row in rows(tmp_path / "a.parquet")[0]] == ["a dog", "a \ufffd cat", ""]


@pytest.mark.parametrize("value", [3, [3], {"en": "a dog"}, 0.5, True])
def test_a_caption_column_of_another_type_is_named(tmp_path: Path, value: Any) -> None:
    pq.write_table(pa.table({"caption": [value]}), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"nothing in .* can be used.*looked for a column of texts"):
        augment(tmp_path / "a.parquet", tmp_path / "out")
    with pytest.raises(UserError, match=r"the column 'caption' holds .*, no texts"):
        rows(tmp_path / "a.parquet", caption_column="caption")
    (tmp_path / "a.jsonl").write_text(json.dumps({"caption": value}) + '\n{"caption": "a cat"}\n')
    found, faults = rows(tmp_path / "a.jsonl")
    assert ([row.caption for row in found], faults) == (
        ["", "a cat"],
        ["a.jsonl: line 1: its caption is no text"],
    )


def test_a_column_of_texts_is_preferred(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": [3], "text": ["a dog"]}), tmp_path / "a.parquet")
    assert rows(tmp_path / "a.parquet")[0][0].caption == "a dog"


@pytest.mark.parametrize("key", [[1, 2], {"a": 1}, b"\xff\xfe", None])
def test_odd_ids_are_none(tmp_path: Path, key: Any) -> None:
    pq.write_table(pa.table({"caption": ["a dog"], "id": [key]}), tmp_path / "a.parquet")
    assert len(rows(tmp_path / "a.parquet")[0][0].key) == 32


def test_invalid_utf8_in_a_parquet_file_is_replaced(tmp_path: Path) -> None:
    column = pa.array([b"a \xff dog", b"a cat", None]).view(pa.string())
    pq.write_table(pa.table({"caption": column, "path": column}), tmp_path / "a.parquet")
    found, _ = rows(tmp_path / "a.parquet")
    assert [(row.caption, row.image) for row in found] == [
        ("a \ufffd dog", "a \ufffd dog"),
        ("a cat", "a cat"),
        ("", None),
    ]
    augment(tmp_path / "a.parquet", tmp_path / "out")


def test_a_path_that_looks_like_a_row_of_a_column_is_a_path(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["a dog"], "path": ["caption[x].png"]}), tmp_path / "a.parquet")
    (tmp_path / "caption[x].png").write_bytes(image_bytes())
    manifest = augment(tmp_path / "a.parquet", tmp_path / "out")
    assert manifest["rows"]["image_status"] == {"ok": 1}


# --------------------------------------------------------------------------------------------------------- images
@pytest.mark.parametrize(
    "image", ["/dev/zero", "fifo", "../secret.png", "link.png", ".", "{root}/secret.png"]
)
def test_images_are_regular_files_below_the_inputs_folder(tmp_path: Path, image: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    os.mkfifo(folder / "fifo")
    (tmp_path / "secret.png").write_bytes(image_bytes())
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    line = {"caption": "a dog", "image": image.format(root=tmp_path)}
    (folder / "a.jsonl").write_text(json.dumps(line))
    manifest = augment(folder / "a.jsonl", tmp_path / "out")
    assert manifest["rows"]["image_status"] == {"refused": 1}


def test_image_root_says_where_images_may_be(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/1.png").write_bytes(image_bytes())
    named = [str(tmp_path / "images/1.png"), "1.png", "../in/a.jsonl"]
    lines = [{"caption": f"a dog {n}", "image": image} for n, image in enumerate(named)]
    (tmp_path / "in/a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    manifest = augment(tmp_path / "in/a.jsonl", tmp_path / "out", image_root=tmp_path / "images")
    assert manifest["rows"]["image_status"] == {"ok": 2, "refused": 1}
    with pytest.raises(UserError, match="image_root"):
        augment(tmp_path / "in/a.jsonl", tmp_path / "out", image_root=tmp_path)


def test_a_found_folder_of_images_is_not_left(tmp_path: Path) -> None:
    for name in ("val2017", "annotations"):
        (tmp_path / name).mkdir()
    for name in ("val2017/1.png", "secret.png"):
        (tmp_path / name).write_bytes(image_bytes())
    images = [{"id": n, "file_name": name} for n, name in enumerate(("1.png", "../secret.png"))]
    annotations = [{"id": n, "image_id": n, "caption": "a dog"} for n in range(2)]
    file = tmp_path / "annotations/captions_val2017.json"
    file.write_text(json.dumps({"images": images, "annotations": annotations}))
    assert augment(file, tmp_path / "out")["rows"]["image_status"]["refused"] == 1


# ------------------------------------------------------------------------------------------- bad files among good
def pax_bomb() -> bytes:
    """A tar whose one member has 3,000 extended headers before it."""
    file = io.BytesIO()
    header = tarfile.TarInfo("pax")
    header.type = tarfile.XHDTYPE
    header.size = 12
    for _ in range(3_000):
        file.write(header.tobuf(tarfile.USTAR_FORMAT) + b"12 comment=x".ljust(512, b"\0"))
    member = tarfile.TarInfo("1.txt")
    member.size = 5
    file.write(member.tobuf(tarfile.USTAR_FORMAT) + b"a dog".ljust(512, b"\0"))
    return file.getvalue()


def sparse(**headers: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("1.txt")
        member.pax_headers = {f"GNU.sparse.{name}": value for name, value in headers.items()}
        tar.addfile(member)
    return file.getvalue()


BAD = {
    "cut.tsv.gz": gzip.compress(b"a dog\thttp://x\n" * 1_000)[:-30],
    "no.tsv.gz": b"no gzip at all",
    "column.csv": b"x,y\n1,2\n",
    "empty.csv": b"",
    "null.json": b'{"annotations": [{"caption": "a dog", "id": [1], "image_id": {}}], "images": null}',
    "ids.json": b'{"annotations": [null, 3, {"caption": 3}], "images": [{"id": []}, null, {"id": 1, "file_name": 3}]}',
    "list.json": b"[1, 2]",
    "deep.json": b"[" * 200_000,
    "deep.jsonl": b'{"caption":' * 200_000,
    "pax.tar": pax_bomb(),
    "sparse-map.tar": sparse(map="x,y", size="z"),
    "sparse-1.tar": sparse(major="1", minor="0", realsize="x"),
    "sparse-0.tar": sparse(numbytes="a", offset="b"),
    "short.parquet": b"PAR1",
    "none.parquet": b"PAR1" + b"\0" * 100 + b"PAR1",
}
GOOD = {
    ".gz": gzip.compress(b"a cat\thttp://y\n"),
    ".csv": b"caption\na cat\n",
    ".json": b'{"annotations": [{"caption": "a cat"}]}',
    ".jsonl": b'{"caption": "a cat"}\n',
}


def good(folder: Path, suffix: str) -> Path:
    file = folder / f"z{'.tsv' if suffix == '.gz' else ''}{suffix}"
    if suffix == ".tar":
        return write_tar(file, {"2.txt": b"a cat"})
    if suffix == ".parquet":
        pq.write_table(pa.table({"caption": ["a cat"]}), file)
    else:
        file.write_bytes(GOOD[suffix])
    return file


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_costs_itself_alone(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / name).write_bytes(BAD[name])
    good(folder, Path(name).suffix)
    options = PipelineOptions(
        source=InputOptions(input=str(folder), format="coco" if name.endswith(".json") else None),
        out=tmp_path / "out",
        stages=("captions",),
    )
    manifest = run_stages(options)
    captions = [
        caption
        for part in sorted((tmp_path / "out/captions").glob("*.parquet"))
        for caption in read_table(part)["caption"].to_pylist()
    ]
    assert captions[-1] == "a cat"
    assert manifest["fault_count"] >= 1 or name in ("null.json", "sparse-0.tar")
    if name == "cut.tsv.gz":
        assert len(captions) > 100, "what stands before the cut is kept"


# --------------------------------------------------------------------------------------------- nothing is usable
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.tsv", b"images/1.png\ta dog\nimages/2.jpg\ta cat\n", "looked for lines of caption TAB"),
        ("a.tsv", b"", "holds no rows; looked for lines"),
        ("a.tsv", b"\thttp://x\n", "1 rows, but no caption"),
        ("a.csv", b"caption,image\n,1.png\n", "looked for a column"),
        ("a.jsonl", b'{"x": 1}\n', "looked for a field: one of caption, captions"),
        ("a.json", b'{"annotations": [{"bbox": [1, 2]}]}', "looked for annotations with the field caption"),
        ("a.tar", b"no tar", "looked for a member .txt"),
        ("a.parquet", b"no table", "cannot be read as Parquet"),
    ],
)
def test_an_input_of_which_nothing_is_usable_is_refused(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=f"nothing in .*{name} can be used") as raised:
        augment(tmp_path / name, tmp_path / "out")
    assert said in str(raised.value)
    assert not (tmp_path / "out/stages/captions.json").exists()
