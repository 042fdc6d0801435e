"""The texts that ask for a fact: its prompt, the wordings it was taught in, its paraphrases, and its neighbours' prompts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bluedit.evaluate.said import mentions, said
from bluedit.facts.fact import Fact
from bluedit.facts.words import find_mention
from bluedit.methods.wordings import ChatForm, Wording, Wordings, is_question
from bluedit.spacing import continuation
from bluedit.text.prompts import encode, last_token_of
from bluedit.text.rows import Row, RowKind
from bluedit.text.wordings import encode_exact


@dataclass(frozen=True)
class Text:
    """A text, and the answers that are compared after it.

    Attributes:
        form: a key of `FORMS`.
        prompt: the text as the model gets it.
        answer, rival: what follows it, white space included: the new answer, and the old one or the neighbour's own.
        rival_name: the rival as it is shown.
        end: where the subject ends in it, in characters; None if it does not name the subject.
        in_passing: whether an answer may say the target in a sentence, as to a question.
        shown: the text as it is shown: in chat the user's turn, without the template.
    """

    form: str
    prompt: str
    answer: str
    rival: str | None
    rival_name: str | None
    end: int | None
    in_passing: bool = False
    shown: str = ""

    def said(self, text: str, target: str) -> bool:
        """Whether a continuation says the target. An answer to a question may say it in a sentence."""
        if self.in_passing:
            return mentions(text, target)
        return said(text if "\n" in target else text.strip().partition("\n")[0], target)

    def pairs(self, tokenizer: Any) -> list[tuple[list[int], list[int]]]:
        """Token ids of (prompt, new answer) and, if there is one, (prompt, rival)."""
        answers = [self.answer] if self.rival is None else [self.answer, self.rival]
        return [encode_exact(tokenizer, self.prompt, answer) for answer in answers]

    def rows(self, tokenizer: Any) -> list[Row]:
        """A row that ends at each token whose key may matter: the subject's last one, or all if the subject is not named.

        The first token of a text is an attention sink, where nothing is stored: the one after it stands for it.
        """
        ids, offsets = encode(tokenizer, self.prompt)
        first = min(1, len(ids) - 1)
        places = range(first, len(ids)) if self.end is None else [max(first, last_token_of(offsets, self.end))]
        return [Row(0, RowKind.BARE, tuple(ids[: at + 1]), at) for at in places]


def texts_of(fact: Fact, wordings: Wordings, chat: ChatForm | None) -> list[Text]:
    """All texts of a fact; the prompt comes first, the neighbours last."""
    taught = [wording for group in wordings.groups(fact, chat) for wording in group]
    found = [_taught(fact, wording) for wording in taught]
    found.sort(key=lambda text: text.form != "prompt")
    return [*found, *(_paraphrase(fact, text) for text in fact.paraphrases), *_neighbours(fact)]


def _taught(fact: Fact, wording: Wording) -> Text:
    """A wording, with the fact's bare target where the answer is not a sentence of its own."""
    template = wording.template
    prompt = template.replace("{}", fact.subject)
    end = template.index("{}") + len(fact.subject)
    form = _form(fact, template)
    shown = next((text for text in reversed(fact.texts) if text in prompt), prompt) if form == "chat" else prompt
    old = fact.old_target
    if wording.exact:
        rival = wording.answer.replace(fact.target, old) if old else None
        return Text(form, prompt, wording.answer, rival, old, end, in_passing=True, shown=shown)
    answer = continuation(prompt, fact.target, wording.joined)
    rival = continuation(prompt, old) if old else None
    return Text(form, prompt, answer, rival, old, end, in_passing=form == "question", shown=shown)


def _form(fact: Fact, template: str) -> str:
    if template == fact.prompt:
        return "prompt"
    if template in fact.phrasings:
        return "question" if is_question(template) else "phrasing"
    asked = any(template == f"Question: {text}\nAnswer:" for text in (fact.prompt, *fact.phrasings))
    return "question" if asked else "chat"


def _paraphrase(fact: Fact, prompt: str) -> Text:
    mention = find_mention(prompt, fact.subject)
    old = fact.old_target
    return Text(
        "paraphrase",
        prompt,
        continuation(prompt, fact.target),
        continuation(prompt, old) if old else None,
        old,
        mention.end if mention else None,
        in_passing=is_question(prompt),
        shown=prompt,
    )


def _neighbours(fact: Fact) -> Iterator[Text]:
    for neighbour in fact.neighbours:
        own = neighbour.answer
        rival = continuation(neighbour.prompt, own) if own else None
        answer = continuation(neighbour.prompt, fact.target)
        yield Text("neighbour", neighbour.prompt, answer, rival, own, None, shown=neighbour.prompt)
