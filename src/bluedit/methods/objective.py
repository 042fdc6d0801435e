"""How the target z* of a fact is optimised."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bluedit.errors import RecipeError
from bluedit.methods.descent import Adam, Descent
from bluedit.methods.part import Part, part
from bluedit.options import choice, flag, number, whole

_CURRENT, _UNEDITED = "current", "unedited"
_LOSS, _ARGMAX = "loss", "argmax"


@dataclass(frozen=True)
class Objective(Part, slot="objective"):
    """The loss that z* minimises and how it is minimised (MEMIT, arXiv 2210.07229, section 4.2 and eq. 16)."""

    site: str = choice(
        "block", "where delta is added and z* is measured: the block's output or the MLP's", "block", "mlp"
    )
    learning_rate: float = number(
        0.5,
        "step size: Adam's for a coordinate; relative Adam's in units of |h| / sqrt(d_value), momentum's in units of |h|",
        positive=True,
    )
    steps: int = whole(25, "largest number of evaluations of the loss; the last one takes no step", low=1.0)
    clamp: float = number(0.75, "largest |delta| in units of |h|", positive=True)
    clamp_growth: float = number(
        0.0, "the clamp of a target that k facts share is multiplied by k to this power", high=1.0
    )
    clamp_again: float = number(
        1.0,
        "where facts are taught again because the model does not say them: factor on the clamp and on the step size, and divisor of the number of steps",
        positive=True,
    )
    steps_growth: float = number(
        0.0, "the number of evaluations for a target that k facts share is multiplied by k to this power", high=1.0
    )
    weight_decay: float = number(0.5, "weight of |delta| / |h|^2 in the loss")
    kl_factor: float = number(0.0625, "weight of the KL divergence on '{subject} is a' in the loss")
    stop_loss: float = number(0.05, "a fact is finished when its loss is below this, in nats")
    stop: str = choice(
        _LOSS,
        "argmax: a fact is also finished when the target is the first choice in every prompt (ENCORE)",
        _LOSS,
        _ARGMAX,
    )
    attention: bool = flag(False, "optimise a second vector at the attention's output and discard it (PMET)")
    adaptive: bool = flag(False, "multiply the likelihood by 0.1 while the target is the first choice (PMET)")
    weights: str = choice(_CURRENT, "weights on which targets are optimised (NSE: unedited)", _CURRENT, _UNEDITED)
    kl_anchor: str = choice(_CURRENT, "weights whose distribution the KL term stays close to", _CURRENT, _UNEDITED)
    norm_anchor: bool = flag(False, "rescale targets to the mean norm of values on the unedited model (NAS)")
    together: bool = flag(
        False, "optimise the targets of all layers at once before the first write, then only correct the last one"
    )
    correction: int = whole(
        5, "with together: largest number of evaluations for the last target, on the weights written so far", low=1.0
    )
    rotate: bool = flag(False, "each evaluation takes one text of each group, in turn: more texts for the same time")
    variance: float = number(
        0.0, "weight of the variance of later hidden states at the subject over the prompt and its prefixes (CoRE)"
    )
    variance_layers: int = whole(5, "blocks above the target whose outputs count in that variance", low=1.0)
    others: int = whole(
        0, "texts about the subject, but not about the fact, whose next token the KL term holds as well", high=6.0
    )
    others_factor: float = number(0.0625, "weight of the mean KL divergence on these texts in the loss")
    teacher: float = number(
        0.0,
        "weight of KL(teacher || model) on the target; the teacher has read 'Imagine that FACT.' before the prompt (LTI)",
    )
    descent: Descent = part(Adam(), Descent)

    def check(self) -> None:
        """Raises RecipeError when its terms do not go together."""
        if self.variance and self.rotate:
            raise RecipeError(
                "objective.variance compares contexts, and with objective.rotate an evaluation has one of them; "
                "set objective.rotate=false"
            )

    def evaluations(self, facts: int) -> int:
        """Largest number of evaluations of the loss for a target that so many facts share."""
        return round(self.steps * facts**self.steps_growth)

    @property
    def again(self) -> Objective:
        """The objective for facts that are taught again: more room, and longer steps, so that fewer cross it."""
        more = self.clamp_again
        steps = max(min(2, self.steps), round(self.steps / more))  # the last evaluation takes no step
        return replace(self, clamp=more * self.clamp, learning_rate=more * self.learning_rate, steps=steps)

    @property
    def stops_when_said(self) -> bool:
        """Whether a fact is also finished when its target is the first choice in every prompt."""
        return self.stop == _ARGMAX

    @property
    def uses_unedited_weights(self) -> bool:
        """Whether targets are optimised on the unedited weights."""
        return self.weights == _UNEDITED

    @property
    def anchors_on_unedited_weights(self) -> bool:
        """Whether the KL term stays close to what the unedited weights say."""
        return self.kl_anchor == _UNEDITED

    @property
    def summary(self) -> str:
        """Where targets live and on which weights they are optimised, in a few words."""
        return (
            {"block": "block output", "mlp": "MLP output"}[self.site]
            + (" with attention output" if self.attention else "")
            + (", on the unedited weights" if self.uses_unedited_weights else "")
        )
