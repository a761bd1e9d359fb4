"""The same captions on a local disk, wholly on S3 (moto's server on this machine), and with Ray: seconds and bytes.

    python -m benchmarks.storage_and_ray --captions ../shared/data/cc3m/validation_first_8000.tsv --num 50000

Captions beyond those of the file are its own with a number put behind them, so that keys differ. Each time is a whole
process's, start included, with as many workers; moto's server takes its share of the same cores. The two runs that are
compared stand side by side; Ray's bytes and the store's are compared with the local folder's, file by file.
"""

import argparse
import itertools
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.storage import place
from pipeline.storage.remote import as_remote

BUCKET = "captions"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--captions", type=Path, required=True, help="CC3M tsv")
    parser.add_argument("--num", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--engine", choices=("s3", "ray", "both"), default="both")
    options = parser.parse_args()
    lines = options.captions.read_text("utf-8").splitlines()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_captions(lines, options.num, folder / "in.tsv")
        local = time_run(folder / "in.tsv", folder / "local", options.workers)
        print(f"local disk:   {local:6.1f} s  {options.num / local:6.0f} captions/s")
        if options.engine != "s3":
            ray = time_run(folder / "in.tsv", folder / "ray", options.workers, "--engine", "ray")
            same = files(folder / "ray") == files(folder / "local")
            print(f"Ray, here:    {ray:6.1f} s  ratio {local / ray:.2f}  same bytes: {same}")
        if options.engine != "ray":
            with server():
                remote = time_s3(folder, options.workers)
                found, expected = files(place(f"s3://{BUCKET}/out")), files(folder / "local")
            # rows name the file that they were read from: a folder's name in these, and the hashes of these
            same_names = sorted(found) == sorted(expected)
            same = all(found[name] == expected[name] for name in expected if independent(name))
            print(
                f"wholly on S3: {remote:6.1f} s  ratio {local / remote:.2f}  same bytes: {same and same_names}"
            )


def write_captions(lines: list[str], num: int, file: Path) -> None:
    """`num` lines of CC3M's tsv, all different."""
    with file.open("w", encoding="utf-8") as out:
        for number, line in enumerate(itertools.islice(itertools.cycle(lines), num)):
            caption, _, url = line.partition("\t")
            again = number // len(lines)
            out.write(f"{caption}{f' {again}' if again else ''}\t{url}\n")


def time_run(captions: Path | str, out: Path | str, workers: int, *more: str) -> float:
    """Seconds from the process's start to its end."""
    command = [sys.executable, "-m", "pipeline.cli", "augment-captions", str(captions), "--out", str(out)]
    start = time.perf_counter()
    done = subprocess.run(
        [*command, "--workers", str(workers), *more], capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)
    return time.perf_counter() - start


def time_s3(folder: Path, workers: int) -> float:
    """Seconds of a run whose input and output are in the bucket."""
    captions = as_remote(place(f"s3://{BUCKET}/in.tsv"))
    assert captions is not None
    captions.put(folder / "in.tsv")
    return time_run(f"s3://{BUCKET}/in.tsv", f"s3://{BUCKET}/out", workers)


def files(folder: Path) -> dict[str, bytes]:
    """The files below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def independent(name: str) -> bool:
    """Whether a file's bytes do not tell where the input lay."""
    return name.endswith(".tar") or name.startswith(("subcaptions/0", "scene_graphs/0", "lexicons/"))


@contextmanager
def server() -> Iterator[None]:
    """Moto's server in a process of its own, and its address and credentials in the environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }
    try:
        for _ in range(300):
            try:
                request = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
                request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/x")
                urllib.request.urlopen(request, timeout=60).close()
                break
            except OSError:
                time.sleep(0.2)
        yield
    finally:
        process.kill()
        process.wait()


if __name__ == "__main__":
    main()
