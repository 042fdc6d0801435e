"""A fact in one line, as the command line takes it: "The capital of {France} is => Rome"."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\\[{}]|\\=>|[{}]|=>")
_SHOWN = 120  # characters of a line in an error message
_LITERAL = "; braces that belong to the prompt are written \\{ and \\}"


def split_line(line: str) -> tuple[str, str, str]:
    """Prompt (with `{}`), subject and target of one line.

    The subject is the one `{...}`; the first `=>` after it ends the prompt, and all that follows is the target, braces and
    arrows included. In the prompt `\\{`, `\\}` and `\\=>` stand for the plain characters. Reads the line once.

    Raises:
        ValueError: no subject in braces or several, braces that do not match, or no `=>` after the subject.
    """
    pieces: list[str] = []
    subject: str | None = None
    done, opened = 0, -1
    for token in _TOKEN.finditer(line):
        mark, at = token.group(), token.start()
        if mark == "=>" and subject is not None and opened < 0:
            pieces.append(line[done:at])
            return "".join(pieces).strip(), subject.strip(), line[token.end() :].strip()
        if mark.startswith("\\") and opened < 0:
            pieces += [line[done:at], mark[1:]]
            done = token.end()
        elif mark == "{":
            if opened >= 0:
                raise _refusal(line, "a '{' is followed by another one before its '}'" + _LITERAL)
            opened = at
        elif mark == "}":
            if opened < 0:
                raise _refusal(line, "a '}' has no '{' before it" + _LITERAL)
            inner = line[opened + 1 : at].replace("\\{", "{").replace("\\}", "}").replace("\\=>", "=>")
            if not inner.strip():
                raise _refusal(line, "'{}' is empty; put the subject into it. Empty braces cannot be part of a prompt")
            if subject is not None:
                raise _refusal(line, f"both {subject!r} and {inner!r} are in braces{_LITERAL}")
            pieces += [line[done:opened], "{}"]
            subject, done, opened = inner, token.end(), -1
    raise _refusal(line, "no subject stands in braces" if subject is None else "no '=>' follows the subject")


def _refusal(line: str, why: str) -> ValueError:
    shown = line if len(line) <= _SHOWN else line[:_SHOWN] + "..."
    return ValueError(
        f"cannot read the fact {shown!r}; write it as 'The capital of {{France}} is => Rome': "
        f"the subject in braces once, then '=>' and the new target. Here {why}"
    )
