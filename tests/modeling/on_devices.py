"""Coding on several devices beside coding on one: what test_devices.py runs in other processes.

    python -m tests.modeling.on_devices               all devices of this process, then three
    python -m tests.modeling.on_devices 0 2 29500     the devices of both of two processes

Simulated devices have to be asked for before jax starts, in XLA_FLAGS. Each comparison is one line
of JSON, printed as soon as it is made, so that those before a crash or a hang are known.
"""

import json
import sys
import traceback
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

import codax
from codax.modeling import FlaxDacModel, pretrained_base
from codax.modeling.devices import on_host
from tests.tiny_encodec import MONO, STEREO, STRIDE, tiny_encodec

from .tiny import noise, tiny_config, tiny_model

CLIPS = 4
"""Of the reference, on one device; clips do not depend on each other, so fewer are its first."""

RATE = 8000
FRAMES_PER_S = 800
CODEC_CHUNKS = {"encode_chunk_length_s": 0.05, "decode_chunk_length_s": 0.05}


@dataclass(frozen=True)
class Subject:
    """A model, and what to code with it.

    length: samples; the clips are as long as this and shorter, the first one as long
    bandwidth: kbps, so that there are several codebooks
    frames: of the chunks that are exact, and that overlap
    """

    model: Any
    length: int
    frames: tuple[int, int]
    bandwidth: float | None = None

    @property
    def channels(self):
        return getattr(self.model.config, "audio_channels", 1)

    @property
    def encode_settings(self):
        return {"whole": {"chunk_length_s": 0}, "chunks": {"chunk_length_s": self._seconds(0)}}

    @property
    def decode_settings(self):
        overlapping = {"chunk_length_s": self._seconds(1), "overlap": 0.25}
        return {
            "whole": {"chunk_length_s": 0},
            "exact": {"chunk_length_s": self._seconds(0), "chunk_mode": "exact"},
            "overlap_average": {**overlapping, "chunk_mode": "overlap_average"},
            "mean": {**overlapping, "chunk_mode": "mean"},
        }

    def _seconds(self, index):
        return self.frames[index] / FRAMES_PER_S

    def audio(self, clips):
        return noise(CLIPS, self.channels, self.length)[:clips]

    def lengths(self, clips):
        """EnCodec takes clips of mixed lengths; a single one has no mask."""
        return (self.length - 333 * np.arange(CLIPS))[:clips]

    def encode(self, clips, settings):
        """-> codes, and other arrays: all as the model gives them."""
        audio = self.audio(clips)
        if isinstance(self.model, FlaxDacModel):
            output = self.model.encode(audio, **settings)
            return output.audio_codes, [output.quantized_representation, output.projected_latents]
        mask = np.arange(self.length) < self.lengths(clips)[:, None]
        output = self.model.encode(audio, mask, self.bandwidth, **settings)
        return output.audio_codes, [a for a in [output.audio_scales] if a is not None]

    def decode(self, codes, scales, clips, settings):
        """-> audio, of codes [4, K, F] or [S, 4, K, F] of which the first clips are taken."""
        if isinstance(self.model, FlaxDacModel):
            return self.model.decode(audio_codes=codes[:clips], **settings).audio_values
        scales = scales[0][:, :clips] if scales else None
        lengths = self.lengths(clips)
        output = self.model.decode(codes[:, :clips], scales, num_samples=lengths, **settings)
        return output.audio_values


def subjects():
    """Few frames, but several chunks for each device. The mono model has an LSTM, stereo segments.

    Stereo clips have 6 segments, and chunks are of one.
    """
    dac = tiny_model(tiny_config(**CODEC_CHUNKS))
    mono = tiny_encodec(MONO, **CODEC_CHUNKS)
    stereo = tiny_encodec(STEREO, **CODEC_CHUNKS)
    return {
        "dac": Subject(dac, 1997, (30, 45)),
        "encodec_mono": Subject(mono, 2009, (37, 45), 6.4),
        "encodec_stereo": Subject(stereo, 5 * STRIDE + 20, (38, 38), 9.6),
    }


@dataclass
class Programs:
    """What the compiled functions of all models were run on while this is entered.

    calls: for each, into how many different parts its arrays were divided, and its results
    """

    with_flops: bool = False
    calls: list[tuple[int, int]] = field(default_factory=list)
    flops: float = 0.0  # of each device

    NAMES = ("_run", "_run_carrying")

    def __enter__(self):
        self._originals = [getattr(pretrained_base, name) for name in self.NAMES]
        for name, original in zip(self.NAMES, self._originals, strict=True):
            setattr(pretrained_base, name, self._recording(original))
        return self

    def __exit__(self, *_):
        for name, original in zip(self.NAMES, self._originals, strict=True):
            setattr(pretrained_base, name, original)

    def _recording(self, original):
        def run(*arguments):
            *_, arrays, _ = arguments
            result = original(*arguments)
            outputs = [leaf for leaf in jax.tree.leaves(result) if leaf.ndim]
            given = min(_parts(array) for array in jax.tree.leaves(arrays))
            self.calls.append((given, max(map(_parts, outputs))))
            if self.with_flops:
                self.flops += original.lower(*arguments).compile().cost_analysis()["flops"]
            return result

        return run


def _parts(array):
    """How many different parts of it devices hold: 1 if it is whole on all of them."""
    if not isinstance(array, jax.Array):
        return 1
    indices = array.sharding.devices_indices_map(array.shape).values()
    return len({str(index) for index in indices})


def report(name, compare):
    """Print what `compare` gives, or how it failed."""
    try:
        result = compare()
    except Exception:
        result = {"exception": traceback.format_exc()}
    print(json.dumps({"name": name, **result}), flush=True)


