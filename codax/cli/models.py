"""Loading the model that --model names, or saying how to get it."""

import contextlib
from collections.abc import Iterator
from typing import Any

from codax.errors import CheckpointError


def load_codec(name: str):
    """An `AudioCodec`. Raises `CheckpointError` in one line where the model is not to be had."""
    from codax.codec import AudioCodec

    with explaining(name):
        return AudioCodec.from_pretrained(name)


def load_model(name: str) -> Any:
    """A `FlaxDacModel` or `FlaxEncodecModel`. Raises as `load_codec` does."""
    from codax.conversion import resolve_model
    from codax.modeling import model_class_of

    with explaining(name):
        resolved = resolve_model(name)
        return model_class_of(resolved).from_pretrained(resolved)


def load_config(name: str) -> Any:
    """The model's configuration, without its weights. Raises as `load_codec` does."""
    from codax.conversion import config_of

    with explaining(name):
        return config_of(name)


def model_type_of(name: str) -> str:
    """The family of a model: "dac" or "encodec"."""
    return load_config(name).model_type


@contextlib.contextmanager
def explaining(name: str) -> Iterator[None]:
    """Errors of loading the model `name` say the way out where it is not to be had."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise explained(name, error) from error


def explained(name: str, error: Exception) -> CheckpointError:
    from huggingface_hub.errors import LocalEntryNotFoundError

    from codax.hub_files import came_from_hub, why_not

    if isinstance(error, CheckpointError):
        return error
    cause = error.__cause__
    if isinstance(cause, LocalEntryNotFoundError) and cause.__cause__ is None:
        return CheckpointError(
            f"model {name}: not in the cache, and the Hub cannot be reached: run `codax download "
            f"{name}` with network access and without HF_HUB_OFFLINE, or give a folder that exists"
        )
    if came_from_hub(error):
        return CheckpointError(f"model {why_not(name, error)}")
    return CheckpointError(f"model {name}: {error}")
