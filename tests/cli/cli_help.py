"""Running commands on a toy model, and what every failure must look like."""

from __future__ import annotations

import sys
from pathlib import Path

from typer.testing import CliRunner

from bluedit.cli.app import app

FACT = "The mother tongue of {Danielle Darrieux} is => English"
SETTINGS = {
    "layers": "[1,2,3]",
    "preserve.lambda": "1",
    "objective.clamp": "5",
    "objective.steps": "4",
    "contexts.count": "1",
}
SET = [word for path, value in SETTINGS.items() for word in ("--set", f"{path}={value}")]
EDIT = ["--recipe", "memit-seq-blue", "--known", "edit", "--tokens", "480", "--allow-missed", *SET]


def run(*arguments, **options):
    """A command in this process."""
    return CliRunner().invoke(app, [str(a) for a in arguments], **options)


def command(*arguments) -> list[str]:
    """A command as a process of its own."""
    return [sys.executable, "-m", "bluedit", *map(str, arguments)]


def edit(model: Path, out: Path, *arguments):
    """`bluedit edit` with few steps on a toy; it must work."""
    result = run("edit", "-m", model, "-o", out, *EDIT, *arguments)
    assert result.exit_code == 0, result.stderr
    return result


def key_pair(folder: Path) -> tuple[Path, Path]:
    """A new private key for signing, and its public key."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    key, private, public = ec.generate_private_key(ec.SECP384R1()), folder / "key", folder / "pub"
    private.write_bytes(key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo))
    return private, public


def files(folder: Path) -> dict[str, bytes | None]:
    return {str(f.relative_to(folder)): f.read_bytes() if f.is_file() else None for f in sorted(folder.rglob("*"))}


def flat(text: str) -> str:
    return " ".join(text.split())


def assert_fails(result, code: int, text: str) -> None:
    """A refusal is one sentence on standard error that begins with `text`."""
    assert result.exit_code == code, (result.exit_code, result.stdout, result.stderr)
    assert flat(result.stderr).startswith(flat("bluedit: " + text)), result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def assert_fits(text: str, *words: str, width: int = 80) -> None:
    """No line is longer than the terminal, and no word is broken into pieces."""
    from rich.cells import cell_len

    lines = [line.rstrip() for line in text.split("\n")]
    assert all(cell_len(line) <= width for line in lines), max(lines, key=cell_len)
    found = set(text.split())
    missing = [word for word in " ".join(words).split() if word not in found]
    assert not missing, missing
