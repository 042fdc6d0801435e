"""Exporting edits: checks, writing whole or not at all, and sending to the hub."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from bluedit.errors import MALFORMED, ExportError, ModelError, RecipeError, did_you_mean
from bluedit.export import gguf_forms, lora, merged, patch_copy
from bluedit.export.base import BaseModel, Edits
from bluedit.export.card import check_described
from bluedit.export.checkpoint import cause, check_free
from bluedit.export.form import Exported, Form, Job
from bluedit.facts.words import HALF_PAIR
from bluedit.files import replacing, write_folder
from bluedit.options import options_of
from bluedit.places import check_writable

log = logging.getLogger(__name__)
__all__ = ["export_patch", "forms"]
_MODULES = (merged, lora, gguf_forms, patch_copy)  # which define the forms


def forms() -> dict[str, type[Form]]:
    """All forms of export by name."""
    return dict(sorted(Form.choices.items()))  # pyright: ignore[reportReturnType]


def export_patch(
    patch: Edits,
    to: str,
    out: str | Path,
    *,
    model: str | None = None,
    strip: bool = False,
    base_model: str | None = None,
    trust_remote_code: bool = False,
    force: bool = False,
    **options: Any,
) -> Exported:
    """Write edits in a form that other programs load. The base model is only read, and nothing is left behind when it fails.

    Args:
        patch: a `Patch`, or anything else with `base`, `batches`, `layers`, `facts` and `origins`: what a model is to carry, in order.
        to: the form; `forms()` lists them.
        out: a new folder, or a new file for the forms gguf and gguf-lora.
        model: the base model, by name as for `Editor.load`; None takes the name that the patch was made with.
        strip: count the facts in cards and metadata instead of naming them.
        base_model: hub id of the base model for the card; None finds it from the name.
        trust_remote_code: run Python code that comes with the model.
        force: export also if the patch was made for other weights than these.
        options: of the form.

    Raises:
        ExportError: an unknown form or option, the patch does not belong to the model or cannot be read, its model's code is to be run and
            `model` does not name it, or the place is taken or cannot be written.
        ModelError: the base model cannot be found or read.
    """
    form = _form(to, options)
    if HALF_PAIR.search(base_model or ""):
        raise ExportError(f"base_model is {base_model!r}, which is not UTF-8 text; give an id of the hub")
    out = Path(out)
    _check_place(form, out)
    if not patch.batches:
        raise ExportError(
            "there are no edits to export: the patch is empty, or all entries of the workspace were undone"
        )
    try:
        check_described(patch)
    except MALFORMED as error:
        raise ExportError(
            f"the patch's description of its edits cannot be read ({type(error).__name__}: {error}); restore it from a copy"
        ) from error
    if trust_remote_code and model is None:
        raise ExportError(
            f"the patch names the model {patch.base.model!r}, and its code would run; name the model that you trust with model= (--model)"
        )
    base = BaseModel(model or patch.base.model, trust_remote_code)
    if (form.needs_base or model is not None) and not force:
        base.check_made_for(patch)
    job = Job(patch, base, out, facts=not strip, base_model=base_model if base_model is not None else base.hub_id)
    done: list[Exported] = []
    try:
        if form.is_file:
            with replacing(out) as temporary:
                done.append(form.write(job, temporary))
        else:
            write_folder(out, lambda folder: done.append(form.write(job, folder)))
    except (OSError, SafetensorError) as error:
        raise ExportError(
            f"cannot write {out}: {cause(error)}; nothing was written there. Free disk space or choose another place"
        ) from error
    return done[0]


def _form(to: str, options: dict[str, Any]) -> Form:
    try:
        cls = Form.of_kind(to)
    except ValueError:
        raise ExportError(f"there is no form of export {to!r}; {did_you_mean(to, Form.choices)}") from None
    missing = [package for package in cls.needs if importlib.util.find_spec(package) is None]  # pyright: ignore[reportAttributeAccessIssue]
    if missing:
        how = cls.needs[missing[0]]  # pyright: ignore[reportAttributeAccessIssue]
        raise ExportError(f"the form {to} needs the package {missing[0]}; run: {how}")
    unknown = sorted(set(options) - {attribute for attribute, _ in options_of(cls).values()})
    if unknown:
        owners = [kind for kind, other in forms().items() if unknown[0] in {a for a, _ in options_of(other).values()}]
        whose = f"it is one of {' and '.join(owners)}" if owners else did_you_mean(unknown[0], options_of(cls))
        raise ExportError(f"the form {to} has no option {unknown[0]}; {whose}")
    try:
        return cls(**options)  # pyright: ignore[reportReturnType]
    except RecipeError as error:
        raise ExportError(str(error)) from error


def _check_place(form: Form, out: Path) -> None:
    if form.is_file:
        try:
            check_writable(out)
        except OSError as error:
            raise ExportError(f"cannot write {out}: {error.strerror or error}; choose another place") from error
        if out.exists():
            raise ExportError(f"{out} exists already; choose a new file")
    else:
        try:
            check_free(out)
        except ModelError as error:
            taken = out.exists() and (not out.is_dir() or any(out.iterdir()))
            what = f"{out} exists already; choose a new folder, or remove that one first"
            raise ExportError(what if taken else str(error)) from error


def push(folder: str | Path, repository: str, *, public: bool = False, endpoint: str | None = None) -> str:
    """Upload an export to a repository of the Hugging Face hub, which is made (private, unless `public`) if need be. Returns its address.

    Raises:
        ExportError: the hub refuses, or cannot be reached; the export on disk stays.
    """
    from huggingface_hub import HfApi

    api, place = HfApi(endpoint=endpoint), Path(folder)
    try:
        found = api.create_repo(repository, private=not public, exist_ok=True)
        if place.is_dir():
            api.upload_folder(repo_id=found.repo_id, folder_path=place, commit_message="Upload an edited model")
        else:
            api.upload_file(
                repo_id=found.repo_id,
                path_or_fileobj=place,
                path_in_repo=place.name,
                commit_message="Upload an edited model",
            )
    except Exception as error:  # the hub client raises many kinds of its own
        raise ExportError(
            f"cannot upload {folder} to {repository}: {' '.join(str(error).split())[:300]}; the export itself is in {folder}"
        ) from error
    return str(found)
