"""Compressed files of every kind, those of EnCodec's language models among them."""

import os
from collections.abc import Callable
from functools import cache, partial

from codax.codec.ecdc_probabilities import ecdc_probabilities
from codax.conversion import load_encodec_lm, released_encodec_lm, torch_probabilities
from codax.errors import CodaxError
from codax.formats import (
    AstrayError,
    EncodedAudio,
    NextProbabilities,
    Probabilities,
    Source,
    clip_parser,
    read_named,
)
from codax.modeling.modeling_flax_encodec_lm import EncodecLm

# torch divides some sums among its threads, and the encodec package runs on as many as the writer's
# machine had cores: so its bits depend on that.
TORCH_ENGINES = tuple(partial(torch_probabilities, num_threads=count) for count in (1, 2, 4, 8, 16))


def language_model(path: str | os.PathLike | None = None) -> Probabilities:
    """What `write_ecdc` and `read_ecdc` take, loaded when the first file asks for it.

    path: weights, as for `load_encodec_lm`; by default those that were released with the codec's
        model, from the cache or downloaded (which needs torch once)
    """
    return _loading(path, ecdc_probabilities)


def read_compressed(source: Source, lm_path: str | os.PathLike | None = None) -> EncodedAudio:
    """Read a `.dac`, `.ecdc` or `.codax` file: by path, its bytes, or a binary file object.

    A language model that a file needs is that of `language_model(lm_path)`. Its probabilities must
    repeat bit for bit. Files that codax wrote take the Flax model; for those of the encodec package
    the same is computed by torch afterwards, if it is installed, with several numbers of threads.

    Raises as `read_ecdc` and `load_encodec_lm` do.
    """
    parse = clip_parser(source)

    def parse_with_any(content: bytes) -> EncodedAudio:
        try:
            return parse(content, language_model(lm_path))
        except AstrayError as error:
            for engine in TORCH_ENGINES:
                try:
                    return parse(content, _loading(lm_path, engine))
                except AstrayError:
                    continue
                except CodaxError:  # no torch
                    break
            raise error

    return read_named(source, parse_with_any)


def _loading(
    path: str | os.PathLike | None, engine: Callable[[EncodecLm], Probabilities]
) -> Probabilities:
    def start(model: str, num_codebooks: int) -> NextProbabilities:
        probabilities = _loaded(engine, model, None if path is None else os.fspath(path))
        return probabilities(model, num_codebooks)

    return start


@cache
def _loaded(
    engine: Callable[[EncodecLm], Probabilities], model: str, path: str | None
) -> Probabilities:
    return engine(released_encodec_lm(model) if path is None else load_encodec_lm(path))
