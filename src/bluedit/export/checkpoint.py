"""An edited model as an ordinary Hugging Face checkpoint, which loads anywhere without bluedit."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from bluedit.errors import ModelError
from bluedit.export._adapters import refuse_hidden_adapters, save_with_adapters
from bluedit.files import PREFIX, write_folder
from bluedit.model.loading import quiet
from bluedit.places import check_new_folder

if TYPE_CHECKING:
    from bluedit.model.editable import EditableModel


def check_free(folder: Path) -> None:
    """Raises ModelError if the folder exists and is not empty, or cannot be made; also called before a long computation starts."""
    try:
        check_new_folder(folder)
    except OSError as error:
        raise ModelError(
            f"no model can be saved to {folder}: {error.strerror or error}; choose another place"
        ) from error
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{folder} exists already; choose a new folder for the edited model, or remove that one first")


def save_checkpoint(lm: EditableModel, folder: str | Path) -> Path:
    """Write model and tokenizer. The folder appears once it is complete; tied embeddings stay tied.

    Under adapters of PEFT the base model is written, edits included, and the adapters go into the folder "adapters" in it.

    Raises:
        ModelError: adapters that cannot be written apart from it, the folder exists and is not empty, the disk is full, or the folder cannot be written.
    """
    folder = Path(folder)
    check_free(folder)
    refuse_hidden_adapters(lm)

    def write(new: Path) -> None:
        with quiet():
            if lm.adapters is None:
                lm.model.save_pretrained(new)
            else:
                save_with_adapters(lm, new, folder)
            lm.tokenizer.save_pretrained(new)

    try:
        write_folder(folder, write)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"cannot save the model to {folder}: {cause(error)}; nothing was written there. Free disk space or choose another place"
        ) from error
    return folder


def cause(error: Exception) -> str:
    """Why something could not be written, without the name of a temporary file that is gone."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    places = [str(place) for place in (error.filename, error.filename2) if place is not None]
    return str(error) if places and not any(PREFIX in place for place in places) else error.strerror
