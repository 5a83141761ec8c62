"""The systems that compare.py times, each as a function from a checkpoint to two operations.

The first operation takes samples, float32 [B, C, T], to codes in whatever form the system has them,
the second takes those back to samples. What a call costs a user is timed, from a NumPy array to a
finished array, with everything compiled and loaded before.
"""

import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

Operations = tuple[Callable[[np.ndarray], Any], Callable[[Any], np.ndarray]]

BANDWIDTH = 6.0  # kbps, of EnCodec models that have it; others have one


def codax_dac(folder: str, _original: str, **dtypes: Any) -> Operations:
    from codax import FlaxDacModel

    model = FlaxDacModel.from_pretrained(folder, **dtypes)
    return (
        lambda samples: np.asarray(model.encode(samples).audio_codes),
        lambda codes: np.asarray(model.decode(audio_codes=codes).audio_values),
    )


def codax_dac_bf16(folder: str, original: str) -> Operations:
    import jax.numpy as jnp

    return codax_dac(folder, original, dtype=jnp.bfloat16, encode_dtype=jnp.bfloat16)


def transformers_dac(folder: str, _original: str) -> Operations:
    model, torch = _torch_model("DacModel", folder)
    return _dac_operations(model, torch, torch.float32)


def transformers_dac_compiled(folder: str, _original: str) -> Operations:
    model, torch = _torch_model("DacModel", folder)
    _compile_networks(model, torch)
    return _dac_operations(model, torch, torch.float32)


def transformers_dac_bf16(folder: str, _original: str) -> Operations:
    model, torch = _torch_model("DacModel", folder)
    return _dac_operations(model.to(torch.bfloat16), torch, torch.bfloat16)


def onnx_dac(folder: str, _original: str) -> Operations:
    """transformers' model, as ONNX Runtime runs it."""
    model, torch = _torch_model("DacModel", folder)

    class Encode(torch.nn.Module):
        def forward(self, samples):
            return model.encode(samples).audio_codes

    class Decode(torch.nn.Module):
        def forward(self, codes):
            return model.decode(audio_codes=codes).audio_values

    return _exported(Encode(), torch), _exported(Decode(), torch)


def _compile_networks(model: Any, torch: Any) -> None:
    """Both networks by torch.compile, for each shape anew, and for each layer if need be."""
    torch._dynamo.config.recompile_limit = 64
    torch._dynamo.config.capture_scalar_outputs = True  # EnCodec's padding
    model.encoder = torch.compile(model.encoder, dynamic=False)
    model.decoder = torch.compile(model.decoder, dynamic=False)


def _torch_model(name: str, folder: str) -> tuple[Any, Any]:
    import torch
    import transformers

    torch.set_grad_enabled(False)
    model = getattr(transformers, name).from_pretrained(folder)
    return model.eval().requires_grad_(False), torch


def _dac_operations(model: Any, torch: Any, dtype: Any) -> Operations:
    def encode(samples: np.ndarray) -> np.ndarray:
        return model.encode(torch.from_numpy(samples).to(dtype)).audio_codes.numpy()

    def decode(codes: np.ndarray) -> np.ndarray:
        audio = model.decode(audio_codes=torch.from_numpy(codes)).audio_values
        return audio.to(torch.float32).numpy()

    return encode, decode


def _exported(module: Any, torch: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A function of one array that ONNX Runtime computes; exported for each shape anew."""
    import onnxruntime

    sessions = {}

    def run(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.int64) if array.dtype == np.int32 else array
        if array.shape not in sessions:
            with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                path = str(Path(folder, "model.onnx"))
                arguments = (torch.from_numpy(array),)
                torch.onnx.export(module, arguments, path, input_names=["input"], dynamo=False)
                sessions[array.shape] = onnxruntime.InferenceSession(path)
        return sessions[array.shape].run(None, {"input": array})[0]

    return run


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
    model, torch = _torch_model("EncodecModel", folder)
    return _encodec_operations(model, torch)


def transformers_encodec_compiled(folder: str, _original: str) -> Operations:
    model, torch = _torch_model("EncodecModel", folder)
    _compile_networks(model, torch)
    return _encodec_operations(model, torch)


def onnx_encodec(folder: str, _original: str) -> Operations:
    """transformers' model, its networks and quantizer, as ONNX Runtime runs them.

    Of models that code a clip whole, without scales.
    """
    model, torch = _torch_model("EncodecModel", folder)
    if model.config.chunk_length_s is not None:
        raise NotImplementedError("clips in segments, with scales")
    bandwidth = _bandwidth(model.config)

    class Encode(torch.nn.Module):
        def forward(self, samples):
            return model.quantizer.encode(model.encoder(samples), bandwidth)

    class Decode(torch.nn.Module):
        def forward(self, codes):
            return model.decoder(model.quantizer.decode(codes))

    return _exported(Encode(), torch), _exported(Decode(), torch)


def _encodec_operations(model: Any, torch: Any) -> Operations:
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
        "torch.compile": transformers_dac_compiled,
        "ONNX Runtime": onnx_dac,
        "codax bf16": codax_dac_bf16,
        "torch bf16": transformers_dac_bf16,
    },
    "encodec": {
        "codax": codax_encodec,
        "transformers (torch)": transformers_encodec,
        "encodec": encodec,
        "torch.compile": transformers_encodec_compiled,
        "ONNX Runtime": onnx_encodec,
    },
}
