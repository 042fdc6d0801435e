"""The table of metrics: what each number is, how it is printed, and what is derived from the columns."""

import math

import pytest

from bluedit.evaluate.metrics import METRICS, OF_A_MODEL, means

NAN = float("nan")


def test_every_number_says_what_it_is():
    for metric in (METRICS | OF_A_MODEL).values():
        assert metric.definition and metric.source and metric.arrow in "↑↓"


def test_numbers_are_shown_in_their_units():
    assert METRICS["strict"].shown(0.5) == "50.0" and METRICS["fluency"].shown(5.5) == "5.50"
    assert METRICS["neighbour_kl"].shown(0.12345) == "0.123"
    assert METRICS["strict"].shown(NAN) == METRICS["strict"].shown(None) == ""
    assert [str(METRICS[name].unit) for name in ("strict", "plus_kl", "fluency")] == ["share", "nats", "bits"]


def test_the_best_of_several():
    assert METRICS["strict"].best([0.2, 0.7]) == 0.7 and METRICS["neighbour_kl"].best([0.2, 0.7]) == 0.2


def test_means_leave_out_facts_without_a_value():
    found = means({"strict": [1.0, NAN, 0.0], "alias": [NAN, NAN]})
    assert found["strict"] == 0.5 and math.isnan(found["alias"])
    assert "score" not in found and "forcing_gap" not in found


@pytest.mark.parametrize(("values", "score"), [((0.5, 0.75, 2 / 3), 3 / (2 + 4 / 3 + 3 / 2)), ((1.0, 0.0, 1.0), 0.0)])
def test_the_score_is_the_harmonic_mean_of_three(values, score):
    columns = {name: [v] for name, v in zip(("efficacy", "generalisation", "specificity"), values, strict=True)}
    assert means(columns)["score"] == pytest.approx(score)
    assert "score" not in means(columns | {"specificity": [NAN]})


def test_the_gap_to_teacher_forcing():
    assert means({"accuracy": [0.5, 1.0], "generated": [0.0, 1.0]})["forcing_gap"] == 0.25
