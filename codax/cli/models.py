"""Loading the model that --model names, or saying how to get it."""

from codax.errors import CheckpointError


def load_codec(name: str):
    """An `AudioCodec`. Raises `CheckpointError` in one line where the model is not to be had."""
    from codax.codec import AudioCodec
    from codax.conversion import resolve_model

    resolved = resolve_model(name)
    try:
        return AudioCodec.from_pretrained(resolved)
    except OSError as error:
        raise CheckpointError(f"model {name}: {error}") from error
