"""Every method once more: dense, float64, one prompt at a time, transcribed from the papers' formulas.

Shares no code with bluedit but token rows and second moments, which have tests of their own.
"""

from __future__ import annotations

import math
import zlib

import torch

from bluedit.text.prompts import rows_of

PREFIXES = ("The weather was mild that morning.", "Therefore, the committee met again in the afternoon.")
LAYERS = (1, 2, 3)
LAMBDA, L2, KEEP, BASE, NEURONS, THRESHOLD = 3.0, 0.7, 0.4, 1.2, 0.5, 1.5
LOWER, UPPER = 0.05, 10.0
LEAKAGE, REFRESH, TOLERANCE, RATE = 0.8, 3, 1.1, 1.5  # BetaEdit, LyapLock
DOMINANT, PRINCIPAL, SOFTENED, SHARED = 0.3, 0.5, 0.5, 0.4  # energies of REVIVE, SPHERE (and its strength), SUIT


class ReferenceModel:
    """A model, its MLP output projections and what passes through them, by forward passes of single prompts."""

    def __init__(self, model, tokenizer=None):
        self.model, self.tokenizer = model, tokenizer
        self.blocks = model.transformer.h if hasattr(model, "transformer") else model.model.layers
        self.transposed = hasattr(model, "transformer")

    def projection(self, layer):
        mlp = self.blocks[layer].mlp
        return mlp.c_proj if self.transposed else mlp.down_proj

    def weight(self, layer):
        weight = self.projection(layer).weight.detach()
        return (weight.T if self.transposed else weight).clone()

    def set(self, layer, W):
        with torch.no_grad():
            self.projection(layer).weight.copy_(W.T if self.transposed else W)

    def read(self, row, site, layer):
        """What is at a site at the subject's last token."""
        seen = []
        module = self.blocks[layer] if site == "block" else self.projection(layer)

        def hook(_module, args, output):
            here = args[0] if site == "key" else output[0] if isinstance(output, tuple) else output
            seen.append(here[0, row.subject_last].clone())

        handle = module.register_forward_hook(hook)
        with torch.no_grad():
            self.model(input_ids=torch.tensor([row.ids]), use_cache=False)
        handle.remove()
        return seen[0]

    def read_moved(self, row, site, layer, first, z):
        """What is at a site when the state at layer `first` is z there."""

        def hook(_module, _args, output):
            (output[0] if isinstance(output, tuple) else output)[0, row.subject_last] = z

        handle = self.blocks[first].register_forward_hook(hook)
        found = self.read(row, site, layer)
        handle.remove()
        return found

    def key(self, fact, layer):
        rows = rows_of(self.tokenizer, [fact], PREFIXES)
        keys = [self.read(row, "key", layer) for row in rows]
        return keys[0] / 2 + sum(keys[1:]) / len(keys[1:]) / 2

    def value(self, fact, site, layer):
        return self.read(rows_of(self.tokenizer, [fact], ())[0], site, layer)

    def keys(self, facts, layer):
        return torch.stack([self.key(fact, layer) for fact in facts], dim=1)

    def projected(self, facts, layer):
        """W k* + b."""
        bias = self.projection(layer).bias
        out = self.weight(layer) @ self.keys(facts, layer)
        return out if bias is None else out + bias.detach()[:, None]

    def values(self, facts, site, layer):
        return torch.stack([self.value(fact, site, layer) for fact in facts], dim=1)


