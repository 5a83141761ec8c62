"""EnCodec's language model, as `.ecdc` files with one ask for it."""

from collections.abc import Mapping
from functools import partial

import jax
import numpy as np

from codax.errors import CodaxError
from codax.formats import NextProbabilities, Probabilities
from codax.modeling.modeling_flax_encodec_lm import (
    NO_CODE,
    EncodecLm,
    FlaxEncodecLmModule,
    position_embedding,
)


def ecdc_probabilities(lm: EncodecLm) -> Probabilities:
    """What `read_ecdc` and `write_ecdc` take, from a language model.

    It runs on the CPU, whatever else there is: programs for GPUs are tuned by timing, and then two
    runs need not give the same bits. On a CPU they were the same in every run, on one core or two;
    they differ between instruction sets (AVX2, SSE4), and may between versions of jaxlib. Reading a
    file elsewhere than it was written raises `FormatError` then.

    Raises `CodaxError` where JAX is kept from using the CPU. What is returned raises `FormatError`
    for files of another model than the language model is for.
    """
    module = FlaxEncodecLmModule(lm.architecture)
    params = _on_cpu(lm.params)
    initial_state = _initial_state(module, params)

    def start(model: str, num_codebooks: int) -> NextProbabilities:
        lm.check_codes_of(model, num_codebooks)
        state, frame = initial_state, 0

        def step(previous: np.ndarray | None) -> np.ndarray:
            nonlocal state, frame
            codes = np.full(num_codebooks, NO_CODE) if previous is None else previous
            position = position_embedding(frame, 1, lm.architecture.dim)
            probabilities, state = _step(
                module, params, state, codes[None].astype(np.int32), position
            )
            frame += 1
            return np.asarray(probabilities[0])

        return step

    return start


def _on_cpu(params: Mapping) -> Mapping:
    try:
        (cpu, *_) = jax.local_devices(backend="cpu")
    except RuntimeError as error:
        raise CodaxError(
            "a language model of .ecdc files runs on the CPU: JAX_PLATFORMS must include cpu"
        ) from error
    return jax.device_put(params, cpu)


@partial(jax.jit, static_argnames="module")
def _initial_state(module, params):
    return module.apply({"params": params}, 1, method="initial_state")


@partial(jax.jit, static_argnames="module")
def _step(module, params, state, previous, position):
    """One compilation for each architecture and number of codebooks, for all frames and streams."""
    return module.apply({"params": params}, state, previous, position, method="step")
