"""Loading the model that --model names, or saying how to get it."""

from codax.errors import CheckpointError


def load_codec(name: str):
    """An `AudioCodec`. Raises `CheckpointError` in one line where the model is not to be had."""
    from codax.codec import AudioCodec
    from codax.conversion import resolve_model

    resolved = resolve_model(name)
    try:
        return AudioCodec.from_pretrained(resolved)
    except (OSError, ValueError) as error:
        raise explained(name, error) from error


def explained(name: str, error: Exception) -> CheckpointError:
    """An error of loading the model `name`, with the way out where it is not to be had."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    if isinstance(error.__cause__, LocalEntryNotFoundError):
        return CheckpointError(
            f"model {name}: not in the cache, and the Hub cannot be reached: run `codax download "
            f"{name}` with network access and without HF_HUB_OFFLINE, or give a folder that exists"
        )
    return CheckpointError(f"model {name}: {error}")
