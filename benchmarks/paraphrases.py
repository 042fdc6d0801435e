"""What the paraphrases of EasyEdit's CounterFact file ask, and how a benchmark's recipes do on each kind.

    python benchmarks/paraphrases.py counterfact_easyedit.jsonl runs/lasting            # a table: one row for each recipe of the run
    python benchmarks/paraphrases.py counterfact_easyedit.jsonl --write true.jsonl      # the records with true paraphrases, as a file

The file's `rephrase_prompt` is one of two things. Either it states the relation in other words, after an unrelated sentence
(CounterFact's `paraphrase_prompts`), or it is a fixed wording that comes back for many subjects (`generation_prompts`): "{} is known for",
"One can get to {} by navigating". A text of the second kind was made to let a model write freely. Seldom is the new target a right
continuation. A text belongs to the first kind if no other record has it with another subject.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

SCORES = ("strict", "generated_paraphrase", "strict_paraphrase")


def template(text: str, subject: str) -> str:
    """The text with a mark for its subject."""
    return text.replace(subject, "{}")


def true_paraphrases(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The records whose paraphrase no other record has in the same words."""
    texts = [template(record["rephrase_prompt"], record["subject"]) for record in records]
    count = Counter(texts)
    return [record for record, text in zip(records, texts, strict=True) if count[text] == 1 and "{}" in text]


def scores_of(row: Path, true: set[str]) -> dict[str, list[dict[str, float]]]:
    """The scores of a row's facts by kind of paraphrase."""
    found: dict[str, list[dict[str, float]]] = {"paraphrase": [], "fixed wording": []}
    for entry in json.loads((row / "facts.json").read_text("utf-8"))["facts"]:
        kind = "paraphrase" if entry["fact"]["paraphrases"][0] in true else "fixed wording"
        found[kind].append(entry["scores"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("facts", type=Path, help="EasyEdit's CounterFact file")
    parser.add_argument("runs", type=Path, nargs="*", help="folders of benchmarks over that file")
    parser.add_argument("--write", type=Path, help="write the records with true paraphrases to this file")
    given = parser.parse_args()
    try:
        records = [json.loads(line) for line in given.facts.read_text("utf-8").splitlines() if line.strip()]
        right = all({"subject", "rephrase_prompt"} <= set(record) for record in records)
    except OSError as error:
        parser.error(f"{given.facts} cannot be read: {error.strerror or error}")
    except (ValueError, TypeError):
        right = False
    if not right:
        parser.error(
            f"{given.facts} is not EasyEdit's CounterFact file: each line is an object with a subject and a rephrase_prompt"
        )
    chosen = true_paraphrases(records)
    print(f"{len(chosen)} of {len(records)} records have a true paraphrase, the others one of the fixed wordings")
    if given.write:
        given.write.write_text("".join(json.dumps(record) + "\n" for record in chosen), encoding="utf-8")
        print(f"Written to {given.write}")
    true = {record["rephrase_prompt"] for record in chosen}
    for run in given.runs:
        print(f"\n| {run.name} | asked | facts | {' | '.join(SCORES)} |\n|{'---|' * (3 + len(SCORES))}")
        for row in sorted(path.parent for path in run.glob("*/facts.json")):
            for kind, scores in scores_of(row, true).items():
                if not scores:
                    continue
                means = [100 * sum(one.get(name, float("nan")) for one in scores) / len(scores) for name in SCORES]
                print(f"| {row.name} | {kind} | {len(scores)} | {' | '.join(f'{mean:.1f}' for mean in means)} |")


if __name__ == "__main__":
    main()
