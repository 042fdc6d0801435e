"""How commands show their help and end with an error."""

from __future__ import annotations

import sys
from typing import Any

from typer.core import TyperCommand, TyperGroup

from bluedit.cli.common import with_options
from bluedit.cli.output import fail, interrupted, silence
from bluedit.errors import BluEditError, ModelError, out_of_memory
from bluedit.files import cache_dir, written
from bluedit.interrupts import was_interrupted


class Command(TyperCommand):
    """A command whose help lists its options by section (`rich_help_panel`), without rich: fast, and no word is broken."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        pieces = ["[OPTIONS]"]
        for parameter in self.get_params(ctx):
            if parameter.param_type_name == "argument":
                name = f"{parameter.name.upper()}{'...' if parameter.nargs == -1 else ''}"
                pieces.append(name if parameter.required else f"[{name}]")
        return pieces

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record, section = parameter.get_help_record(ctx), "Options"
            if record is not None:
                if parameter.param_type_name == "argument":
                    record, section = (parameter.name.upper(), record[1]), "Arguments"
                sections.setdefault(getattr(parameter, "rich_help_panel", None) or section, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def in_workspace(name: str) -> str:
    """What a command is called that `bluedit -C DIR name` runs instead of `bluedit name`."""
    return f"{name}-in-workspace"


class Group(TyperGroup):
    """Turns errors of any command into one sentence on standard error and an exit code. With -C, some names mean other commands."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        other = in_workspace(cmd_name)
        inside = ctx.params.get("workspace") and other in self.commands
        return super().get_command(ctx, other if inside else cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Some commands are named by two words, such as "facts expand", beside one that is named by the first alone."""
        two = " ".join(args[:2])
        if len(args) > 1 and two in self.commands:
            return two, self.commands[two], args[2:]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        written.clear()
        try:
            return super().invoke(ctx)
        except BluEditError as error:
            if was_interrupted(error):
                interrupted(done())
            fail(with_options(str(error)), error.exit_code)
        except KeyboardInterrupt:
            interrupted(done())
        except BrokenPipeError:
            silence(sys.stdout.fileno())
            sys.exit(141)
        except OSError as error:
            where = error.filename or "a file"
            fail(f"cannot read or write {where}: {error.strerror or error}; {done()}", BluEditError.exit_code)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            fail(
                "not enough memory; use a smaller --tokens-per-step or --batch-size, or --dtype bfloat16",
                ModelError.exit_code,
            )


def done() -> str:
    """What a command has written before it ended, apart from caches and from what it took away again."""
    try:
        cached = cache_dir().absolute()
    except BluEditError:  # a user without a home
        cached = None
    results = [place for place in written if cached not in place.absolute().parents and place.exists()]
    parents = [place.parent for place in results]
    shown = dict.fromkeys(str(place if parents.count(place.parent) == 1 else place.parent) for place in results)
    return f"written before that: {', '.join(shown)}" if shown else "nothing was changed"
