"""The explanation of an edit as one HTML page."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Sequence

from bluedit.explain._edit_data import FORMS, INTERFERES, Asked, EditExplanation, Position, Role
from bluedit.page import Axis, Bars, Chart, Line, document, table, text_cell

NONE = "–"
_LINES = 7  # texts in one chart: as many as there are colours besides grey
_FORM_COLOURS = {form: number for number, form in enumerate(FORMS)}
_LENS = (
    "At each layer the hidden state where the answer begins is put through the model's own final norm and head. The last point is what the "
    "model says. Dashed and hollow: the unedited model. Of an answer of several tokens it is the geometric mean, each token given those before it."
)
_TEXTS = (
    "The same reading of the edited model for each text. Compare it with what each text receives of the change. A text that receives as much "
    "as the prompt, and whose line stays low all the same, fails in the value: the layers above make something else of it. A text that "
    "receives little fails in the key."
)
_RECEIVED = (
    "Share of the residual that the batch's change of the weights delivers at each text's key, over all written layers. Numbers as in the "
    "table of texts. Near 1: the text gets all that was written for the fact. Neighbours should be near 0."
)
_WRITTEN = (
    "<b>share</b>: the part of the missing residual that the schedule gave to this write. <b>|r|</b>: what it was to add. <b>reach</b>: how "
    "much of r arrived at the stored key; <b>delivered</b> is the same from the change of the weights after filters. <b>part of the move</b>: of "
    "all that the hidden state moved at the last written layer, what came with this write."
)
_POSITIONS = (
    " A text that starts with the subject is written at the <b>token after it</b>, with a target of its own, because nothing can be stored at the "
    "first token of a text. It gets up to three rounds. Texts in which the subject is spelled with <b>other tokens</b>, as without a space before it, or has another name "
    "have a target of their own, too. The fact's other texts are written at the subject."
)
_ARRIVED = (
    "The hidden state on the bare prompt, against the whole residual of each target: when the batch was complete, and with all later batches. "
    "1 is all of it; more than 1 is possible, because a write also takes effect through the layers between."
)
_ASKED = (
    "<b>key at</b>: the token whose key is looked at, the subject's last one (the one after it, where the subject is the text's first token) or, "
    "where the text does not name the subject, the one that receives most. <b>match</b>: k_s<sup>T</sup> G k / k_s<sup>T</sup> G k_s with the stored key k_s, by layer. <b>delivered</b>: ⟨ΔW k, r⟩ / |r|², by layer. "
    "<b>p(new)</b>, <b>p(old)</b>: of the whole answer, which is a sentence where one was taught. "
    "<b>ahead</b>: by how many nats the old answer (a neighbour's own answer) is more probable than the new one."
)
_SAYS = (
    "Each text in full, as the model gets it, and what the model writes after it, without and with the edits. It may write as many tokens as "
    "the new answer has, and some to see how it goes on."
)
_OTHERS = (
    "Edits whose keys or changes come nearest. <b>match</b>: whitened match of the two keys in the metric of the other write. <b>adds</b>: what the other "
    f"change adds at this fact's key, in shares of this residual; <b>takes</b>: what this change adds at the other's. From {INTERFERES:g} on, they interfere."
)


def page_of(found: EditExplanation) -> str:
    """The whole page."""
    fact = found.fact
    header = (
        f'<p class="lead">{html.escape(found.sentence)}</p>'
        f"<p>Fact {found.number}: {html.escape(fact.text)} ⇒ <b>{html.escape(fact.target)}</b>"
        f"{f' (old answer: {html.escape(fact.old_target)})' if fact.old_target else ''}. Written with "
        f"{html.escape(found.recipe)} into {html.escape(found.model)}, batch {found.batch} of {found.batches}.{_again(found)}</p>"
    )
    note = f"<p>{html.escape(found.reading_note)}</p>" if found.reading_note else ""
    charts = "".join(chart.html() for chart in charts_of(found))
    tables = "".join(filter(None, [_says(found), _asked(found), _written(found), _arrived(found), _others(found)]))
    return document(
        "Why an edit succeeds or fails", header, f'<section>{note}<div class="charts">{charts}</div>{tables}</section>'
    )


def _again(found: EditExplanation) -> str:
    if len(found.writings) < 2:
        return ""
    listed = ", ".join(map(str, found.writings))
    return f" It was written more than once, in batches {listed}; this is about the last of them."


def charts_of(found: EditExplanation) -> Iterator[Chart]:
    """The figures of the page."""
    layers = Axis("layer")
    probability = Axis("probability per token", log=True)
    prompt = found.asked[0]
    series = []
    for name, lens, colour in ((found.fact.target, prompt.lens, 0), (prompt.rival or "", prompt.rival_lens, 1)):
        if lens:
            series += [
                Line(f"{name}, unedited", _points(lens.before, lens.tokens), colour, hollow=True),
                Line(f"{name}, edited", _points(lens.after, lens.tokens), colour),
            ]
    yield Chart("lens", "The answers through the layers, at the prompt", layers, probability, series, _LENS)
    others = [
        Line(f"{number} {one.form}", _points(one.lens.after, one.lens.tokens), number % _LINES)
        for number, one in enumerate(found.asked, 1)
        if one.lens
    ]
    for start in range(0, len(others) if len(others) > 1 else 0, _LINES):
        number = start // _LINES + 1
        title = f"{found.fact.target!r} through the layers, after each text{f' ({number})' if number > 1 else ''}"
        yield Chart(
            f"texts-{number}" if number > 1 else "texts",
            title,
            layers,
            probability,
            others[start : start + _LINES],
            _TEXTS,
        )
    bars = [
        Bars(form, [(float(n), one.received) for n, one in enumerate(found.asked, 1) if one.form == form and one.received is not None], colour)
        for form, colour in _FORM_COLOURS.items()
    ]  # fmt: skip
    if any(one.points for one in bars):
        ticks = [(float(n), str(n)) for n in range(1, len(found.asked) + 1)]
        share = Axis("share of the residual", include=(0.0, 1.0))
        shown = [one for one in bars if one.points]
        yield Chart("received", "What each text receives of the change", Axis("text", ticks), share, shown, _RECEIVED)


def _points(values: Sequence[float], tokens: int) -> list[tuple[float, float]]:
    """Geometric means over the answer's tokens, so that short and long answers can be compared."""
    return [(float(layer), value ** (1 / tokens)) for layer, value in enumerate(values)]


