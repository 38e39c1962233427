"""COCO's archives made of synthetic people, and a server for them: what scripts/download_coco.sh is tested on."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts/download_coco.sh"
# The script says so, and there is nothing to test.
NEEDED = [tool for tool in ("curl", "unzip") if shutil.which(tool) is None]
SPLITS = {"train": "train2017", "val": "val2017", "test": "test2017"}


def make_mirror(people: Path, folder: Path) -> Path:
    """Zips in COCO's layout under `folder`, and `folder`/archives.txt, the script's table of them."""
    for name in ("annotations", "zips"):
        (folder / name).mkdir(parents=True)
    listed = sorted((people / "annotations").iterdir())
    truth = json.loads((people / "annotations/person_keypoints_val2017.json").read_text())
    info = json.dumps({"images": truth["images"], "categories": truth["categories"], "annotations": []})
    trainval, test = "annotations/annotations_trainval2017.zip", "annotations/image_info_test2017.zip"
    # COCO's archive holds much that is not needed.
    write_zip(folder / trainval, {f"annotations/{p.name}": p.read_bytes() for p in listed} | {
        "annotations/captions_val2017.json": b"{}"
    })  # fmt: skip
    names = ("image_info_test2017.json", "image_info_test-dev2017.json")
    write_zip(folder / test, {f"annotations/{name}": info.encode() for name in names})
    rows = [
        row("annotations", folder, trainval, "annotations/person_keypoints_*2017.json", 2),
        row("annotations", folder, test, "annotations/image_info_test-dev2017.json", 1),
    ]
    for part, name in SPLITS.items():
        # There are no other pictures to test on.
        images = sorted((people / ("val2017" if part == "test" else name)).iterdir())
        write_zip(folder / f"zips/{name}.zip", {f"{name}/{path.name}": path.read_bytes() for path in images})
        rows.append(row(part, folder, f"zips/{name}.zip", f"{name}/*.jpg", len(images)))
    (folder / "archives.txt").write_text("\n".join(rows))
    return folder


def write_zip(path: Path, content: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def row(part: str, folder: Path, archive: str, pattern: str, files: int, known: bool = True) -> str:
    """A line of the table; known: with its checksum."""
    data = (folder / archive).read_bytes()
    return f"{part} {archive} {len(data)} {hashlib.md5(data).hexdigest() if known else '-'} {pattern} {files}"


def download(root: Path, mirror: str, table: Path, *words: object) -> subprocess.CompletedProcess:
    """Run the script; `mirror` is the base address."""
    command = ["bash", str(SCRIPT), "--root", str(root), "--archives", str(table), *map(str, words)]
    environment = {**os.environ, "COCO_MIRROR": mirror, "PYTHON": sys.executable}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@contextmanager
def served(folder: Path, stop_after: int = 0, ranges: bool = True):
    """Serve a folder; the answer is (address, list of each request's path and first byte).

    stop_after: the first answer breaks off after so many bytes. ranges: whether a file can be had from its middle.
    """
    requests: list[tuple[str, int]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            data, asked = path.read_bytes(), re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(asked[1]) if asked and ranges else 0
            requests.append((self.path, start))
            self.send_response(206 if asked and ranges else 200)
            if asked and ranges:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.end_headers()
            rest = data[start:]
            self.wfile.write(rest[:stop_after] if stop_after and len(requests) == 1 else rest)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", requests
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
