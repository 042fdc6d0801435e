"""The files of a benchmark: what is written is read back, and what is damaged is said in a sentence."""

import json
import math
import random
from dataclasses import asdict

import pytest

from bluedit.benchmark.page import write_page
from bluedit.benchmark.reading import read_benchmark
from bluedit.benchmark.record import (
    FILES,
    BatchRecord,
    EntryLog,
    Failure,
    FineTuned,
    Measured,
    read,
    read_configuration,
    write,
    write_configuration,
)
from bluedit.benchmark.results import rows_of, write_table
from bluedit.errors import BenchmarkError
from bluedit.evaluate.data import Ability, HiddenDrift, Training

NAN = float("nan")
ABILITIES = {"rte": Ability("rte", 0.5, 0.25, 8)}
RECORDS = [
    EntryLog("memit", (BatchRecord(2, 1, 0.5, ((4, 0.5),), {4: 0.1}, Measured({"strict": 1.0}, ({},), ABILITIES)),)),
    EntryLog("unedited", (BatchRecord(2, 0, 0.0, (), {}, None),)),
    HiddenDrift(7, 0.5, ((0.0, 1.0),), ((0.5, 1.0),), (0.5, 0.25)),
    FineTuned(Training(5, 1e-4, 2, 1), {"strict": 1.0}, {"strict": 0.5}, ABILITIES),
    Failure("memit", "the batch is singular"),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_what_is_written_is_read_back(tmp_path, record):
    write(record, tmp_path)
    assert read(type(record), tmp_path) == record
    assert read(type(record), tmp_path / "elsewhere") is None


def test_a_configuration_is_read_back(run, tmp_path):
    found = read_configuration(run)
    write_configuration(found, tmp_path)
    assert read_configuration(tmp_path) == found


def test_what_is_not_a_number_is_written_as_null(tmp_path):
    write(EntryLog("x", (BatchRecord(1, 1, 0.0, (), {}, Measured({"strict": NAN}, ({},), {})),)), tmp_path)
    assert "null" in (tmp_path / "batches.json").read_text()
    assert math.isnan(read(EntryLog, tmp_path).batches[0].measured.all["strict"])


def damage(log, **values):
    """The log with other values in its first batch, or in what was measured after it (names with a leading m_)."""
    log = json.loads(json.dumps(log))
    for name, value in values.items():
        target = log["batches"][0]["measured"] if name.startswith("m_") else log["batches"][0]
        target[name.removeprefix("m_")] = value
    return log


GOOD = json.loads(json.dumps(asdict(RECORDS[0])))
DEEP = json.loads("[" * 30 + "]" * 30)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (3, "it is 3, not an object"),
        ([], "it is a list, not an object"),
        ({"entry": "memit"}, "it lacks 'batches'"),
        (GOOD | {"more": 1}, "it has the unknown key 'more'"),
        (GOOD | {"entry": None}, "entry is null, not text"),
        (GOOD | {"batches": {}}, "batches is an object, not a list"),
        (damage(GOOD, facts="2"), 'batches[0].facts is "2", not a whole number'),
        (damage(GOOD, facts=True), "batches[0].facts is true, not a whole number"),
        (damage(GOOD, facts=2.5), "batches[0].facts is 2.5, not a whole number"),
        (damage(GOOD, facts=0), "batches[0].facts is 0, and it must be at least 1"),
        (damage(GOOD, seconds="fast"), 'batches[0].seconds is "fast", not a number'),
        (damage(GOOD, seconds=-1), "batches[0].seconds is -1.0, and it must be at least 0"),
        (damage(GOOD, seconds=None), "batches[0].seconds is nan, and it must be at least 0"),
        (damage(GOOD, reach=[[4]]), "batches[0].reach[0] has 1 items and needs 2"),
        (damage(GOOD, norms={"x": 1}), "batches[0].norms has the key 'x', which is not a number"),
        (damage(GOOD, measured=[]), "batches[0].measured is a list, not an object"),
        (damage(GOOD, m_by_batch=[]), "batches[0].measured.by_batch is empty"),
        (damage(GOOD, m_all={"strict": "high"}), "batches[0].measured.all['strict'] is \"high\", not a number"),
        (damage(GOOD, m_all={"strict": 2}), "batches[0].measured.all['strict'] is 2, and a share is between 0 and 1"),
        (damage(GOOD, m_abilities={"rte": None}), "batches[0].measured.abilities['rte'] is null, not an object"),
        (damage(GOOD, m_all={"plus_kl": DEEP}), "it is nested more than 20 levels deep"),
        (damage(GOOD, m_all={"plus_kl": 10**400}), "it holds a number larger than 1e+305"),
        (GOOD | {"entry": "\ud800"}, "'\\ud800' is not text: it holds half a surrogate pair"),
    ],
)
def test_damaged_content_is_said_in_a_sentence(tmp_path, value, reason):
    (tmp_path / "batches.json").write_text(json.dumps(value))
    with pytest.raises(BenchmarkError) as caught:
        read(EntryLog, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'batches.json'} is damaged ({reason}); delete the folder {tmp_path} and run the same benchmark again: "
        "the entry then starts anew"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[{", "it is not JSON: Expecting property name enclosed in double quotes: line 1 column 3 (char 2)"),
        ("[1e999]", "it holds a number larger than 1e+305"),
        ("[NaN]", "it is not JSON: NaN is not a JSON number"),
        ("[-Infinity]", "it is not JSON: -Infinity is not a JSON number"),
        ("[" * 10**6, "it is nested too deeply"),
        ("[" + "9" * 5000 + "]", "it is not JSON: Exceeds the limit"),
        ("\udcff", "it is not JSON: 'utf-8' codec can't decode"),
    ],
)
def test_text_that_is_not_as_bluedit_writes_it(tmp_path, text, reason):
    (tmp_path / "batches.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(BenchmarkError) as caught:
        read(EntryLog, tmp_path)
    assert f"batches.json is damaged ({reason}" in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "memit/batches.json", "memit/facts.json"])
