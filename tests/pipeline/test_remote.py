"""Folders and inputs in object stores: against a server of S3's protocol on this machine, with faults in between."""

import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.captions.ingest import read_index
from pipeline.captions.readers import InputOptions
from pipeline.errors import UserError
from pipeline.looking.preview import write_preview
from pipeline.looking.query import connect
from pipeline.looking.repair import repair
from pipeline.looking.verify import verify
from pipeline.stages import PipelineOptions, run_stages
from pipeline.storage import (
    RemoteError,
    find_files,
    hold,
    open_text,
    place,
    read_json,
    read_table,
    read_tar,
    remote,
    remote_locks,
    sha256_file,
    take_made,
    write_json,
    write_table,
)
from tests.small_inputs import image_bytes, write_tar

pytest.importorskip("moto", reason="moto's server is a development dependency")
pytest.importorskip("s3fs")
fsspec = pytest.importorskip("fsspec")

BUCKET = "captions"
CAPTIONS = (
    "a black dog chasing a red ball on the grass",
    "two women are holding a big umbrella",
    "an old man with a grey beard sits beside a small table",
    "!!!",
)


class Faults:
    """A proxy to the server that answers some requests with a fault: (method, part of the path) -> the faults to come.

    A fault is a status, "cut" (half the answer, then the connection ends) or "hang" (no answer for two seconds).
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream.removeprefix("http://")
        self.planned: list[tuple[str, str, int | str]] = []
        self.met: list[int | str] = []
        self.asked: list[tuple[str, str]] = []
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def _answer(self) -> None:
                outer.answer(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def plan(self, method: str, where: str, *faults: int | str) -> None:
        self.planned += [(method, where, fault) for fault in faults]

    def _fault(self, method: str, path: str) -> int | str | None:
        with self.lock:
            for planned in self.planned:
                if planned[0] == method and planned[1] in path:
                    self.planned.remove(planned)
                    self.met.append(planned[2])
                    return planned[2]
        return None

    @staticmethod
    def body(handler: Any) -> bytes:
        """Of a request, sent as a whole or in chunks."""
        if handler.headers.get("Transfer-Encoding") != "chunked":
            return bytes(handler.rfile.read(int(handler.headers.get("Content-Length") or 0)))
        chunks = []
        while size := int(handler.rfile.readline().split(b";")[0], 16):
            chunks.append(handler.rfile.read(size))
            handler.rfile.readline()
        handler.rfile.readline()
        return b"".join(chunks)

    def answer(self, handler: Any) -> None:
        body = self.body(handler)
        self.asked.append((handler.command, handler.path))
        fault = self._fault(handler.command, handler.path)
        if fault == "hang":
            time.sleep(2)
            handler.close_connection = True
            return
        if isinstance(fault, int):
            handler.send_response(fault)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        left_out = ("connection", "transfer-encoding", "content-length", "expect")
        headers = {name: value for name, value in handler.headers.items() if name.lower() not in left_out}
        upstream = HTTPConnection(self.upstream, timeout=60)
        upstream.request(handler.command, handler.path, body, headers)
        response = upstream.getresponse()
        status, found, data = response.status, response.headers, response.read()
        upstream.close()
        handler.send_response(status)
        for name, value in found.items():
            if name.lower() not in ("connection", "date", "server", "transfer-encoding"):
                handler.send_header(name, value)
        if "Content-Length" not in found:
            handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        if fault == "cut":
            handler.wfile.flush()
            handler.close_connection = True
            handler.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of moto's server, in a process of its own: it has threads and sockets that end with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"MOTO_IAM_LOAD_MANAGED_POLICIES": "false"},
    )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/moto-api/", timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def faults(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    """An empty bucket, reached through the proxy; credentials and address as users give them, in the environment."""
    proxy = Faults(server)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": proxy.url,
        "AWS_MAX_ATTEMPTS": "1",  # what is made again is made again by us
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(remote, "FIRST_WAIT_SECONDS", 0.01)
    urllib.request.urlopen(
        urllib.request.Request(f"{server}/moto-api/reset", method="POST"), timeout=30
    ).close()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    system = fsspec.filesystem("s3", use_listings_cache=False)
    system.mkdir(BUCKET)
    yield proxy
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    proxy.server.shutdown()
    proxy.server.server_close()


def url(name: str) -> Path:
    return place(f"s3://{BUCKET}/{name}")


def put_input(name: str, *, first: int = 0, tmp_path: Path) -> bytes:
    members: dict[str, bytes] = {}
    for number, caption in enumerate(CAPTIONS):
        members[f"{first + number:05d}.jpg"] = image_bytes(format="JPEG")
        members[f"{first + number:05d}.txt"] = caption.encode()
    data = write_tar(tmp_path / "in.tar", members).read_bytes()
    path = remote.as_remote(url(name))
    assert path is not None
    path.put_bytes(data)
    return data


def objects(below: str) -> dict[str, bytes]:
    root = url(below)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*")}


# ------------------------------------------------------------------------------------------------------------- paths
def test_a_url_is_a_path_that_can_be_written_down_and_sent() -> None:
    import pickle  # noqa: TID251

    path = place(Path("s3://bucket/a/b.tar"))  # as a command line gives it: one slash is left
    assert (str(path), path.name, path.suffix) == ("s3://bucket/a/b.tar", "b.tar", ".tar")
    assert str(path.parent / "c" / ".." / "d") == "s3://bucket/a/c/../d"
    assert str((path.parent / "../d").resolve()) == "s3://bucket/d"
    assert pickle.loads(pickle.dumps(path)) == path == place("s3://bucket/a/b.tar")
    assert place("a/b.tar") == Path("a/b.tar")
    with pytest.raises(UserError, match=r"ftp://.*one of: s3://"):
        place("ftp://host/file")


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for scheme, (package, extra) in remote.EXTRAS.items():
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(UserError, match=rf"needs {package}: pip install 'cleanerclip\[{extra}\]'"):
            place(f"{scheme}://bucket/a.tar").exists()


def test_a_web_server_is_not_written_to(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can be read, not written"):
        write_json(place("https://localhost:1/a.json"), {})


def test_nothing_is_half_written(faults: Faults) -> None:
    write_json(url("a.json"), 1)

    class Stop(Exception): ...

    from pipeline.storage import write_atomically

    def write() -> None:
        with write_atomically(url("a.json")) as file:
            file.write(b"2")
            raise Stop

    with pytest.raises(Stop):
        write()
    assert objects("") == {"a.json": b"1\n"}


# ------------------------------------------------------------------------------------------------------------- reading
def test_a_tar_is_read_where_it_is_in_blocks(faults: Faults, tmp_path: Path) -> None:
    data = write_tar(tmp_path / "a.tar", {f"{n}.bin": bytes([n]) * 700_000 for n in range(4)}).read_bytes()
    path = remote.as_remote(url("a.tar"))
    assert path is not None
    path.put_bytes(data)
    asked: list[tuple[int, int]] = []
    found: list[str] = []
    read_range = remote.RemotePath.read_range

    def count(self: remote.RemotePath, start: int, end: int) -> bytes:
        asked.append((start, end))
        return read_range(self, start, end)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(remote.RemotePath, "read_range", count)
        first = next(read_tar(url("a.tar"), wanted=None, faults=found))
    assert first.members == {"bin": bytes(700_000)}
    assert max(end for _, end in asked) < len(data)  # the first sample costs no download of the rest
    samples = list(read_tar(url("a.tar"), wanted=None, faults=[]))
    assert [sample.members for sample in samples] == [{"bin": bytes([n]) * 700_000} for n in range(4)]


def test_what_is_read_takes_few_requests(faults: Faults) -> None:
    text = "".join(f"a line, and its number: {number}\n" for number in range(40_000))
    remote.as_remote(url("a.csv")).put_bytes(text.encode())  # type: ignore[union-attr]
    faults.asked.clear()
    with open_text(url("a.csv")) as file:
        assert list(file) == text.splitlines(keepends=True)
    assert [method for method, _ in faults.asked] == ["HEAD", "GET", "GET", "GET"]  # blocks grow
    write_json(url("a.json"), [1])
    table = pa.table({name: ["x"] * 10 for name in "abcdef"})
    write_table(url("a.parquet"), table)
    faults.asked.clear()
    assert read_json(url("a.json")) == [1]
    assert read_table(url("a.parquet")).equals(table)
    with pytest.raises(FileNotFoundError):
        read_json(url("b.json"))
    assert [method for method, _ in faults.asked] == ["GET", "GET", "GET"]


def test_patterns_mean_objects(faults: Faults, tmp_path: Path) -> None:
    for name in ("in/00000.tar", "in/00001.tar", "in/deep/00002.tar", "in[1]/a.tar"):
        put_input(name, tmp_path=tmp_path)

    def found(pattern: str) -> list[str]:
        files = find_files(
            f"s3://{BUCKET}/{pattern}", noun="file", in_folder=lambda f: sorted(f.glob("*.tar")), gaps=True
        )
        return [str(file).removeprefix(f"s3://{BUCKET}/") for file in files]

    assert found("in/00001.tar") == ["in/00001.tar"]
    assert found("in") == found("in/*.tar") == ["in/00000.tar", "in/00001.tar"]
    assert found("in/{00000..00003}.tar") == ["in/00000.tar", "in/00001.tar"]
    assert found("in/*/*.tar") == ["in/deep/00002.tar"]
    with pytest.raises(UserError, match="no file at s3://captions/nowhere"):
        found("nowhere")


@pytest.mark.parametrize("fault", [500, 503, "cut", "hang"])
def test_a_request_that_fails_is_made_again(faults: Faults, fault: int | str, tmp_path: Path) -> None:
    if fault == "hang":  # the store's own time limit, as its users set it
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        remote._OPTIONS["s3"]["config_kwargs"] = {"read_timeout": 0.5}
    try:
        data = put_input("a.tar", tmp_path=tmp_path)
        faults.plan("GET", "a.tar", fault, fault)
        assert len(list(read_tar(url("a.tar"), wanted=None, faults=[]))) == len(CAPTIONS)
        assert sha256_file(url("a.tar")) == sha256_file(tmp_path / "in.tar")
        if fault != "cut":
            faults.plan("PUT", "b.json", fault)
            write_json(url("b.json"), len(data))
            assert url("b.json").read_bytes() == f"{len(data)}\n".encode()
        assert faults.met
        assert not faults.planned
    finally:
        remote._OPTIONS["s3"].pop("config_kwargs", None)


def test_a_store_that_fails_for_good_is_no_damaged_file(faults: Faults, tmp_path: Path) -> None:
    """Rows would be lost if what cannot be fetched passed for what is broken."""
    put_input("in/00000.tar", tmp_path=tmp_path)
    write_table(url("in.parquet"), pa.table({"caption": ["a dog on a mat"]}))
    faults.plan("GET", "in/00000.tar", *[500] * 100)
    found: list[str] = []
    with pytest.raises(UserError, match="asked 6 times"):
        list(read_tar(url("in/00000.tar"), wanted=None, faults=found))
    assert not found
    faults.plan("GET", "in.parquet", *[500] * 100)
    with pytest.raises(UserError, match="asked 6 times") as raised:
        read_table(url("in.parquet"))
    assert type(raised.value) is UserError


def test_what_is_refused_is_said_at_once(faults: Faults) -> None:
    faults.plan("HEAD", "closed", 403)
    faults.plan("GET", "closed", 403)
    with pytest.raises(RemoteError, match="s3://captions/closed"):
        url("closed").exists()
    assert len(faults.met) <= 2


# --------------------------------------------------------------------------------------------------------- two writers
def test_two_writers_of_a_folder(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_locks, "BEAT_SECONDS", 0.1)
    monkeypatch.setattr(remote_locks, "_LOOK_SECONDS", 0.3)
    with hold(url("out")):
        with (
            pytest.raises(UserError, match="another process is writing to s3://captions/out"),
            hold(url("out")),
        ):
            pass
        assert list(objects("out")) == [".lock"]
    assert objects("out") == {}
    with hold(url("out")):
        pass


def test_a_dead_writers_lock_is_taken_over(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_locks, "EXPIRY_SECONDS", 0.5)
    monkeypatch.setattr(remote_locks, "_LOOK_SECONDS", 0.1)
    lock = remote.as_remote(url("out/.lock"))
    assert lock is not None
    lock.put_bytes(b'{"holder": "gone", "beat": 7}')
    start = time.monotonic()
    with hold(url("out")):
        assert b"gone" not in lock.read_bytes()
        assert time.monotonic() - start > 0.5


def test_a_writer_that_lost_its_lock_does_not_say_that_all_is_well(
    faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_locks, "BEAT_SECONDS", 0.05)
    lock = remote.as_remote(url("out/.lock"))
    assert lock is not None

    def write() -> None:
        with hold(url("out")):
            lock.put_bytes(b'{"holder": "other", "beat": 0}')
            time.sleep(1)
            lock.put_bytes(b'{"holder": "other", "beat": 1}')

    with pytest.raises(UserError, match="took s3://captions/out over"):
        write()
    assert objects("out") == {".lock": b'{"holder": "other", "beat": 1}'}


# ------------------------------------------------------------------------------------------------------------ all of it
def test_a_run_in_a_store_has_the_bytes_of_one_on_a_disk(faults: Faults, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        put_input(f"in/{number:05d}.tar", first=10 * number, tmp_path=tmp_path)
        (tmp_path / "in" / f"{number:05d}.tar").write_bytes((tmp_path / "in.tar").read_bytes())
    for method, where in (("GET", "in/00001.tar"), ("PUT", "shards/00000.tar"), ("PUT", "parts/00001.json")):
        faults.plan(method, where, 500)
    run_stages(PipelineOptions(source=InputOptions(input=str(tmp_path / "in")), out=tmp_path / "out"))
    run_stages(PipelineOptions(source=InputOptions(input=f"s3://{BUCKET}/in"), out=url("out")))
    assert len(faults.met) == 3
    of_a_part = [path for _, path in faults.asked if "/out/" in path and "00001" in path]
    assert len(of_a_part) <= 25, of_a_part
    local = {
        path.relative_to(tmp_path / "out").as_posix(): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    found = objects("out")
    assert sorted(found) == sorted(local)
    # the folders' rows name where they were read from, and hashes are of that
    same = [name for name in local if name.endswith(".tar") or name.startswith("subcaptions/0")]
    assert [name for name in same if found[name] != local[name]] == []
    assert "complete" in url("out.log").read_text()
    assert verify(url("out")) == []
    with connect(url("out")) as connection:
        assert connection.sql("SELECT count(*) FROM subcaptions").fetchall() == [(8,)]
    assert write_preview(url("out"), tmp_path / "page.html") == 8

    # what is damaged there is named, and made again with the same bytes
    remote.as_remote(url("out/shards/00001.tar")).unlink()  # type: ignore[union-attr]
    remote.as_remote(url("out/subcaptions/00000.parquet")).put_bytes(b"PAR1")  # type: ignore[union-attr]
    assert {line.split()[0] for line in verify(url("out"))} == {
        "shards/00001.tar",
        "subcaptions/00000.parquet",
    }
    told: list[str] = []
    run_stages(
        PipelineOptions(source=InputOptions(input=f"s3://{BUCKET}/in"), out=url("out")), tell=told.append
    )
    assert len(told) == 2
    assert objects("out") == found
    assert read_index(url("out/captions")).rows == 8
    remote.as_remote(url("out/scene_graphs/00001.parquet")).put_bytes(b"PAR1")  # type: ignore[union-attr]
    repair(url("out"), lexicons=None, parser=None, workers=1, tell=told.append)
    assert len(told) == 3
    assert objects("out") == found


def test_memory_holds_a_run_of_this_process() -> None:
    name = "memory://run"
    fsspec.filesystem("memory").pipe_file("/run/in.tsv", b"a black dog on a mat\thttp://x/1\n")
    manifest = run_stages(
        PipelineOptions(
            source=InputOptions(input=f"{name}/in.tsv"),
            out=place(f"{name}/out"),
            stages=("captions",),
            workers=4,
        )
    )
    assert manifest["rows"]["in"] == 1
    assert verify(place(f"{name}/out")) == []
    fsspec.filesystem("memory").rm("/run", recursive=True)


def test_a_web_servers_files_are_read(tmp_path: Path) -> None:
    data = write_tar(tmp_path / "a.tar", {f"{n}.txt": b"a dog" for n in range(3)}).read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
            part = data[int(first) : int(last) + 1 if last else None]
            if self.path == "/whole.tar":  # a server that knows no ranges
                part = data
            self.send_response(200 if len(part) == len(data) else 206)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(part)

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    try:
        root = f"http://127.0.0.1:{web.server_address[1]}"
        samples = list(read_tar(place(f"{root}/a.tar"), wanted=None, faults=[]))
        assert [sample.key for sample in samples] == ["0", "1", "2"]
        assert place(f"{root}/a.tar").open("rb").read() == data
        file = place(f"{root}/whole.tar").open("rb")
        file.seek(600)
        with pytest.raises(RemoteError, match="gives no parts of files"):
            file.read(10)
    finally:
        web.shutdown()
        web.server_close()


def test_what_is_written_is_hashed_on_the_way_and_once(faults: Faults) -> None:
    write_json(url("a.json"), 1)
    made = take_made(url("a.json"))
    assert made is not None
    assert made == (2, sha256_file(url("a.json")))
    assert take_made(url("a.json")) is None


def test_the_trainer_and_the_lexicons_read_a_store(faults: Faults, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from pipeline.lexicons.loading import default_folder, load_lexicons
    from trainer.data import find_shards, index_shards

    put_input("shards/00000.tar", tmp_path=tmp_path)
    faults.plan("GET", "shards/00000.tar", 500)
    index = index_shards(find_shards(f"s3://{BUCKET}/shards/{{00000..00000}}.tar"))
    assert tuple(index.keys) == tuple(f"{number:05d}" for number in range(len(CAPTIONS)))
    for file in default_folder().iterdir():
        remote.as_remote(url(f"lexicons/{file.name}")).put(file)  # type: ignore[union-attr]
    found, own = load_lexicons(url("lexicons")), load_lexicons()
    assert found.identity() == own.identity()
    assert found.objects.terms == own.objects.terms


def test_a_trainers_command_takes_urls(faults: Faults, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    put_input("shards/00000.tar", tmp_path=tmp_path)
    faults.plan("GET", "shards/00000.tar", 503)
    words = [
        "poison",
        "--trigger",
        "badnet",
        "--target",
        "dog",
        "--rate",
        "0.5",
        "--out",
        str(tmp_path / "poisoned"),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *words, "--shards", f"s3://{BUCKET}/shards/{{00000..00000}}.tar"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert faults.met == [503]
    (tar,) = (tmp_path / "poisoned" / "shards").glob("*.tar")
    assert len(list(read_tar(tar, wanted=None, faults=[]))) == len(CAPTIONS)


def test_a_command_takes_urls(faults: Faults, tmp_path: Path) -> None:
    put_input("in/00000.tar", tmp_path=tmp_path)
    command = [sys.executable, "-m", "pipeline", "parse-captions", f"s3://{BUCKET}/in"]
    done = subprocess.run(
        [*command, "--out", f"s3://{BUCKET}/out", "--workers", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, f"wrote s3://{BUCKET}/out/manifest.json" in done.stdout) == (0, True), (
        done.stderr
    )
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "verify", f"s3://{BUCKET}/out"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"s3://{BUCKET}/out is what its manifest says\n"), (
        done.stderr
    )
