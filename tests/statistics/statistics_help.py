"""What the tests of key statistics share."""

import json
from contextlib import contextmanager

import torch
from safetensors.torch import save_file

from bluedit.model.editable import EditableModel
from bluedit.model.fingerprint import weights_fingerprint
from bluedit.progress import Progress
from bluedit.statistics.store import MomentStore
from bluedit.text.corpus import Corpus
from toys import toy_gpt2, toy_llama, toy_tokenizer

MODELS = {"llama": toy_llama, "gpt2": toy_gpt2}


def toy(family="llama", **options):
    return EditableModel.of(MODELS[family](**options), toy_tokenizer(bos=True), family)


def store(lm, folder, corpus="self", tokens=200, **options):
    return MomentStore(lm, weights_fingerprint(lm.model), Corpus(str(corpus)), tokens, folder, **options)


class Counting(Progress):
    """Raises KeyboardInterrupt when the key statistics have reported this many texts; counts what was reported."""

    def __init__(self, stop=None):
        self.stop, self.seen = stop, []

    def task(self, title, total, unit=""):
        @contextmanager
        def of_statistics():
            def advance(count=1):
                if title == "key statistics":
                    self.seen.append(count)
                    if self.stop is not None and sum(self.seen) >= self.stop:
                        raise KeyboardInterrupt

            yield advance

        return of_statistics()


def dense(lm, rows, layer):
    """Mean of k k^T, one unpadded row at a time."""
    module = lm.anatomy.projections[layer].module
    total, count = 0, 0
    for row in rows:
        seen = []
        handle = module.register_forward_pre_hook(lambda _m, args, seen=seen: seen.append(args[0][0]))
        with torch.no_grad():
            lm.model(input_ids=torch.tensor([row]))
        handle.remove()
        for k in seen[0]:
            total, count = total + torch.outer(k, k), count + 1
    return total / count, count


def damage(file, how, moments):
    if how == "cut off":
        file.write_bytes(file.read_bytes()[:-100])
    elif how == "no metadata":
        save_file({"second_moment": torch.eye(48)}, file)
    elif how == "not safetensors":
        file.write_text("second moment")
    elif how == "bad metadata":
        save_file({"second_moment": torch.eye(48)}, file, {"identity": "{", "tokens_seen": "1", "layer": "1"})
    elif how == "no tensor":
        metadata = {"identity": json.dumps(moments.identity), "tokens_seen": "200", "layer": "1"}
        save_file({"something": torch.eye(48)}, file, metadata)


def silence(lm, monkeypatch):
    def forward(*_args, **_kwargs):
        raise AssertionError("the model ran")

    monkeypatch.setattr(lm.model, "forward", forward)
