"""The networks of both families as `Sliding` runs them."""

from functools import partial
from typing import Any

import jax.numpy as jnp

from codax.configuration.conv_geometry import Conv, determined_length
from codax.modeling import FlaxDacModel, FlaxEncodecModel
from codax.modeling.encodec_chunks import CarriedPart
from codax.streaming.sliding import Network, Windows


def encoder_network(model: Any, levels: int) -> Network:
    """Audio [B, C, T] to codes [B, K, F], K = `levels`."""
    if isinstance(model, FlaxDacModel):
        return _dac_encoder(model, levels)
    return _encodec_encoder(model, levels)


def decoder_network(model: Any) -> Network:
    """Codes [B, K, F] to audio [B, C, T]."""
    return _dac_decoder(model) if isinstance(model, FlaxDacModel) else _encodec_decoder(model)


def encoder_convs(model: Any) -> tuple[Conv, ...]:
    """What decides which samples a frame depends on."""
    return model.module.architecture.encoder_convs


def _dac_encoder(model: FlaxDacModel, levels: int) -> Network:
    def run(state, windows: Windows):
        return state, model.encode(windows.inputs, levels, chunk_length_s=0).audio_codes

    hop_length = model.config.hop_length
    return Network(
        in_units=hop_length,
        out_units=1,
        context=model.config.encoder_context_frames,
        determined=partial(determined_length, encoder_convs(model)),
        total=lambda samples: samples // hop_length,
        run=run,
    )


def _dac_decoder(model: FlaxDacModel) -> Network:
    hop_length = model.config.hop_length

    def run(state, windows: Windows):
        audio = model.decode(audio_codes=windows.inputs, chunk_length_s=0).audio_values
        # All but the last must fill their frames: odd strides leave some short.
        missing = max(windows.inputs.shape[-1] * hop_length - audio.shape[-1], 0)
        return state, jnp.pad(audio, ((0, 0), (0, missing)))[:, None]

    return Network(
        in_units=1,
        out_units=hop_length,
        context=model.config.decoder_context_frames,
        determined=partial(determined_length, model.module.architecture.decoder_convs),
        total=model.config.decoded_length,
        run=run,
    )


def _encodec_encoder(model: FlaxEncodecModel, levels: int) -> Network:
    part = CarriedPart(model, is_encoder=True)

    def run(states, windows: Windows):
        states = part.no_states(len(windows.inputs)) if states is None else states
        return part.encode(
            states,
            windows.starts[0],
            windows.following,
            windows.inputs,
            windows.lengths,
            levels,
            None,
        )

    return Network(
        in_units=model.config.hop_length,
        out_units=1,
        context=(part.context.before, part.context.after),
        determined=partial(determined_length, encoder_convs(model)),
        total=model.config.encoded_length,
        run=run,
        takes_lengths=True,
        has_state=True,
    )


def _encodec_decoder(model: FlaxEncodecModel) -> Network:
    part = CarriedPart(model, is_encoder=False)

    def run(states, windows: Windows):
        states = part.no_states(len(windows.inputs)) if states is None else states
        return part.decode(
            states, windows.starts[0], windows.following, windows.inputs, windows.lengths, None
        )

    return Network(
        in_units=1,
        out_units=model.config.hop_length,
        context=(part.context.before, part.context.after),
        determined=partial(determined_length, model.module.architecture.decoder_convs),
        total=model.config.decoded_length,
        run=run,
        takes_lengths=True,
        has_state=True,
    )
