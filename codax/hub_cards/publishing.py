"""A repository of a model: written to a folder, and put on the Hub in one commit."""

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
from huggingface_hub import EvalResult, HfApi, constants
from huggingface_hub.errors import (
    HFValidationError,
    LocalTokenNotFoundError,
)
from huggingface_hub.utils import validate_repo_id
from transformers.utils import CONFIG_NAME, FEATURE_EXTRACTOR_NAME, logging

from codax.conversion import RELEASED, Agreement, verify_against_torch
from codax.conversion.checkpoints import originals_folder
from codax.errors import CodaxError
from codax.feature_extraction import EXTRACTORS
from codax.files import atomic_path
from codax.hub_saving import write_auto_map
from codax.modeling.weight_files import SAFETENSORS, WEIGHT_FILES

from .card import PICTURE, CardContent, model_card
from .measuring import Speed, measure_speed, reconstruct, synthetic_clip
from .origins import Origin
from .remote_code import auto_map, remote_code
from .spectrograms import draw_spectrograms

logger = logging.get_logger(__name__)

LICENSE = "LICENSE"


def write_repository(
    folder: str | os.PathLike,
    model: Any,
    origin: Origin,
    repo_id: str,
    *,
    agreement: Agreement | None = None,
    speed: Speed | None = None,
    results: Sequence[EvalResult] = (),
    clip: Any = None,
    notes: str = "",
) -> Path:
    """Write all files of a model's repository.

    config.json, preprocessor_config.json and model.safetensors, which codax and torch's
    transformers read; the code that transformers loads where codax is not installed; the weights'
    licence; and README.md, the card.

    folder: is made; what it holds already is replaced, file by file
    model: a `FlaxDacModel` or `FlaxEncodecModel`
    repo_id: "owner/name", which the card's snippets load
    agreement, speed, results, notes: what the card tells, see `CardContent`
    clip: float32 [C, T], shown beside its reconstruction; none if it is None

    Returns the folder. Raises `CodaxError` for a `repo_id` that the Hub does not allow, and where
    matplotlib is missing for the picture.
    """
    require_repo_id(repo_id)
    folder, config = Path(folder), model.config
    model.save_pretrained(folder)
    EXTRACTORS[config.model_type].from_config(config).save_pretrained(folder)
    model_type = config.model_type
    write_auto_map(folder / CONFIG_NAME, auto_map(model_type, "AutoConfig", "FlaxAutoModel"))
    write_auto_map(folder / FEATURE_EXTRACTOR_NAME, auto_map(model_type, "AutoFeatureExtractor"))
    if clip is not None:
        decoded = reconstruct(model, clip)
        with atomic_path(folder / PICTURE) as path:
            draw_spectrograms(path, clip, decoded, config.sampling_rate)
    content = CardContent(
        repo_id, config, origin, agreement, speed, results, clip is not None, notes
    )
    texts = {**remote_code(model_type), constants.REPOCARD_NAME: str(model_card(content))}
    if origin.license_text:
        texts[LICENSE] = origin.license_text
    for name, text in texts.items():
        with atomic_path(folder / name) as path:
            path.write_text(text, encoding="utf-8")
    return folder


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

    The repository is made if it is not there, and so is a branch `revision`. Its other files stay,
    but weights that other programs would prefer are told in a warning.

    Returns the address of the commit. Raises `CodaxError`, in one line, where the Hub cannot be
    reached or refuses.
    """
    require_repo_id(repo_id)
    api = HfApi(token=token)
    with _in_one_line(repo_id):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=Path(folder),
            revision=revision,
            commit_message=commit_message or "Publish the model, its code and its card",
        )
        _tell_of_other_weights(api.list_repo_files(repo_id, revision=revision), repo_id)
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
    with TemporaryDirectory() as folder:
        write_repository(folder, model, origin, repo_id, **card)
        return upload_repository(folder, repo_id, private=private, revision=revision, token=token)


def measurements(model: Any, source: str, origin: Origin, clip: Any = None) -> dict[str, Any]:
    """What `write_repository` tells of a model that was measured: agreement, speed and a clip.

    source: the folder or Hub repository that the model was loaded from, which torch loads as well;
        without torch agreement is not measured, which a warning tells
    clip: float32 [C, T] at the model's rate, to be shown; a synthetic one by default

    A released DAC model is also compared with descript's package, where that and the original
    weights are at hand.
    """
    config = model.config
    if clip is None:
        clip = synthetic_clip(config.sampling_rate, config.audio_channels)
    measured = {"clip": clip, "speed": measure_speed(model)}
    if find_spec("torch") is None:
        logger.warning("torch is not installed: agreement with the original is not measured")
        return measured
    original = originals_folder() / RELEASED[origin.preset].file_name if origin.preset else None
    is_there = config.model_type == "dac" and original is not None and original.exists()
    agreement = verify_against_torch(source, original=original if is_there else None)
    return {**measured, "agreement": agreement}


def require_access(token: str | bool | None = None) -> None:
    """Raise `CodaxError` unless the Hub can be reached and knows the user."""
    with _in_one_line("the Hub"):
        HfApi(token=token).whoami()


def require_repo_id(repo_id: str) -> None:
    """Raise `CodaxError` unless it is an "owner/name" that the Hub allows."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise CodaxError(f"repo_id {repo_id!r}: {error}") from error
    if "/" not in repo_id:
        raise CodaxError(f"repo_id {repo_id!r}: must be 'owner/name'")


def read_results(path: str | os.PathLike) -> list[EvalResult]:
    """Read the results of an evaluation: a JSON list of `EvalResult`s' fields.

    `dataset_type`, `dataset_name`, `metric_type` and `metric_value` are required, and
    `metric_config` may tell the setting, such as "6 kbps". Raises `CodaxError` for anything else.
    """
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
        results = [EvalResult(**{"task_type": "audio-to-audio", **entry}) for entry in entries]
    except (ValueError, TypeError) as error:
        raise CodaxError(
            f"{path}: not a JSON list of results with dataset_type, dataset_name, metric_type and "
            f"metric_value ({error})"
        ) from error
    for result in results:
        if isinstance(result.metric_value, bool) or not isinstance(
            result.metric_value, int | float
        ):
            raise CodaxError(f"{path}: metric_value {result.metric_value!r} is no number")
    return results


@contextlib.contextmanager
def _in_one_line(what: str) -> Iterator[None]:
    """Errors of the Hub as `CodaxError`s that begin with `what`."""
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise CodaxError(f"{what}: no token is saved here: `hf auth login` first") from error
    except requests.HTTPError as error:
        raise CodaxError(f"{what}: {_reason(error)}") from error
    except RuntimeError as error:  # of an upload, with the reason behind it
        raise CodaxError(f"{what}: {error} ({_one_line(error.__cause__)})") from error
    except (requests.RequestException, ConnectionError) as error:
        raise CodaxError(
            f"{what}: cannot be reached ({type(error).__name__}); nothing was published"
        ) from error


def _reason(error: requests.HTTPError) -> str:
    status = getattr(error.response, "status_code", None)
    if status in (401, 403):
        return (
            f"the Hub refuses ({status}): `hf auth login` with a token that may write to "
            "this repository"
        )
    return _one_line(error)


def _one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split())


def _tell_of_other_weights(names: list[str], repo_id: str) -> None:
    others = [name for name in WEIGHT_FILES if name != SAFETENSORS and name in names]
    if others:
        logger.warning(
            f"{repo_id}: holds {', '.join(others)} beside {SAFETENSORS}, which other programs may "
            "prefer; delete what is out of date"
        )
