"""Coding on several devices beside coding on one: what test_devices.py runs in other processes.

    python -m tests.modeling.on_devices               all devices of this process, then three
    python -m tests.modeling.on_devices 0 2 29500     the devices of both of two processes

Simulated devices have to be asked for before jax starts, in XLA_FLAGS. Each comparison is one line
of JSON, printed as soon as it is made, so that those before a crash or a hang are known.
"""

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import jax
import numpy as np

import codax
from codax.modeling import FlaxDacModel, pretrained_base
from codax.modeling.devices import on_host
from tests.tiny_encodec import MONO, STEREO, STRIDE, tiny_encodec

from .tiny import noise, tiny_config, tiny_model

CLIPS = 4
"""Of the reference, on one device; clips do not depend on each other, so fewer are its first."""

CODEC_CHUNKS = {"encode_chunk_length_s": 0.05, "decode_chunk_length_s": 0.05}


class Case(NamedTuple):
    """How many clips a model spread over some devices codes, with which settings."""

    devices: int
    clips: int
    encode: tuple[str, ...]
    decode: tuple[str, ...]


# Every new shape and setting is a program to compile, so not all of them are combined.
IN_ONE_PROCESS = (
    Case(4, 1, ("chunks",), ("exact", "mean")),
    Case(4, 3, ("whole",), ("whole", "overlap_average")),
    Case(4, 4, ("whole", "chunks"), ("whole", "exact")),
    Case(3, 4, ("chunks",), ("overlap_average",)),
)
IN_SEVERAL_PROCESSES = (
    Case(4, 1, ("chunks",), ("overlap_average",)),
    Case(4, 4, ("chunks",), ("exact",)),
)


@dataclass(frozen=True)
class Subject:
    """A family of models, and what to code with it.

    make: a model; all those of one subject are the same
    length: samples of the first clip; the others are shorter
    frames: of the chunks that are exact, and of those that overlap
    bandwidth: kbps, so that there are several codebooks
    """

    make: Callable[[], Any]
    length: int
    frames: tuple[int, int]
    bandwidth: float | None = None

    def encode(self, model, clips, setting):
        """-> (codes, other arrays), as the model gives them."""
        channels = model.config.audio_channels
        audio = noise(CLIPS, channels, self.length)[:clips]
        settings = self._encode_settings(model)[setting]
        if isinstance(model, FlaxDacModel):
            output = model.encode(audio, **settings)
            return output.audio_codes, [output.quantized_representation, output.projected_latents]
        mask = np.arange(self.length) < self._lengths(clips)[:, None]
        output = model.encode(audio, mask, self.bandwidth, **settings)
        return output.audio_codes, [] if output.audio_scales is None else [output.audio_scales]

    def decode(self, model, encoded, clips, setting):
        """(codes, other arrays) of so many clips -> audio."""
        codes, others = encoded
        settings = self._decode_settings(model)[setting]
        if isinstance(model, FlaxDacModel):
            return model.decode(audio_codes=codes, **settings).audio_values
        scales = others[0] if others else None
        lengths = self._lengths(clips)
        return model.decode(codes, scales, num_samples=lengths, **settings).audio_values

    def first(self, encoded, clips):
        """Of all clips, the first ones; in NumPy arrays."""
        codes, _ = encoded
        axis = codes.ndim - 3  # EnCodec's segments come first
        return jax.tree.map(lambda array: np.asarray(array).take(range(clips), axis), encoded)

    def _lengths(self, clips):
        """Mixed, but for a single clip."""
        return (self.length - 333 * np.arange(CLIPS))[:clips]

    def _encode_settings(self, model):
        seconds = self.frames[0] / model.config.frame_rate
        return {"whole": {"chunk_length_s": 0}, "chunks": {"chunk_length_s": seconds}}

    def _decode_settings(self, model):
        exact, overlapping = (frames / model.config.frame_rate for frames in self.frames)
        overlapping = {"chunk_length_s": overlapping, "overlap": 0.25}
        return {
            "whole": {"chunk_length_s": 0},
            "exact": {"chunk_length_s": exact, "chunk_mode": "exact"},
            "overlap_average": {**overlapping, "chunk_mode": "overlap_average"},
            "mean": {**overlapping, "chunk_mode": "mean"},
        }


# Clips of 6 chunks about. The mono model has an LSTM, stereo clips have 6 segments.
SUBJECTS = {
    "dac": Subject(
        lambda: tiny_model(tiny_config(downsampling_ratios=[5], n_codebooks=2, **CODEC_CHUNKS)),
        length=1003,
        frames=(30, 45),
    ),
    "mono": Subject(
        lambda: tiny_encodec(MONO, upsampling_ratios=[10], **CODEC_CHUNKS),
        length=2009,
        frames=(37, 45),
        bandwidth=6.4,
    ),
    "stereo": Subject(
        lambda: tiny_encodec(STEREO, **CODEC_CHUNKS),
        length=5 * STRIDE + 20,
        frames=(38, 38),
        bandwidth=9.6,
    ),
}


