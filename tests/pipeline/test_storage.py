"""Files are whole or not there; same rows, same bytes; a hostile or damaged tar loses only what is damaged."""

import contextlib
import errno
import io
import os
import subprocess
import sys
import tarfile
import threading
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.storage import (
    TarWriter,
    describe_file,
    hold,
    read_tar,
    split_name,
    take_made,
    write_atomically,
    write_behind,
    write_by_path,
)
from tests.small_inputs import write_tar

HOLD = "import os, sys, pathlib, pipeline.storage\nwith pipeline.storage.hold(pathlib.Path(sys.argv[1]))"


def keys(path: Path) -> tuple[list[str], list[str]]:
    faults: list[str] = []
    return [sample.key for sample in read_tar(path, wanted=None, faults=faults)], faults


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("old")

    def fail() -> None:
        with write_atomically(file) as new:
            new.write(b"half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        fail()
    assert file.read_text() == "old"


def test_what_a_thread_writes_is_whole_and_hashed(tmp_path: Path) -> None:
    file, pieces = tmp_path / "a.tar", [bytes([number]) * 700_000 for number in range(60)]
    with write_behind(file) as new:
        for piece in pieces:
            new.write(piece)
    assert file.read_bytes() == b"".join(pieces)
    found = describe_file(file)
    assert take_made(file) == (found["bytes"], found["sha256"])
    assert take_made(file) is None


def test_a_thread_that_cannot_write_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        if threading.current_thread().name == "write-behind":
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    def write() -> None:
        with write_behind(tmp_path / "a.tar") as new:
            for _ in range(200):
                new.write(bytes(2**20))

    with pytest.raises(OSError, match="No space left"):
        write()
    assert not (tmp_path / "a.tar").exists()
    assert take_made(tmp_path / "a.tar") is None
    assert "write-behind" not in {thread.name for thread in threading.enumerate()}


def test_same_samples_same_bytes() -> None:
    def tar() -> bytes:
        file = io.BytesIO()
        writer = TarWriter(file)
        writer.write("1", {"txt": b"a dog", "jpg": b"x"})
        writer.write("é" * 80, {"txt": b"a cat"})
        writer.close()
        return file.getvalue()

    assert tar() == tar()
    with tarfile.open(fileobj=io.BytesIO(tar())) as read:
        assert [member.name for member in read] == ["1.jpg", "1.txt", "é" * 80 + ".txt"]
        assert {member.mtime for member in read} == {0}


def test_members_are_grouped_by_key(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", {"a.txt": b"1", "a.seg.png": b"2", "b.txt": b"3", "a.txt/": b""})
    found = list(read_tar(path, wanted=frozenset(["txt"]), faults=[]))
    assert [(sample.key, sample.members, sorted(sample.names)) for sample in found[:2]] == [
        ("a", {"txt": b"1"}, ["seg.png", "txt"]),
        ("b", {"txt": b"3"}, ["txt"]),
    ]


@pytest.mark.parametrize("name", ["../evil.txt", "/etc/evil.txt", "a.pkl", "a.image.pyd", "a\n.txt"])
def test_hostile_members_are_named_and_skipped(tmp_path: Path, name: str) -> None:
    path = write_tar(tmp_path / "0.tar", {"1.txt": b"x", name: b"evil", "2.txt": b"y"})
    found, faults = keys(path)
    assert found == ["1", "2"]
    assert len(faults) == 1
    assert repr(name) in faults[0]


def test_links_are_skipped(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "0.tar", "w") as tar:
        link = tarfile.TarInfo("1.txt")
        link.type = tarfile.SYMTYPE
        link.linkname = "/etc/passwd"
        tar.addfile(link)
    found, faults = keys(tmp_path / "0.tar")
    assert (found, len(faults)) == ([], 1)


def test_samples_behind_a_damaged_header_are_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", {f"{n}.txt": b"a dog" for n in range(4)})
    data = bytearray(path.read_bytes())
    data[1024:1536] = b"\x07" * 512  # the second member's header
    path.write_bytes(data)
    found, faults = keys(path)
    assert found == ["0", "2", "3"]
    assert "damaged tar headers at byte 1024" in faults[0]


@pytest.mark.parametrize("kept", [1024 + 512 + 3, 1024 + 200])
def test_cut_off_tar_gives_what_is_whole(tmp_path: Path, kept: int) -> None:
    path = write_tar(tmp_path / "0.tar", {f"{n}.txt": b"a dog" for n in range(4)})
    path.write_bytes(path.read_bytes()[:kept])
    faults: list[str] = []
    found = [s.key for s in read_tar(path, wanted=None, faults=faults) if s.members]
    assert found == ["0"]
    assert faults


def test_empty_tar_is_a_shard_of_no_samples(tmp_path: Path) -> None:
    write_tar(tmp_path / "0.tar", {})
    (tmp_path / "1.tar").touch()
    assert keys(tmp_path / "0.tar") == keys(tmp_path / "1.tar") == ([], [])


def test_text_is_no_tar(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(b"<html>404</html>" * 100)
    found, faults = keys(tmp_path / "0.tar")
    assert (found, len(faults)) == ([], 1)
    assert "0.tar" in faults[0]


def test_a_folder_is_written_to_by_one_process_at_a_time(tmp_path: Path) -> None:
    command = [sys.executable, "-c", f"{HOLD}: print('held')", str(tmp_path / "out")]
    with hold(tmp_path / "out"):
        second = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "another process is writing to" in second.stderr
        assert second.stdout == ""
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "held\n"
    assert list((tmp_path / "out").iterdir()) == []


def test_a_process_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", f"{HOLD}: os._exit(9)", str(tmp_path)], check=False)
    assert killed.returncode == 9
    with hold(tmp_path):
        pass


def test_a_file_cannot_be_held(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="is a file"), hold(tmp_path / "out"):
        pass


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a.png", ("a", "png")),
        ("./a.PNG", ("a", "png")),
        ("././d/a.seg.png", ("d/a", "seg.png")),
        ("d.x/a.png", ("d.x/a", "png")),
        ("k\udce9y.txt", ("k\ufffdy", "txt")),
        ("README", None),
        ("d/.hidden.png", None),
        ("._a.png", None),
        ("__meta__.json", None),
    ],
)
def test_a_name_is_key_and_extension(name: str, key: tuple[str, str] | None) -> None:
    assert split_name(name) == key


def test_a_member_is_as_readable_unasked_as_asked(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "0.tar", {f"{n}.txt": b"a dog" * 200 for n in range(3)})
    path.write_bytes(path.read_bytes()[: 2 * 1536 + 600])
    told: list[list[str]] = [[], []]
    for wanted, faults in zip((None, frozenset[str]()), told, strict=True):
        assert [sample.key for sample in read_tar(path, wanted=wanted, faults=faults)] == ["0", "1", "2"]
    assert told[0] == told[1]
    assert "unexpected end of data" in told[0][0]


def test_a_library_that_writes_by_path_leaves_no_half_file(tmp_path: Path) -> None:
    with write_by_path(tmp_path / "a.bin") as part:
        part.write_bytes(b"whole")
        part.chmod(0o600)
    assert (tmp_path / "a.bin").stat().st_mode & 0o777 != 0o600
    with contextlib.suppress(RuntimeError), write_by_path(tmp_path / "a.bin") as part:
        part.write_bytes(b"half")
        raise RuntimeError("killed")
    assert (tmp_path / "a.bin").read_bytes() == b"whole"
