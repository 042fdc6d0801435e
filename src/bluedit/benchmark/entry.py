"""Names of a benchmark's entries."""

from __future__ import annotations


def family(name: str) -> tuple[str, bool]:
    """(a recipe's name without what makes it BLUE, whether it is); other settings after ":" stay. A schedule among these decides."""
    base, _, rest = name.partition(":")
    items = {key: value for key, _, value in (item.partition("=") for item in rest.split(",") if item)}
    blue = items.get("schedule", "boundary" if base.endswith("-blue") else "") == "boundary"
    if blue:
        base = base.removesuffix("-blue")
        items.pop("schedule", None)
    settings = ",".join(f"{key}={value}" for key, value in items.items())
    return base + (f":{settings}" if settings else ""), blue
