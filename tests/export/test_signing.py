"""Signatures with local keys: any change of the signed files is seen. Nothing here needs a network."""

from __future__ import annotations

import socket
import sys

import pytest

from bluedit.errors import ExportError
from bluedit.export.signing import sign, verify

pytest.importorskip("model_signing.signing", exc_type=ImportError)


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("the network is used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def key_pair(folder, name="key"):
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def changed(folder):
    (folder / "b" / "two.bin").write_bytes(b"twO")


def added(folder):
    (folder / "three").write_bytes(b"3")


def removed(folder):
    (folder / "one").unlink()


@pytest.mark.parametrize("damage", [changed, added, removed])
def test_a_folder(damage, tmp_path):
    private, public = key_pair(tmp_path)
    folder = tmp_path / "patch"
    (folder / "b").mkdir(parents=True)
    (folder / "one").write_bytes(b"one")
    (folder / "b" / "two.bin").write_bytes(b"two")
    assert sign(folder, private) == tmp_path / "patch.sig"
    verify(folder, public)
    damage(folder)
    with pytest.raises(ExportError, match=r"patch is not what .*patch.sig was made for with this key") as caught:
        verify(folder, public)
    assert "Digest" not in str(caught.value)


def test_a_file_and_refusals(tmp_path):
    private, public = key_pair(tmp_path)
    file = tmp_path / "model.gguf"
    file.write_bytes(b"weights")
    sign(file, private, tmp_path / "mine.sig")
    verify(file, public, tmp_path / "mine.sig")
    file.write_bytes(b"weightz")
    with pytest.raises(ExportError, match=r"model.gguf is not what"):
        verify(file, public, tmp_path / "mine.sig")
    file.write_bytes(b"weights")
    _, other = key_pair(tmp_path, "other")
    (tmp_path / "junk").write_text("no key")
    (tmp_path / "folder").mkdir()
    for call, message in (
        (lambda: verify(file, other, tmp_path / "mine.sig"), r"is not what .* was made for with this key: \S+"),
        (lambda: verify(file, public), r"there is no signature .*model.gguf.sig; name it with signature="),
        (lambda: verify(tmp_path / "no", public), r"there is no .*no"),
        (lambda: sign(file, tmp_path / "nokey"), r"there is no key .*nokey"),
        (lambda: sign(file, tmp_path / "junk"), r"cannot sign .*model.gguf with .*junk: \S+"),
        (
            lambda: sign(tmp_path / "folder", private, tmp_path / "folder" / "s"),
            r"is inside of .*folder, whose files it is to sign",
        ),
        (
            lambda: sign(file, private, tmp_path / "junk" / "s"),
            r"^no signature can be written to .*junk/s: .*; choose another place with signature= \(--signature FILE\)$",
        ),
    ):
        with pytest.raises(ExportError, match=message):
            call()
    assert not (tmp_path / "model.gguf.sig").exists()


@pytest.mark.parametrize("call", [sign, verify])
def test_a_package_that_cannot_be_imported(call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_signing", None)
    for name in [name for name in sys.modules if name.startswith("model_signing.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(
        ExportError, match=r"need the packages model-signing and pyopenssl \(.*pip install 'bluedit\[signing\]'"
    ):
        call(tmp_path, tmp_path / "key.pem")
