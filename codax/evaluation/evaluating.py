"""Rate against quality: a codec over many clips, at each of its bitrates, beside Opus."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import jax
import numpy as np

from codax.codec import AudioCodec
from codax.codec.audio_codec import CODERS
from codax.codec.preparing import TRAINED, LoadedClip
from codax.errors import CodaxError, one_line
from codax.evaluation.baselines import check_kbps, code_with_opus, opus_encoder
from codax.evaluation.clips import Clips, load_clip, named_clips
from codax.evaluation.codebooks import CodeCounts
from codax.evaluation.distances import (
    multi_scale_mel_distance,
    multi_scale_stft_distance,
    si_sdr,
    si_snr,
    waveform_l1,
)
from codax.evaluation.report import Report, Step
from codax.evaluation.stoi import Stoi
from codax.evaluation.visqol import Visqol
from codax.formats import EncodedAudio

METRICS = ("mel", "stft", "waveform", "si_sdr", "si_snr")
RATIOS = {"si_sdr", "si_snr"}

SMALLEST_SIZE = 1 << 12
"""Samples. Clips are measured in sizes of half an octave above it: each is compiled once."""


def evaluate(
    codec: AudioCodec,
    clips: Clips,
    *,
    n_quantizers: Sequence[int] | None = None,
    bandwidths: Sequence[float] | None = None,
    metrics: Sequence[str] = METRICS,
    visqol: str | None = None,
    stoi: bool = False,
    opus_kbps: Sequence[float] = (),
    loudness_db: float | str | None = TRAINED,
    excerpt_s: float | None = None,
    most_skipped: int = 100,
    progress: Callable[[str], object] | None = None,
) -> Report:
    """Encode and decode every clip at every bitrate, and average how far they are apart.

    Clips are mixed to the channels that the model codes, resampled to its rate, and brought to the
    loudness that it was trained on; there they are compared with what is decoded.

    clips: a folder, a file, or an iterable of paths or `Audio`
    n_quantizers: numbers of codebooks; by default 1, 2, 4 and so on, and all of them
    bandwidths: kbps instead, for EnCodec, which by default has all of its own
    metrics: of `METRICS`; visqol: "audio" or "speech", to have ViSQOL too; stoi: STOI, of speech
    opus_kbps: bitrates of Opus, over all channels, to compare with
    loudness_db: as `AudioCodec.encode` takes it
    excerpt_s: seconds of each clip that are used, from its beginning
    most_skipped: clips that may be unreadable, or too short, before it fails
    progress: called with the name of each clip, when it was measured at all bitrates, or skipped

    Raises `CodaxError` where there are no clips, too many that cannot be measured, or none that
    can; `ValueError` for bitrates that the model or Opus does not have, for other metrics, and for
    numbers out of range.
    """
    if excerpt_s is not None and not 0 < excerpt_s < math.inf:
        raise ValueError(f"excerpt_s={excerpt_s} must be positive")
    if most_skipped < 0:
        raise ValueError(f"most_skipped={most_skipped} must be 0 or more")
    levels = _levels(codec, n_quantizers, bandwidths)
    measure = _Measure(codec.sampling_rate, metrics, visqol, stoi)
    for kbps in opus_kbps:
        check_kbps(kbps, codec.config.audio_channels)
    run = _Run(codec, levels, measure, opus_kbps, most_skipped, progress)
    run.prepare = partial(
        load_clip,
        preparation=codec.preparation(loudness_db, mix_channels=True),
        excerpt_s=excerpt_s,
    )
    run.over(named_clips(clips))
    return run.report()


def _levels(
    codec: AudioCodec,
    n_quantizers: Sequence[int] | None,
    bandwidths: Sequence[float] | None,
) -> list[int]:
    """How many codebooks each step takes, ascending. Raises `ValueError` for what there is not."""
    config = codec.config
    coder = CODERS[config.model_type](codec.model)  # pyright: ignore
    if n_quantizers is not None and bandwidths is not None:
        raise ValueError(f"{n_quantizers=} and {bandwidths=}: give one of them")
    if n_quantizers is None and bandwidths is None and config.model_type == "encodec":
        bandwidths = config.target_bandwidths
    if bandwidths is not None:
        levels = [coder.levels(None, bandwidth) for bandwidth in bandwidths]
    elif n_quantizers is not None:
        levels = [coder.levels(number, None) for number in n_quantizers]
    else:
        every = coder.num_codebooks
        levels = [2**power for power in range(every.bit_length()) if 2**power < every] + [every]
    if not levels:
        raise ValueError("there must be at least one number of codebooks, or bandwidth")
    return sorted(set(levels))


class _Measure:
    """All metrics of a clip."""

    def __init__(self, sampling_rate: int, metrics: Sequence[str], visqol: str | None, stoi: bool):
        if unknown := [name for name in metrics if name not in METRICS]:
            raise ValueError(f"metrics must be of {', '.join(METRICS)}; got {', '.join(unknown)}")
        self.rate = sampling_rate
        self.names = tuple(name for name in METRICS if name in metrics)
        self.visqol_mode = visqol
        self.scorers: dict[str, Visqol | Stoi] = {}
        if visqol is not None:
            self.scorers["visqol"] = Visqol(visqol)
        if stoi:
            self.scorers["stoi"] = Stoi()

    def __call__(self, estimate: np.ndarray, reference: np.ndarray) -> dict[str, float]:
        """Measure float32 [C, T] -> values by name; NaN where there is none."""
        length = reference.shape[1]
        arrays = (_padded(samples, _size_for(length))[None] for samples in (estimate, reference))
        values = _distances(*arrays, np.array([length]), self.rate, self.names)
        measured = {name: float(value) for name, value in values.items()}
        if not np.ptp(reference):  # the ratio of nothing to noise
            measured |= dict.fromkeys(RATIOS & measured.keys(), math.nan)
        for name, scorer in self.scorers.items():
            try:
                measured[name] = scorer.score(estimate, reference, self.rate)
            except CodaxError:
                measured[name] = math.nan
        return measured


@partial(jax.jit, static_argnames=("sampling_rate", "names"))
def _distances(estimate, reference, num_samples, sampling_rate, names):
    """Of padded clips float32 [1, C, T], of which `num_samples` [1] are there."""
    pair = estimate, reference
    functions = {
        "mel": lambda: multi_scale_mel_distance(*pair, sampling_rate, num_samples=num_samples),
        "stft": lambda: multi_scale_stft_distance(*pair, num_samples=num_samples),
        "waveform": lambda: waveform_l1(*pair, num_samples=num_samples),
        "si_sdr": lambda: si_sdr(*pair, num_samples=num_samples),
        "si_snr": lambda: si_snr(*pair, sampling_rate, num_samples=num_samples),
    }
    return {name: functions[name]() for name in names}


class _Run:
    """The state of an evaluation, while clips stream through encoder and decoder."""

    prepare: Callable[..., LoadedClip]

    def __init__(
        self,
        codec: AudioCodec,
        levels: list[int],
        measure: _Measure,
        opus_kbps: Sequence[float],
        most_skipped: int,
        progress: Callable[[str], object] | None,
    ):
        self.codec = codec
        self.levels = levels
        self.measure = measure
        self.opus = {kbps: _Totals() for kbps in sorted(set(opus_kbps))}
        self.steps = {level: _Totals() for level in levels}
        self.counts = CodeCounts(levels[-1], codec.config.codebook_size)
        self.most_skipped = most_skipped
        self.progress = progress
        self.skipped: list[tuple[str, str]] = []
        self.waiting: dict[int, _Waiting] = {}

    def over(self, clips: Iterable[tuple[str, object]]) -> None:
        """Measure all clips. Of those under way, no more are held than the codec batches."""
        encoded = self._encoded(self._prepared(clips))
        for (index, level), audio in self.codec.decode_clips(encoded, restore_loudness=False):
            if isinstance(audio, Exception):  # codes that the model has just made
                raise audio
            waiting = self.waiting[index]
            values = self.measure(audio.samples, waiting.clip.samples)
            self.steps[level].add(values, waiting.bits[level], waiting.seconds)
            waiting.bits.pop(level)
            if not waiting.bits:
                self._measure_opus(self.waiting.pop(index))
                self._tell(waiting.name)

    def report(self) -> Report:
        """What was found. Raises `CodaxError` where nothing was."""
        totals = self.steps[self.levels[-1]]
        if not totals.clips:
            raise CodaxError(
                f"no clip could be measured; {len(self.skipped)} were skipped"
                + (": {}: {}".format(*self.skipped[0]) if self.skipped else "")
            )
        return Report(
            model=self.codec.model_name,
            sampling_rate=self.codec.sampling_rate,
            clips=totals.clips,
            seconds=totals.seconds,
            steps=(*map(self._step, self.levels), *map(self._opus_step, self.opus)),
            visqol=self.measure.visqol_mode,
            opus=opus_encoder() if self.opus else None,
            skipped=tuple(self.skipped),
        )

    def _prepared(self, clips: Iterable[tuple[str, object]]) -> Iterator[tuple[int, LoadedClip]]:
        for index, (name, source) in enumerate(clips):
            try:
                clip = self.prepare(source)
            except (CodaxError, OSError) as error:
                self._skip(name, error)
                continue
            self.waiting[index] = _Waiting(name, clip, {})
            yield index, clip

    def _encoded(
        self, clips: Iterator[tuple[int, LoadedClip]]
    ) -> Iterator[tuple[tuple[int, int], EncodedAudio]]:
        """Every clip once for each step: a step's codes are the first ones of the last step's."""
        for index, encoded in self.codec.encode_clips(clips, n_quantizers=self.levels[-1]):
            if isinstance(encoded, Exception):
                self._skip(self.waiting.pop(index).name, encoded)
                continue
            self.counts.add(encoded.codes)
            steps = {level: _first_codebooks(encoded, level) for level in self.levels}
            self.waiting[index].bits.update(
                {level: self._bits(step) for level, step in steps.items()}
            )
            for level, step in steps.items():
                yield (index, level), step

    def _bits(self, encoded: EncodedAudio) -> float:
        scales = 0 if encoded.scales is None else 32 * encoded.scales.size
        return encoded.codes.size * math.log2(self.codec.config.codebook_size) + scales

    def _measure_opus(self, waiting: "_Waiting") -> None:
        samples = waiting.clip.samples
        for kbps, totals in self.opus.items():
            coded = code_with_opus(samples, self.codec.sampling_rate, kbps)
            totals.add(self.measure(coded.samples, samples), coded.bits, waiting.seconds)

    def _skip(self, name: str, error: Exception) -> None:
        reason = one_line(error)
        self.skipped.append((name, reason.removeprefix(f"{name}: ")))
        self._tell(name)
        if len(self.skipped) > self.most_skipped:
            raise CodaxError(
                f"more than {self.most_skipped} clips cannot be measured; the last one is "
                f"{name}: {self.skipped[-1][1]}"
            )

    def _tell(self, name: str) -> None:
        if self.progress is not None:
            self.progress(name)

    def _step(self, level: int) -> Step:
        use = self.counts.use(level)
        totals = self.steps[level]
        entropy_kbps = sum(use.entropy_bits) * use.frames / totals.seconds / 1000
        name = self.codec.model_name or self.codec.config.model_type
        return totals.step(name, codebooks=level, use=use, entropy_kbps=entropy_kbps)

    def _opus_step(self, kbps: float) -> Step:
        return self.opus[kbps].step("Opus", codebooks=None)


@dataclasses.dataclass
class _Waiting:
    """A clip that is on its way, and the bits of its steps that were not measured yet."""

    name: str
    clip: LoadedClip
    bits: dict[int, float]

    @property
    def seconds(self) -> float:
        return self.clip.num_samples / self.clip.sampling_rate


class _Totals:
    """Sums over the clips of one step."""

    def __init__(self):
        self.clips = 0
        self.seconds = self.bits = 0.0
        self._values: dict[str, list[float]] = defaultdict(list)

    def add(self, values: dict[str, float], bits: float, seconds: float) -> None:
        self.clips += 1
        self.bits += bits
        self.seconds += seconds
        for name, value in values.items():
            self._values[name].append(value)

    def step(self, codec: str, **facts) -> Step:
        finite = {name: [*filter(math.isfinite, all_)] for name, all_ in self._values.items()}
        return Step(
            codec=codec,
            kbps=self.bits / self.seconds / 1000,
            metrics={
                name: math.fsum(values) / len(values) if values else None
                for name, values in finite.items()
            },
            left_out={
                name: self.clips - len(values)
                for name, values in finite.items()
                if len(values) < self.clips
            },
            **facts,
        )


def _first_codebooks(encoded: EncodedAudio, number: int) -> EncodedAudio:
    """A clip as it is coded with fewer codebooks: each quantizes what those before it left."""
    return dataclasses.replace(encoded, codes=encoded.codes[:, :number])


def _size_for(length: int) -> int:
    steps = max(0, math.ceil(2 * math.log2(length / SMALLEST_SIZE) - 1e-9))
    return max(length, round(SMALLEST_SIZE * 2 ** (steps / 2)))


def _padded(samples: np.ndarray, size: int) -> np.ndarray:
    return np.pad(samples, ((0, 0), (0, size - samples.shape[1])))