@dataclass
class Programs:
    """What compiled functions all models run while this is entered.

    calls: for each, into how many different parts its arrays were divided, and its results
    """

    calls: list[tuple[int, int]] = field(default_factory=list)

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
            results = [leaf for leaf in jax.tree.leaves(result) if leaf.ndim]
            given = min(map(_parts, jax.tree.leaves(arrays)))
            self.calls.append((given, max(map(_parts, results))))
            return result

        return run


def _parts(array):
    """How many different parts of it devices hold: 1 if it is whole on all of them."""
    if not isinstance(array, jax.Array):
        return 1
    indices = array.sharding.devices_indices_map(array.shape).values()
    return len({str(index) for index in indices})


class OnOneDevice:
    """What a subject's model gives for all clips, each setting once; and how many calls it took."""

    def __init__(self, subject):
        self.subject = subject
        self.model = subject.make()
        self.encoded = cache(self._encoded)
        self.decoded = cache(self._decoded)

    def _encoded(self, setting):
        with Programs() as programs:
            encoded = self.subject.encode(self.model, CLIPS, setting)
        return jax.tree.map(np.asarray, encoded), len(programs.calls)

    def _decoded(self, setting):
        encoded, _ = self.encoded("chunks")
        with Programs() as programs:
            audio = self.subject.decode(self.model, encoded, CLIPS, setting)
        return np.asarray(audio), len(programs.calls)


def report(name, compare):
    """Print what `compare` gives, or how it failed."""
    try:
        result = compare()
    except Exception:
        result = {"exception": traceback.format_exc()}
    print(json.dumps({"name": name, **result}), flush=True)


def difference(arrays, expected):
    """The largest between any two; infinite for another shape or dtype."""
    pairs = list(zip(map(on_host, arrays), expected, strict=True))
    if any((a.shape, a.dtype) != (b.shape, b.dtype) for a, b in pairs):
        return float("inf")
    return max((float(np.max(np.abs(a - b))) for a, b in pairs), default=0.0)


def compare_encoding(subject, model, alone, clips, setting):
    with Programs() as programs:
        codes, others = subject.encode(model, clips, setting)
    expected, calls_alone = alone.encoded(setting)
    expected_codes, expected_others = subject.first(expected, clips)
    return {
        "codes_differ": difference([codes], [expected_codes]),
        "difference": difference(others, expected_others),
        **divided(programs, calls_alone),
    }


def compare_decoding(subject, model, alone, clips, setting):
    encoded = subject.first(alone.encoded("chunks")[0], clips)
    with Programs() as programs:
        audio = subject.decode(model, encoded, clips, setting)
    expected, calls_alone = alone.decoded(setting)
    return {
        "difference": difference([audio], [expected[:clips]]),
        **divided(programs, calls_alone),
    }


def divided(programs, calls_alone):
    given, results = zip(*programs.calls, strict=True)
    return {
        "parts_given": min(given),
        "parts_of_results": min(results),
        "calls": len(programs.calls),
        "calls_alone": calls_alone,
    }


def compare_cases(family, cases, devices):
    subject = SUBJECTS[family]
    alone, model = OnOneDevice(subject), subject.make()
    spread_over = None
    for case in cases:
        if case.devices != spread_over:
            model.spread(devices[: case.devices])
            spread_over = case.devices
        prefix = f"{family}, {case.clips} clips, {case.devices} devices"
        given = (subject, model, alone, case.clips)
        for setting in case.encode:
            report(
                f"{prefix}: encode {setting}", lambda g=given, s=setting: compare_encoding(*g, s)
            )
        for setting in case.decode:
            report(
                f"{prefix}: decode {setting}", lambda g=given, s=setting: compare_decoding(*g, s)
            )
    return alone


def compare_codec(family):
    """`AudioCodec`, of a model that `spread` itself chose the devices of."""

    def round_trip(model):
        """Two channels, of which DAC and mono EnCodec make two streams -> codes, audio."""
        codec = codax.AudioCodec(model)
        encoded = codec.encode(noise(2, 6001, seed=5), 8000)
        return encoded.codes, codec.decode(encoded).samples

    def compare():
        expected_codes, expected = round_trip(SUBJECTS[family].make())
        model = SUBJECTS[family].make()
        model.spread()
        with Programs() as programs:
            codes, audio = round_trip(model)
        return {
            "codes_differ": difference([codes], [expected_codes]),
            "difference": difference([audio], [expected]),
            "parts_given": max(given for given, _ in programs.calls),
        }

    report(f"{family}: AudioCodec", compare)


def compare_there_and_back(family, alone):
    """What `encode` gives, parts of which other processes hold, goes into `decode`."""
    subject = SUBJECTS[family]

    def compare():
        model = subject.make()
        model.spread(jax.devices())
        audio = subject.decode(model, subject.encode(model, CLIPS, "whole"), CLIPS, "exact")
        return {"difference": difference([audio], [alone.decoded("exact")[0]])}

    report(f"{family}: there and back", compare)


def main(index=0, count=1, port=0):
    """Process `index` of `count`, which meet at a port of this machine."""
    if count > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"127.0.0.1:{port}", count, index, initialization_timeout=100)
    cases = IN_ONE_PROCESS if count == 1 else IN_SEVERAL_PROCESSES
    for family in SUBJECTS:
        alone = compare_cases(family, cases, jax.devices())
        if count == 1:
            compare_codec(family)
        else:
            compare_there_and_back(family, alone)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