def target_change(fact, layer, like):
    """A stand-in for the optimised delta: a fixed vector for each fact and layer."""
    seed = zlib.crc32(f"{fact.text}{fact.target}{layer}".encode())
    return torch.randn(len(like), generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * like.norm()


# the papers' equations, dense


def memit(K, R, C, M):
    return R @ K.T @ torch.linalg.inv(LAMBDA * C + M + K @ K.T)


def emmet(K, R, C, M):
    inverse = torch.linalg.inv(C)
    return R @ torch.linalg.inv(K.T @ inverse @ K) @ K.T @ inverse


def rome(K, R, C, M):
    k, r = K[:, 0], R[:, 0]
    u = torch.linalg.solve(C, k)
    return torch.outer(r, u) / (u @ k)


def alphaedit(K, R, C, M):
    values, vectors = torch.linalg.eigh(C)
    null = vectors[:, values < THRESHOLD]
    P = null @ null.T
    return R @ K.T @ P @ torch.linalg.inv(K @ K.T @ P + M @ P + L2 * torch.eye(len(C), dtype=C.dtype))


def betaedit(K, R, C, M, refreshed):
    """AlphaEdit with leakage x C in the Gram matrix; `refreshed` is what the null space belongs to."""
    values, vectors = torch.linalg.eigh(refreshed)
    null = vectors[:, values < THRESHOLD]
    P = null @ null.T
    return R @ K.T @ P @ torch.linalg.inv((K @ K.T + M + LEAKAGE * C) @ P + L2 * torch.eye(len(C), dtype=C.dtype))


def nse(K, R, C, M):
    strength = K.abs().sum(dim=1)
    chosen, carried = [], 0.0
    for i in sorted(range(len(K)), key=lambda i: -float(strength[i])):
        if carried >= NEURONS * float(strength.sum()):
            break
        chosen.append(i)
        carried += float(strength[i])
    dW = torch.zeros(len(R), len(K), dtype=K.dtype)
    k = K[chosen]
    dW[:, chosen] = R @ k.T @ torch.linalg.inv(LAMBDA * C[chosen][:, chosen] + M[chosen][:, chosen] + k @ k.T)
    return dW


def rect(W, dW):
    change = (dW / W).abs().flatten()
    least = change.sort(descending=True).values[round(KEEP * change.numel()) - 1]
    return torch.where((dW / W).abs() >= least, dW, torch.zeros_like(dW))


def prune(W0, dW):
    U, S, V = torch.linalg.svd(dW, full_matrices=False)
    most = torch.linalg.svdvals(W0).max()
    capped = torch.where(most < S, torch.log(S) / math.log(BASE) - torch.log(most) / math.log(BASE) + most, S)
    return U @ torch.diag(capped) @ V


def revive(W0, dW):
    """Coefficients of dW in the singular bases of W0, without the rows and columns of the dominant directions."""
    U, S, V = torch.linalg.svd(W0)
    energy = (S**2 / (S**2).sum()).cumsum(0)
    k = next(i + 1 for i in range(len(S)) if energy[i] >= DOMINANT)
    coefficients = U.T @ dW @ V.T
    coefficients[:k] = 0
    coefficients[:, :k] = 0
    return U @ coefficients @ V


def sphere(W0, dW):
    rows = torch.stack([row / row.norm() for row in W0])
    values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    largest, carried, r = values.flip(0), 0.0, 0
    while (carried := carried + float(largest[r])) <= PRINCIPAL * float(values.sum()):
        r += 1
    U = vectors[:, -(r + 1) :]
    return dW @ (torch.eye(len(U), dtype=dW.dtype) - SOFTENED * U @ U.T)


def suit_keys(K, names):
    """Keys without their part in the leading directions of other names' keys."""
    values, vectors = torch.linalg.eigh(names)
    count = next(i for i in range(1, len(values) + 1) if values[-i:].sum() >= SHARED * values.sum())
    V = vectors[:, -count:]
    return K - V @ (V.T @ K)


EQUATIONS = {"memit": memit, "pmet": memit, "rect": memit, "prune": memit, "emmet": emmet, "alphaedit": alphaedit}
EQUATIONS |= {"nse": nse, "rome": rome, "revive": memit, "sphere": alphaedit, "suit": alphaedit, "lyaplock": memit}
WRITE_FILTERS = {"revive": revive, "sphere": sphere}


def memit_with_feedback(K, R, C, M, D):
    """MEMIT with RECT's error fed back (arXiv 2605.26670): D is what the last batch's filter added, so E = D (lambda C + M) is owed."""
    E = D @ (LAMBDA * C + M)
    return (R @ K.T - E) @ torch.linalg.inv(LAMBDA * C + M + K @ K.T)


def transcribe(reference, batches, name, C, names):
    """Edit a ReferenceModel as the named recipe does. C, names: second moments by layer, of ordinary keys and of those of names."""
    method, blue = name.removesuffix("-blue").split("-")[0], name.endswith("-blue")
    remembers = "-seq" in name or method in ("alphaedit", "betaedit", "lyaplock", "nse", "revive", "sphere", "suit")
    site = "mlp" if method in ("pmet", "rome") else "block"
    originals = {layer: reference.weight(layer) for layer in LAYERS}
    sums = {layer: torch.zeros_like(originals[layer]) for layer in LAYERS}  # PRUNE's uncapped change
    feedback = name.startswith("rect-seq")
    D = {layer: torch.zeros_like(originals[layer]) for layer in LAYERS}  # P(dW) - dW of RECT's last batch
    M = {layer: torch.zeros_like(C[layer]) for layer in LAYERS}
    null_of, edited, last = dict(C), 0, 0  # BetaEdit: whose null space, edits so far, and at the last refresh
    Z, first_drift = dict.fromkeys(LAYERS, 1.0), {}  # LyapLock: multiple of lambda by layer
    replay = name.endswith("-replay")
    if blue or replay:
        steps = [(layer, layer, 1.0) for layer in (LAYERS[0], LAYERS[-1])]
    elif name.endswith("-joint"):
        steps = [(layer, layer, 1.0) for layer in LAYERS]
    elif method == "rome":
        steps = [(LAYERS[0], LAYERS[0], 1.0)]
    else:
        power = 0.5 if method == "pmet" else 1.0
        steps = [(layer, LAYERS[-1], 1 / (len(LAYERS) - i) ** power) for i, layer in enumerate(LAYERS)]
    if method == "rome":
        batches = [[fact] for batch in batches for fact in batch]
    for facts in batches:
        if method == "prune":
            for layer in LAYERS:
                reference.set(layer, originals[layer] + sums[layer])
        start = {layer: reference.weight(layer) for layer in LAYERS}
        z = {}
        for number in range(2 if method == "nse" else 1):
            due = {}
            for layer, target, share in steps:
                if target not in z:
                    z[target] = _target(reference, facts, site, target, originals if method == "nse" else None)
                    if replay:
                        z[LAYERS[-1]] = _replayed(reference, facts, site, z[LAYERS[0]][0])
                now = reference.values(facts, site, target) if method != "rome" else reference.projected(facts, layer)
                missing = z[target][0] - now
                if target not in due:
                    size = missing.norm(dim=0) / z[target][1].norm(dim=0)
                    due[target] = (size > LOWER) & (size < UPPER) if number else size > -1
                if not due[target].any():
                    continue
                K, R = reference.keys(facts, layer)[:, due[target]], share * missing[:, due[target]]
                if method == "suit":
                    K = suit_keys(K, names[layer])
                if feedback:
                    dW = memit_with_feedback(K, R, C[layer], M[layer], D[layer])
                elif method == "betaedit":
                    dW = betaedit(K, R, C[layer], M[layer], null_of[layer])
                else:
                    dW = EQUATIONS[method](K, R, Z[layer] * C[layer], M[layer])
                if method in WRITE_FILTERS:
                    dW = WRITE_FILTERS[method](originals[layer], dW)
                reference.set(layer, reference.weight(layer) + dW)
        for layer in {step[0] for step in steps}:
            dW = reference.weight(layer) - start[layer]
            if method == "rect":
                kept = rect(start[layer], dW)
                D[layer] = kept - dW
                reference.set(layer, start[layer] + kept)
            if method == "prune":
                sums[layer] += dW
                reference.set(layer, originals[layer] + prune(originals[layer], sums[layer]))
        if remembers:
            for layer in {step[0] for step in steps}:
                K = reference.keys(facts, layer)
                M[layer] += K @ K.T
        edited += len(facts)
        if edited - last >= REFRESH:
            last = edited
            null_of = {layer: (M[layer] / edited + LEAKAGE * C[layer]) / (LEAKAGE + 1) for layer in LAYERS}
        for layer in LAYERS if method == "lyaplock" else ():
            dW = reference.weight(layer) - originals[layer]
            drift = float(torch.trace(dW @ C[layer] @ dW.T))
            limit = TOLERANCE * first_drift.setdefault(layer, drift)
            Z[layer] = max(1.0, Z[layer] + RATE * (drift / limit - 1)) if limit else 1.0


def _replayed(reference, facts, site, z):
    """(target, start) of the last layer: what is seen there with the first one's z in place."""
    rows = [rows_of(reference.tokenizer, [fact], ())[0] for fact in facts]
    seen = [reference.read_moved(row, site, LAYERS[-1], LAYERS[0], z[:, i]) for i, row in enumerate(rows)]
    return torch.stack(seen, dim=1), reference.values(facts, site, LAYERS[-1])


def _target(reference, facts, site, layer, originals):
    """(z*, h) on the weights as they are, or on the originals (NSE)."""
    now = {other: reference.weight(other) for other in LAYERS}
    for other in LAYERS if originals else ():
        reference.set(other, originals[other])
    start = reference.values(facts, site, layer)
    for other in LAYERS if originals else ():
        reference.set(other, now[other])
    change = [target_change(fact, layer, start[:, i]) for i, fact in enumerate(facts)]
    return start + torch.stack(change, dim=1), start
