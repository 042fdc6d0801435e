"""The search: trials are suggested one by one and kept in the folder, so that a search can be continued."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluedit.errors import ExplainError
from bluedit.evaluate.outcome import Outcome
from bluedit.tuning._space import Space

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

JOURNAL = "study.log"
_RANDOM = 6  # trials before the search follows what it has seen
_ATTEMPTS = 20  # at settings that are new
log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Tried:
    """A finished trial.

    Attributes:
        number: from 0, without trials that were interrupted or failed.
        settings: by path.
        outcome: on the search facts, or on the first of them where the trial ended there.
        score: of the outcome.
        first: the score on the first search facts.
        facts: how many it was measured on.
        seconds: it took.
        ended: whether it ended after the first facts, because the best one was better on these.
    """

    number: int
    settings: Mapping[str, Any]
    outcome: Outcome
    score: float
    first: float
    facts: int
    seconds: float
    ended: bool = False


class Search:
    """An Optuna study in a folder.

    The sampler (tree-structured Parzen estimator) is seeded anew for every trial with `seed` and the trial's number, so a search that was
    interrupted goes on as it would have.

    Raises:
        ExplainError: optuna is not installed.
    """

    def __init__(self, folder: Path, space: Space, seed: int) -> None:
        self.space, self.seed = space, seed
        self._optuna = optuna_module()
        with _quiet(self._optuna):
            storages = self._optuna.storages
            storage = storages.JournalStorage(storages.journal.JournalFileBackend(str(folder / JOURNAL)))
            self._study: Study = self._optuna.create_study(
                storage=storage, study_name="tune", direction="maximize", load_if_exists=True
            )
            self._clean_up()

    def _clean_up(self) -> None:
        """Trials that were interrupted are tried again; a new study begins with the base."""
        states = self._optuna.trial.TrialState
        for trial in self._study.get_trials(deepcopy=False, states=(states.RUNNING,)):
            self._study.enqueue_trial(trial.params or self.space.start())
            self._study.tell(trial.number, state=states.FAIL)
        if not self._study.trials:
            self._study.enqueue_trial(self.space.start())

    @property
    def tried(self) -> list[Tried]:
        """Finished trials, in order, with those that ended early."""
        states = self._optuna.trial.TrialState
        done = self._study.get_trials(deepcopy=False, states=(states.COMPLETE, states.PRUNED))
        return [
            _tried(number, trial) for number, trial in enumerate(one for one in done if "outcome" in one.user_attrs)
        ]

    @property
    def whole(self) -> list[Tried]:
        """Trials that were measured on all search facts."""
        return [one for one in self.tried if not one.ended]

    @property
    def count(self) -> int:
        """Trials that were begun, also those that failed."""
        return len(self._study.trials)

    def ask(self) -> tuple[Trial, dict[str, Any]] | None:
        """The next trial and its settings; None if the sampler only suggests settings that were measured already."""
        known = [tried.settings for tried in self.tried]
        samplers, states = self._optuna.samplers, self._optuna.trial.TrialState
        with _quiet(self._optuna):
            for _ in range(_ATTEMPTS):
                seed = self.seed * 100_003 + self.count
                self._study.sampler = samplers.TPESampler(seed=seed, n_startup_trials=_RANDOM)
                trial = self._study.ask()
                settings = self.space.ask(trial)
                if settings not in known:
                    return trial, settings
                self._study.tell(trial, state=states.PRUNED)
        return None

    def tell(self, trial: Trial, found: Tried) -> None:
        """Keep what a trial gave."""
        kept = {"settings": dict(found.settings), "outcome": found.outcome.numbers(), "first": found.first}
        for name, value in (kept | {"facts": found.facts, "seconds": found.seconds}).items():
            trial.set_user_attr(name, value)
        with _quiet(self._optuna):
            if found.ended:
                trial.report(found.score, step=found.facts)
                self._study.tell(trial, state=self._optuna.trial.TrialState.PRUNED)
            else:
                self._study.tell(trial, found.score)

    def fail(self, trial: Trial) -> None:
        """The trial's settings cannot be used."""
        with _quiet(self._optuna):
            self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)


def best_of(whole: Sequence[Tried]) -> Tried:
    """The trial with the highest score; the first of several."""
    return max(whole, key=lambda one: one.score)


def _tried(number: int, trial: FrozenTrial) -> Tried:
    found = trial.user_attrs
    ended = trial.state.name == "PRUNED"
    score = found["first"] if ended else trial.value
    assert score is not None
    outcome = Outcome(**found["outcome"])
    return Tried(number, found["settings"], outcome, score, found["first"], found["facts"], found["seconds"], ended)


def optuna_module() -> Any:
    """The optional package that searches.

    Raises:
        ExplainError: it is not installed.
    """
    try:
        import optuna
        import optuna.storages.journal
    except ImportError:
        raise ExplainError("tune searches with optuna, which is not installed; pip install 'bluedit[tune]'") from None
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Without optuna's own log lines; the level is as before afterwards."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def front(tried: list[Tried]) -> set[int]:
    """Numbers of the trials that no other one beats in success and in KL; those that ended early do not count."""
    tried = [one for one in tried if not one.ended]

    def beaten(one: Tried) -> bool:
        a = one.outcome
        return any(
            b.success >= a.success
            and b.passage_kl <= a.passage_kl
            and (b.success, b.passage_kl) != (a.success, a.passage_kl)
            for b in (other.outcome for other in tried)
        )

    return {one.number for one in tried if not beaten(one)}
