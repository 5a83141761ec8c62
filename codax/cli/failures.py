"""Errors as a command tells them: in one line."""

# What a command reports; jax's own errors are RuntimeErrors.
FAILURES = (ValueError, OSError, MemoryError, RuntimeError)


def one_line(error: BaseException) -> str:
    """An error's message on one line; its type stands in for a message that it lacks."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__
