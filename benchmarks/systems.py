"""The systems that compare.py times, each as a function from a checkpoint to two operations.

Inputs and outputs are NumPy arrays: samples float32 [1, 1, T], codes int64 [1, K, F]. What a call
costs a user is timed, from array to finished array, with everything compiled and loaded before.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

Operation = Callable[[np.ndarray], np.ndarray]


def codax(folder: str, _original: str) -> tuple[Operation, Operation]:
    from codax import FlaxDacModel

    model = FlaxDacModel.from_pretrained(folder)
    return (
        lambda samples: np.asarray(model.encode(samples).audio_codes),
        lambda codes: np.asarray(model.decode(audio_codes=codes).audio_values),
    )


def transformers_torch(folder: str, _original: str) -> tuple[Operation, Operation]:
    import torch
    from transformers import DacModel

    torch.set_grad_enabled(False)
    model = DacModel.from_pretrained(folder).eval()
    return (
        lambda samples: model.encode(torch.from_numpy(samples)).audio_codes.numpy(),
        lambda codes: model.decode(audio_codes=torch.from_numpy(codes)).audio_values.numpy(),
    )


def descript_audio_codec(_folder: str, original: str) -> tuple[Operation, Operation]:
    import torch

    from tests.reference import checkpoints

    torch.set_grad_enabled(False)
    model = checkpoints.load_descript(original)

    def decode(codes: np.ndarray) -> np.ndarray:
        quantized = model.quantizer.from_codes(torch.from_numpy(codes))[0]
        return model.decode(quantized).numpy()

    return lambda samples: model.encode(torch.from_numpy(samples))[1].numpy(), decode


SYSTEMS = {
    "codax": codax,
    "transformers (torch)": transformers_torch,
    "descript-audio-codec": descript_audio_codec,
}