def _says(found: EditExplanation) -> str:
    says = ("without the edits", "with the edits")
    rows = [
        (
            _pre(f"{number} {one.text}"),
            [*_cells([one.form]), *(text_cell(_pre(text)) for text in (one.says_before, one.says)), *_cells([outcome(one)])],
        )
        for number, one in enumerate(found.asked, 1)
    ]  # fmt: skip
    return table("What the model says", _SAYS, ("text", "form", *says, "said"), rows, says)


def _pre(text: str) -> str:
    """A text in full, with its line ends."""
    return f'<span style="white-space: pre-wrap">{html.escape(text)}</span>' if text else "(nothing)"


def _asked(found: EditExplanation) -> str:
    heads = ("text", "form", "key at", "match", "delivered", "received", "p(new)", "p(old)", "ahead, nats", "said")
    rows = []
    for number, one in enumerate(found.asked, 1):
        cells = (
            one.form,
            repr(one.token),
            _by_layer(one.match),
            _by_layer(one.delivered),
            shown(one.received),
            _change(one.target_before, one.target_after),
            _change(one.rival_before, one.rival_after),
            shown(one.ahead, 1),
            outcome(one),
        )
        rows.append((html.escape(f"{number} {' '.join(one.prompt.split())}"), _cells(cells)))
    return table("Texts", _ASKED, heads, rows)


def _change(before: float | None, after: float | None) -> str:
    return NONE if before is None or after is None else f"{probability(before)} → {probability(after)}"


def _written(found: EditExplanation) -> str:
    heads = ("layer", "at", "for layer", "share", "|r|", "reach", "delivered", "part of the move")
    rows = [
        (
            str(one.layer),
            _cells(
                (
                    one.position,
                    NONE if one.target is None else str(one.target),
                    *map(shown, (one.share, one.residual, one.reach, one.delivered, one.part)),
                )
            ),
        )
        for one in found.written
    ]
    filters = "" if found.filters is None else f" Filters made {shown(found.filters)} of the move."
    return table("Writes", f"{_WRITTEN}{filters}{_positions(found)}", heads, rows)


def _positions(found: EditExplanation) -> str:
    return _POSITIONS if any(one.position is not Position.SUBJECT for one in found.written) else ""


def _arrived(found: EditExplanation) -> str:
    if not found.arrivals:
        return ""
    heads = ("target at layer", "at", "|residual|", "|h|", "arrived", "now")
    rows = [
        (str(one.layer), _cells([one.position, *map(shown, (one.wanted, one.start, one.arrived, one.now))]))
        for one in found.arrivals
    ]
    return table("What arrived", _ARRIVED, heads, rows)


def _others(found: EditExplanation) -> str:
    if not found.others:
        return ""
    heads = ("edit", "when", "match", "adds", "takes", "interferes")
    rows = [
        (
            html.escape(f"{numbered(one.number)}{one.prompt} ⇒ {one.target}"),
            _cells((one.when, *map(shown, (one.match, one.adds, one.takes)), "yes" if one.interferes else "no")),
        )
        for one in found.others
    ]
    moved = ", ".join(f"{when} {value:+.2f}" for when, value in found.moved_by.items())
    return table("Other edits", f"{_OTHERS} All others together add: {moved}.", heads, rows)


def numbered(number: int | None) -> str:
    """An edit's number before its text; nothing for one that is not in the patch."""
    return "" if number is None else f"{number}: "


def _cells(values: Sequence[str]) -> list[str]:
    return [f"<td>{html.escape(value)}</td>" for value in values]


def _by_layer(values: object) -> str:
    return ", ".join(f"{layer}: {shown(value)}" for layer, value in dict(values).items()) or NONE  # pyright: ignore


def outcome(asked: Asked) -> str:
    """Whether a text is answered as it should be: with the target, or as before for a neighbour."""
    yes, no = ("kept", "changed") if asked.role is Role.NEIGHBOUR else ("yes", "no")
    return yes if asked.good else no


def shown(value: float | None, digits: int = 2) -> str:
    """A number, or a dash where there is none."""
    if value is None:
        return NONE
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def probability(logprob: float) -> str:
    """A log-probability in nats as a probability."""
    value = math.exp(logprob)
    return f"{value:.2f}" if value >= 0.005 else f"{value:.0e}" if value else "0"