def test_any_flipped_bit_is_noticed(run, name):
    file, chance, whole = run / name, random.Random(0), read_benchmark(run)
    data = file.read_bytes()
    for _ in range(100):
        flipped = bytearray(data)
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(flipped)
        try:  # white space may change
            assert repr(read_benchmark(run)) == repr(whole)
        except BenchmarkError:
            continue


def test_a_record_without_a_digest_is_read_and_one_with_another_is_refused(run):
    file = run / "memit" / "batches.json"
    said, whole = json.loads(file.read_text("utf-8")), read(EntryLog, run / "memit")
    file.write_text(json.dumps({key: value for key, value in said.items() if key != "digest"}))
    assert repr(read(EntryLog, run / "memit")) == repr(whole)
    said["batches"][0]["seconds"] += 1
    file.write_text(json.dumps(said))
    with pytest.raises(BenchmarkError, match=r"batches.json is damaged \(it was changed after it was written\)"):
        read(EntryLog, run / "memit")


ODD = (None, True, -1, 0, 7, 1e305, -1e305, 1e-300, "", "x", [], {}, [[]], DEEP, "\ud800")


def test_whatever_a_file_holds_the_page_is_made_or_refused_in_a_sentence(run, tmp_path):
    """Each value of each file is replaced by odd ones, several hundred of them drawn by a fixed seed."""
    write(HiddenDrift(7, 0.5, ((0.0, 1.0), (1.0, 0.0)), ((0.5, 1.0), (2.0, 0.0)), (0.5, 0.25)), run / "memit")
    write(FineTuned(Training(5), {"strict": 1.0}, {"strict": 0.5}, ABILITIES), run / "memit")
    write(Failure("memit-blue", "it failed"), run / "memit")
    files = [run / "config.json", *(run / "memit" / name for name in FILES.values())]
    for file in files:  # with its digest, every change would be refused
        said = json.loads(file.read_text("utf-8"))
        file.write_text(json.dumps({key: value for key, value in said.items() if key != "digest"}))
    places = [(file, path) for file in files for path in paths(json.loads(file.read_text("utf-8")))]
    draw, shown, refused = random.Random(0), 0, 0
    for file, path in draw.sample(places, 150):
        text = file.read_text("utf-8")
        for odd in draw.sample(ODD, 3):
            file.write_text(json.dumps(replaced(json.loads(text), path, odd)))
            try:
                found = read_benchmark(run)
                write_table(rows_of(entry.log for entry in found.entries), tmp_path)
                write_page([run], tmp_path / "page.html")
                shown += 1
            except BenchmarkError as error:
                assert "; " in str(error), "what to do is missing"
                refused += 1
        file.write_text(text)
    assert shown > 20 and refused > 200


def paths(value, path=()):
    """Paths to all values within a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from paths(inner, (*path, key))


def replaced(value, path, new):
    if not path:
        return new
    value[path[0]] = replaced(value[path[0]], path[1:], new)
    return value
