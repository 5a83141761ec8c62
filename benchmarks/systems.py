"""The systems that compare.py times, each as a function from a checkpoint to two operations.

The first operation takes samples, float32 [1, C, T], to codes in whatever form the system has them,
the second takes those back to samples. What a call costs a user is timed, from a NumPy array to a
finished array, with everything compiled and loaded before.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

Operations = tuple[Callable[[np.ndarray], Any], Callable[[Any], np.ndarray]]

BANDWIDTH = 6.0  # kbps, of EnCodec models that have it; others have one


def codax_dac(folder: str, _original: str) -> Operations:
    from codax import FlaxDacModel

    model = FlaxDacModel.from_pretrained(folder)
    return (
        lambda samples: np.asarray(model.encode(samples).audio_codes),
        lambda codes: np.asarray(model.decode(audio_codes=codes).audio_values),
    )


def transformers_dac(folder: str, _original: str) -> Operations:
    import torch
    from transformers import DacModel

    torch.set_grad_enabled(False)
    model = DacModel.from_pretrained(folder).eval()
    return (
        lambda samples: model.encode(torch.from_numpy(samples)).audio_codes.numpy(),
        lambda codes: model.decode(audio_codes=torch.from_numpy(codes)).audio_values.numpy(),
    )


def descript_audio_codec(_folder: str, original: str) -> Operations:
    import torch

    from tests.reference import checkpoints

    torch.set_grad_enabled(False)
    model = checkpoints.load_descript(original)

    def decode(codes: np.ndarray) -> np.ndarray:
        quantized = model.quantizer.from_codes(torch.from_numpy(codes))[0]
        return model.decode(quantized).numpy()

    return lambda samples: model.encode(torch.from_numpy(samples))[1].numpy(), decode


def codax_encodec(folder: str, _original: str) -> Operations:
    import jax

    from codax import FlaxEncodecModel

    model = FlaxEncodecModel.from_pretrained(folder)
    bandwidth = _bandwidth(model.config)

    def decode(encoded) -> np.ndarray:
        decoded = model.decode(
            encoded.audio_codes, encoded.audio_scales, num_samples=encoded.num_samples
        )
        return np.asarray(decoded.audio_values)

    return lambda samples: jax.device_get(model.encode(samples, bandwidth=bandwidth)), decode


def transformers_encodec(folder: str, _original: str) -> Operations:
    import torch
    from transformers import EncodecModel

    torch.set_grad_enabled(False)
    model = EncodecModel.from_pretrained(folder).eval()
    bandwidth = _bandwidth(model.config)

    def decode(encoded) -> np.ndarray:
        decoded = model.decode(
            encoded.audio_codes,
            encoded.audio_scales,
            last_frame_pad_length=encoded.last_frame_pad_length,
        )
        return decoded.audio_values.numpy()

    return lambda samples: model.encode(torch.from_numpy(samples), bandwidth=bandwidth), decode


def encodec(_folder: str, original: str) -> Operations:
    import torch

    from tests.reference import encodec_checkpoints, encodec_variants

    torch.set_grad_enabled(False)
    variant = encodec_variants.ENCODEC_VARIANTS[Path(original).stem]
    model = encodec_checkpoints.load_original(original, variant)
    model.set_target_bandwidth(_bandwidth(model))
    return (
        lambda samples: model.encode(torch.from_numpy(samples)),
        lambda frames: model.decode(frames).numpy(),
    )


def _bandwidth(model: Any) -> float:
    bandwidths = model.target_bandwidths
    return BANDWIDTH if BANDWIDTH in bandwidths else bandwidths[-1]


SYSTEMS = {
    "dac": {
        "codax": codax_dac,
        "transformers (torch)": transformers_dac,
        "descript-audio-codec": descript_audio_codec,
    },
    "encodec": {
        "codax": codax_encodec,
        "transformers (torch)": transformers_encodec,
        "encodec": encodec,
    },
}
