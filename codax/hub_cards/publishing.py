"""A repository of a model: written to a folder, and put on the Hub in one commit."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
from huggingface_hub import EvalResult, HfApi, constants
from huggingface_hub.errors import LocalTokenNotFoundError
from transformers.utils import CONFIG_NAME, FEATURE_EXTRACTOR_NAME, logging

from codax.conversion import RELEASED, Agreement, verify_against_torch
from codax.conversion.checkpoints import originals_folder
from codax.errors import CodaxError, one_line
from codax.evaluation.pictures import draw_comparison, require_matplotlib
from codax.feature_extraction import EXTRACTORS
from codax.hub_saving import made_repository, tell_of_other_weights, write_auto_map

from .card import PICTURE, CardContent, model_card
from .measuring import measure_speed, reconstruct, synthetic_clip
from .origins import Origin, require_repo_id
from .remote_code import ENTRIES, auto_map, remote_code

logger = logging.get_logger(__name__)

LICENSE = "LICENSE"

EXTRA = "publish"
"""Of codax, that brings what draws the picture."""


def write_repository(
    folder: str | os.PathLike,
    model: Any,
    origin: Origin,
    repo_id: str,
    *,
    measure: bool = True,
    clip: Any = None,
    results: Sequence[EvalResult] = (),
    notes: str = "",
) -> Path:
    """Write all files of a model's repository, or none.

    config.json, preprocessor_config.json and model.safetensors, which codax and torch's
    transformers read; the code that transformers loads where codax is not installed; the weights'
    licence; and README.md, the card.

    folder: is made; if it is there it must be empty
    model: a `FlaxDacModel` or `FlaxEncodecModel`
    repo_id: "owner/name", which the card's snippets load
    measure: tell on the card the speed and the agreement with torch's model, and show what becomes
        of a clip. Without torch agreement is not measured, which a warning tells.
    clip: that clip, float32 [C, T] at the model's rate; a synthetic one by default
    results, notes: what else the card tells, see `CardContent`

    Returns the folder. Raises `CodaxError` for a `repo_id` that the Hub does not allow, a folder
    that holds something, a model that disagrees with torch by more than rounding, and where
    matplotlib is missing for the picture.
    """
    require_repo_id(repo_id)
    if measure:
        require_matplotlib(EXTRA)
    with _whole_folder(Path(folder)) as unfinished:
        _write_model(unfinished, model)
        measured = _measured(unfinished, model, origin, clip) if measure else {}
        content = CardContent(
            repo_id=repo_id,
            config=model.config,
            origin=origin,
            results=results,
            notes=notes,
            picture=measure,
            **measured,
        )
        model_type = model.config.model_type
        texts = {**remote_code(model_type), constants.REPOCARD_NAME: str(model_card(content))}
        if origin.license_text:
            texts[LICENSE] = origin.license_text
        for name, text in texts.items():
            (unfinished / name).write_text(text, encoding="utf-8")
    return Path(folder)


def upload_repository(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    commit_message: str | None = None,
) -> str:
    """Put a folder that `write_repository` wrote on the Hub, in one commit.

    The repository is made if it is not there, and so is a branch `revision`. What an earlier
    publication left that this one does not have (licence, picture, code) goes; other files stay,
    but weights that other programs would prefer are told in a warning.

    Returns the address of the commit. Raises `CodaxError`, in one line, where the Hub cannot be
    reached or refuses.
    """
    require_repo_id(repo_id)
    api = HfApi(token=token)
    with _in_one_line(repo_id):
        made_repository(api, repo_id, private, revision)
        tell_of_other_weights(api.list_repo_files(repo_id, revision=revision), repo_id)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=Path(folder),
            revision=revision,
            commit_message=commit_message or "Publish the model, its code and its card",
            delete_patterns=[LICENSE, PICTURE, *_all_code()],
        )
    return commit.commit_url


def publish(
    model: Any,
    origin: Origin,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    **card: Any,
) -> str:
    """`write_repository` and `upload_repository`; `card` goes to the first of them.

    Returns the address of the commit.
    """
    with TemporaryDirectory() as parent:
        folder = write_repository(Path(parent, "repository"), model, origin, repo_id, **card)
        return upload_repository(folder, repo_id, private=private, revision=revision, token=token)


def require_access(token: str | bool | None = None) -> None:
    """Raise `CodaxError` unless the Hub can be reached and knows the user."""
    with _in_one_line("the Hub"):
        HfApi(token=token).whoami()


@contextlib.contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder beside `folder`, which it becomes on success."""
    require_no_files(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=".codax-") as parent:
        unfinished = Path(parent, folder.name)
        unfinished.mkdir()
        yield unfinished
        if folder.exists():
            folder.rmdir()
        shutil.move(unfinished, folder)


def require_no_files(folder: Path) -> None:
    """Raise `CodaxError` unless a folder is empty, or not there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CodaxError(f"{folder}: exists already, and is no empty folder")


def _write_model(folder: Path, model: Any) -> None:
    model_type = model.config.model_type
    model.save_pretrained(folder)
    EXTRACTORS[model_type].from_config(model.config).save_pretrained(folder)
    write_auto_map(folder / CONFIG_NAME, auto_map(model_type, "AutoConfig", "FlaxAutoModel"))
    write_auto_map(folder / FEATURE_EXTRACTOR_NAME, auto_map(model_type, "AutoFeatureExtractor"))


def _measured(folder: Path, model: Any, origin: Origin, clip: Any) -> dict[str, Any]:
    """Fields of `CardContent`; draws the picture."""
    config = model.config
    if clip is None:
        clip = synthetic_clip(config.sampling_rate, config.audio_channels)
    decoded = reconstruct(model, clip)
    draw_comparison(folder / PICTURE, clip, decoded, config.sampling_rate, EXTRA)
    return {"speed": measure_speed(model), "agreement": _agreement(folder, model, origin)}


def _agreement(folder: Path, model: Any, origin: Origin) -> Agreement | None:
    """With torch's model, and of released DAC weights with descript's, if those are at hand."""
    if find_spec("torch") is None:
        logger.warning("torch is not installed: agreement with its model is not measured")
        return None
    original = originals_folder() / RELEASED[origin.preset].file_name if origin.preset else None
    is_there = model.config.model_type == "dac" and original is not None and original.exists()
    agreement = verify_against_torch(folder, original=original if is_there else None)
    if not agreement.holds:
        told = ", ".join(str(agreement).splitlines())
        raise CodaxError(f"the model disagrees with torch by more than rounding: {told}")
    return agreement


def _all_code() -> list[str]:
    return sorted({name for model_type in ENTRIES for name in remote_code(model_type)})


@contextlib.contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """Errors of the Hub as `CodaxError`s that begin with `what`."""
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise CodaxError(f"{what}: no token is saved here: `hf auth login` first") from error
    except requests.HTTPError as error:
        raise CodaxError(f"{what}: {_reason(error)}") from error
    except (requests.RequestException, ConnectionError) as error:
        raise CodaxError(
            f"{what}: cannot be reached ({type(error).__name__}); nothing was published"
        ) from error
    except (RuntimeError, ValueError) as error:  # of an upload, or of what the Hub says of the card
        reason = f" ({one_line(error.__cause__)})" if error.__cause__ else ""
        raise CodaxError(f"{what}: {one_line(error)}{reason}") from error


def _reason(error: requests.HTTPError) -> str:
    status = getattr(error.response, "status_code", None)
    if status in (401, 403):
        return (
            f"the Hub refuses ({status}): `hf auth login` with a token that may write to "
            "this repository"
        )
    return f"the Hub answers {status}: {one_line(error)}"
