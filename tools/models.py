"""Run the matrix of model families and methods, and write docs/models.md from the table that it verified.

    python tools/models.py [--page-only]

The table is tests/families.py: one toy of transformers' own class for each family. The page is written only if every cell passes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from bluedit.markdown import table  # noqa: E402
from families import FAMILIES, METHODS  # noqa: E402

if TYPE_CHECKING:
    from families import Family

PAGE = ROOT / "docs" / "models.md"
TESTS = "tests/editing/test_families.py"
PATHS = {"Packed": "packed", "Padded": "padded", "Reference": "reference"}
SAMPLED = {"Growing": "own cache in place", "Own": "the model's cache", "Whole": "whole rows (slow)"}
INTRO = f"""# Models

Which model families bluedit edits, on which path, and which it refuses. Made by `python tools/models.py` from runs; do not edit by hand.

Nothing here is configured by family: blocks, projections and paths are found and measured when a model is opened. A family that is not
listed has a good chance to work. Each row was verified on a toy of transformers' own class with random weights (3 layers, width 32):

- the anatomy is found, and the path and the way of sampling are those of the table;
- a fact is learned with each of the methods {", ".join(f"`{method}`" for method in METHODS)}, as far as the family allows them;
- no weights change but the projections that the recipe writes;
- undoing gives back every bit.

A toy shows that the code fits a family. It says nothing about how well real models of the family keep facts.

**Path**: how targets are optimised. *Packed* puts all prompts into one sequence without padding and is the fastest. *Padded* has one row a
prompt, after cached keys and values. *Reference* runs whole rows through all layers and is several times slower; a line in the log says why.
**Sampling**: what keeps earlier tokens while text for statistics and prefixes is sampled from the model.
**Spread**: whether recipes that distribute a residual over layers work. Where the block normalises its MLP's output, no layer can write what
another one needs; `-blue` recipes and `schedule=single` find their targets at the projection itself, through the norm.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page-only", action="store_true", help="do not run the matrix first")
    if not parser.parse_args().page_only:
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", TESTS], cwd=ROOT)
        if done.returncode:
            sys.exit(
                f"the matrix failed, so {PAGE.relative_to(ROOT)} was not written; correct tests/families.py or the code"
            )
    PAGE.write_text(page(FAMILIES), encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE.relative_to(ROOT)}\n")


def page(families: Sequence[Family]) -> str:
    """The page as Markdown."""
    text, seeing = ([f for f in families if not f.refused and f.vision is vision] for vision in (False, True))
    refused = [(f.about, f"`{f.kind}`", f.why) for f in families if f.refused]
    return "\n".join(
        [
            INTRO,
            f"## Edited: {len(text)} families\n",
            table(("models", "type", "path", "sampling", "spread", "note"), [_row(f) for f in text]),
            f"\n## Models with images: {len(seeing)} families\n",
            "The language model is edited, with facts in text. Give the processor's tokenizer.\n",
            table(("models", "type", "path", "sampling", "spread", "note"), [_row(f) for f in seeing]),
            "\n## Refused\n",
            "Each in a sentence that says why, when the model is opened. Encoder-decoders (T5, BART) and models whose weights stay quantised in "
            "memory are refused as well.\n",
            table(("models", "type", "why"), refused),
            "",
        ]
    )


def _row(family: Family) -> tuple[str, ...]:
    notes = [family.note] if family.note else []
    if family.scale != 1:
        notes.append(f"multiplies the MLP's output ({family.scale:g} in the toy); measured and divided out")
    spread = "yes" if family.spread else "no"
    return family.about, f"`{family.name}`", PATHS[family.path], SAMPLED[family.sampled], spread, "; ".join(notes)


if __name__ == "__main__":
    main()
