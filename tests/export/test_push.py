"""Uploading an export: what the hub's client sends, received by a small server on this machine."""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bluedit.errors import ExportError
from bluedit.export.export import push


class Hub(BaseHTTPRequestHandler):
    """The three calls of an upload of small files."""

    seen: list[tuple[str, bytes]]
    refuse = ""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append((self.path.partition("?")[0], body))
        if self.refuse and self.refuse in self.path:
            return self.answer(403, {"error": "no write access"})
        if self.path.endswith("/repos/create"):
            return self.answer(200, {"url": "https://huggingface.co/me/edited", "id": "me/edited"})
        if "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, {"files": files, "commitOid": "0" * 40})
        return self.answer(200, {"commitUrl": "https://huggingface.co/me/edited/commit/1", "commitOid": "1" * 40})

    def do_GET(self):
        self.answer(200, {"id": "me/edited", "sha": "0" * 40, "siblings": []})

    def answer(self, code, value):
        data = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def hub(monkeypatch):
    """(address, the server's class)"""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    handler = type("OneHub", (Hub,), {"seen": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def committed(handler) -> dict[str, bytes]:
    """The files of the commit that was sent."""
    (body,) = (body for path, body in handler.seen if "/commit/" in path)
    values = [json.loads(line)["value"] for line in body.decode().splitlines() if json.loads(line)["key"] == "file"]
    return {value["path"]: base64.b64decode(value["content"]) for value in values}


def created(handler) -> dict:
    return json.loads(next(body for path, body in handler.seen if path.endswith("/repos/create")))


def test_a_folder_goes_to_a_private_repository(hub, tmp_path):
    address, handler = hub
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    (tmp_path / "adapter_config.json").write_text("{}")
    assert push(tmp_path, "me/edited", endpoint=address).endswith("me/edited")
    assert committed(handler) == {"README.md": b"---\nlicense: mit\n---\n", "adapter_config.json": b"{}"}
    made = created(handler)
    assert made["name"] == "edited" and made["organization"] == "me"
    assert made.get("visibility") == "private" or made.get("private") is True


def test_a_file_and_a_public_repository(hub, tmp_path):
    address, handler = hub
    (tmp_path / "edited.gguf").write_bytes(b"GGUF")
    push(tmp_path / "edited.gguf", "me/edited", public=True, endpoint=address)
    assert committed(handler) == {"edited.gguf": b"GGUF"}
    assert created(handler).get("visibility") == "public" or created(handler).get("private") is False


def test_a_refusal_keeps_the_export(hub, tmp_path):
    address, handler = hub
    handler.refuse = "/commit/"
    (tmp_path / "README.md").write_text("x")
    with pytest.raises(ExportError, match=r"cannot upload .* to me/edited: .*403.*; the export itself is in "):
        push(tmp_path, "me/edited", endpoint=address)
    assert (tmp_path / "README.md").read_text() == "x"