def difference(arrays, expected):
    """The largest one of any two; -1 for another shape or dtype."""
    arrays, expected = map(on_host, arrays), map(np.asarray, expected)
    pairs = list(zip(arrays, expected, strict=True))
    if any((a.shape, a.dtype) != (b.shape, b.dtype) for a, b in pairs):
        return -1.0
    return max((float(np.max(np.abs(a - b))) for a, b in pairs), default=0.0)


@dataclass(frozen=True)
class Reference:
    """Coded on one device: codes and the rest, and audio, for each of the settings."""

    encoded: dict[str, Any]
    decoded: dict[str, Any]
    calls: dict[str, int]
    flops: dict[str, float]

    @classmethod
    def of(cls, subject, with_flops):
        encoded, decoded, calls, flops = {}, {}, {}, {}
        for name, settings in subject.encode_settings.items():
            with Programs(with_flops and name == "whole") as programs:
                encoded[name] = subject.encode(CLIPS, settings)
            calls[f"encode {name}"] = len(programs.calls)
            flops[f"encode {name}"] = programs.flops
        codes, others = jax.tree.map(np.asarray, encoded["whole"])
        for name, settings in subject.decode_settings.items():
            with Programs(with_flops and name == "whole") as programs:
                decoded[name] = subject.decode(codes, others, CLIPS, settings)
            calls[f"decode {name}"] = len(programs.calls)
            flops[f"decode {name}"] = programs.flops
        return cls(encoded, decoded, calls, flops)


def compare_all(prefix, subject, reference, clips, with_flops):
    """Encode and decode with all settings, with a model that is spread by now."""
    codes, others = jax.tree.map(np.asarray, reference.encoded["whole"])
    clip_axis = codes.ndim - 3

    def took(programs, name):
        inputs, outputs = zip(*programs.calls, strict=True)
        return {
            "parts": [min(inputs), min(outputs)],
            "calls": [len(inputs), reference.calls[name]],
            "flops": [programs.flops, reference.flops[name]],
        }

    def encoding(name, settings):
        with Programs(with_flops and name == "whole" and clips == CLIPS) as programs:
            own_codes, own_others = subject.encode(clips, settings)
        expected_codes, expected = reference.encoded[name]
        expected_codes = np.asarray(expected_codes).take(range(clips), clip_axis)
        expected = [np.asarray(a).take(range(clips), clip_axis) for a in expected]
        return {
            "codes_differ": difference([own_codes], [expected_codes]),
            "difference": difference(own_others, expected),
            **took(programs, f"encode {name}"),
        }

    def decoding(name, settings):
        with Programs(with_flops and name == "whole" and clips == CLIPS) as programs:
            audio = subject.decode(codes, others, clips, settings)
        expected = np.asarray(reference.decoded[name])[:clips]
        return {"difference": difference([audio], [expected]), **took(programs, f"decode {name}")}

    for name, settings in subject.encode_settings.items():
        report(f"{prefix} encode {name}", lambda n=name, s=settings: encoding(n, s))
    for name, settings in subject.decode_settings.items():
        report(f"{prefix} decode {name}", lambda n=name, s=settings: decoding(n, s))


def codec_round_trip(model):
    """Two channels, from which DAC and mono EnCodec make two streams -> codes, audio, a span."""
    codec = codax.AudioCodec(model)
    audio = noise(2, 6001, seed=5)
    encoded = codec.encode(audio, RATE)
    whole, span = codec.decode(encoded), codec.decode(encoded, 0.3, 0.5)
    scales = [] if encoded.scales is None else [encoded.scales]
    return encoded.codes, [*scales, whole.samples, span.samples]


def compare_codecs(prefix, model, expected):
    """`AudioCodec` of a model that is spread by now."""

    def compare():
        with Programs() as programs:
            codes, others = codec_round_trip(model)
        return {
            "codes_differ": difference([codes], [expected[0]]),
            "difference": difference(others, expected[1]),
            "parts": [max(parts) for parts in zip(*programs.calls, strict=True)],
        }

    report(f"{prefix} AudioCodec", compare)


def in_one_process():
    for family, subject in subjects().items():
        model = subject.model
        params = model.params
        reference = Reference.of(subject, with_flops=True)
        codec_expected = codec_round_trip(model)
        for devices, batches in ((jax.devices(), (1, 3, 4)), (jax.devices()[:3], (4,))):
            model.params = params
            model.spread(None if len(devices) == jax.device_count() else devices)
            for clips in batches:
                prefix = f"{family}, {clips} clips on {len(devices)} devices:"
                compare_all(prefix, subject, reference, clips, with_flops=len(devices) == CLIPS)
            if len(devices) == jax.device_count():
                compare_codecs(f"{family}:", model, codec_expected)


def in_several_processes(index, count, port):
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", count, index, initialization_timeout=60)
    assert jax.device_count() == count * jax.local_device_count()
    for family, subject in subjects().items():
        reference = Reference.of(subject, with_flops=False)
        codec_expected = codec_round_trip(subject.model)
        subject.model.spread(jax.devices())
        for clips in (1, 4):
            prefix = f"{family}, {clips} clips on {jax.device_count()} devices:"
            compare_all(prefix, subject, reference, clips, with_flops=False)
        compare_codecs(f"{family}:", subject.model, codec_expected)
        report(f"{family}: there and back", lambda s=subject, r=reference: there_and_back(s, r))


def there_and_back(subject, reference):
    """What `encode` gives, parts of which are in other processes, goes into `decode`."""
    codes, others = subject.encode(CLIPS, {"chunk_length_s": 0})
    settings = subject.decode_settings["exact"]
    audio = subject.decode(codes, others, CLIPS, settings)
    return {"difference": difference([audio], [reference.decoded["exact"]])}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        in_several_processes(*map(int, sys.argv[1:]))
    else:
        in_one_process()
