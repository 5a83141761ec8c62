"""Both EnCodec references behind one small interface, numpy in and numpy out.

What a reference makes of a clip is a list of segments, one where the model codes clips as a whole.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch

from . import encodec_checkpoints


@dataclass(frozen=True)
class Segment:
    """codes int [B, K, F], scale float32 [B, 1] or None."""

    codes: np.ndarray
    scale: np.ndarray | None


class _Oracle:
    def __init__(self, load, variant):
        self._load = load
        self.variant = variant
        self.model = load()

    @functools.cached_property
    def model64(self):
        """The same model in float64; weight norm is folded in float64 too."""
        return self._load().double()

    def distances(self, audio, segments):
        """Distances of every frame to the codewords, along the codes: a SegmentDistances each."""
        return [
            SegmentDistances(self, piece, segment.codes)
            for piece, segment in zip(self.cut(audio), segments, strict=True)
        ]

    @torch.no_grad()
    def latents(self, model, piece):
        """Encoder output float [B, D, F] for one segment [B, C, T], in the model's precision."""
        audio = _tensor(piece).to(next(model.parameters()).dtype)
        return model.encoder(normalized(audio) if self.variant.normalize else audio)

    def _pieces(self, audio):
        chunk, stride = self.variant.chunk_length, self.variant.chunk_stride
        if chunk is None:
            return [audio]
        return [audio[..., start : start + chunk] for start in range(0, audio.shape[-1], stride)]


class OriginalOracle(_Oracle):
    """The encodec package's EncodecModel, loaded from a `.th` file."""

    name = "encodec"
    segmentation = "original"

    def __init__(self, path, variant):
        super().__init__(
            functools.partial(encodec_checkpoints.load_original, path, variant), variant
        )

    def coded_length(self, num_samples):
        """Samples that the segments of a clip hold."""
        return num_samples

    def cut(self, audio):
        """Segments as the model cuts a clip: [B, C, T] each."""
        return self._pieces(audio)

    @torch.no_grad()
    def encode(self, audio, bandwidth):
        """float32 [B, C, T] -> list of Segment."""
        self.model.set_target_bandwidth(bandwidth)
        return [
            Segment(codes.numpy(), None if scale is None else scale.numpy())
            for codes, scale in self.model.encode(_tensor(audio))
        ]

    @torch.no_grad()
    def decode(self, segments):
        """List of Segment -> float32 [B, C, T'], where the model's own decoder does not fail."""
        return self.model.decode(_frames(segments)).numpy()

    @torch.no_grad()
    def decode_cut_off(self, segments):
        """As `decode`, segments cut off where they reach beyond the end of the last one."""
        decoded = [self.model._decode_frame(frame) for frame in _frames(segments)]
        if self.variant.chunk_length is None:
            return decoded[0].numpy()
        return _overlap_add(decoded, self.variant.chunk_stride).numpy()

    def codebook(self, model, level):
        return model.quantizer.vq.layers[level]._codebook.embed


class TransformersOracle(_Oracle):
    """transformers' torch EncodecModel with its feature extractor, loaded from a folder."""

    name = "transformers"
    segmentation = "transformers"

    def __init__(self, folder, variant):
        super().__init__(functools.partial(encodec_checkpoints.load_transformers, folder), variant)
        self.extractor = encodec_checkpoints.feature_extractor(variant)

    def extract(self, clips):
        """List of float32 [C, T] -> float32 [B, C, T'], padding mask int [B, T']."""
        clips = [clip[0] if len(clip) == 1 else clip for clip in clips]
        features = self.extractor(
            clips, sampling_rate=self.variant.sampling_rate, return_tensors="np"
        )
        return features["input_values"].astype(np.float32), features["padding_mask"]

    def coded_length(self, num_samples):
        """Samples that the segments of a clip hold: what the extractor pads it to."""
        clip = np.zeros((self.variant.audio_channels, num_samples), np.float32)
        return self.extract([clip])[0].shape[-1]

    def cut(self, audio):
        """Segments as the model cuts what the extractor pads: [B, C, T] each."""
        return self._pieces(self.extract(list(audio))[0])

    @torch.no_grad()
    def encode(self, audio, bandwidth):
        """float32 [B, C, T] -> list of Segment."""
        input_values, padding_mask = self.extract(list(audio))
        output = self.model.encode(_tensor(input_values), _tensor(padding_mask), bandwidth)
        codes = [codes.numpy() for codes in output.audio_codes]
        codes[-1] = codes[-1][..., : codes[-1].shape[-1] - output.last_frame_pad_length]
        return [
            Segment(one, None if scale is None else scale.numpy())
            for one, scale in zip(codes, output.audio_scales, strict=True)
        ]

    @torch.no_grad()
    def decode(self, segments):
        """List of Segment -> float32 [B, C, T']."""
        longest = segments[0].codes.shape[-1]
        missing = longest - segments[-1].codes.shape[-1]
        codes = [
            np.pad(segment.codes, ((0, 0), (0, 0), (0, longest - segment.codes.shape[-1])))
            for segment in segments
        ]
        scales = [None if one.scale is None else _tensor(one.scale) for one in segments]
        output = self.model.decode(
            _tensor(np.stack(codes)).long(), scales, last_frame_pad_length=missing
        )
        return output.audio_values.numpy()

    decode_cut_off = decode  # the padding leaves no overlap to lose

    def codebook(self, model, level):
        return model.quantizer.layers[level].codebook.embed


class SegmentDistances:
    """Squared distances between a frame's residual and the codewords.

    Followed along the given codes, so that a level's distances are those that the reference had
    before it, whatever another implementation chose. Computed in float64, and in float32 as the
    reference adds to see how far rounding moved them. Nothing runs before the first call of `at`.
    """

    def __init__(self, oracle, audio, codes):
        self._oracle, self._audio, self._codes = oracle, audio, codes

    def at(self, batch, level, frame):
        """(float64, float32) distances to each codeword of a level, both [codebook_size]."""
        return tuple(
            self._distances(model, residuals[level][batch, :, frame], level)
            for model, residuals in (self._exact, self._rounded)
        )

    @functools.cached_property
    def _exact(self):
        return self._oracle.model64, self._residuals(self._oracle.model64)

    @functools.cached_property
    def _rounded(self):
        return self._oracle.model, self._residuals(self._oracle.model)

    @torch.no_grad()
    def _residuals(self, model):
        """What every level quantises, K tensors [B, D, F]."""
        residual = self._oracle.latents(model, self._audio)
        residuals = []
        for level, codes in enumerate(_tensor(self._codes).long().unbind(1)):
            residuals.append(residual)
            residual = residual - self._oracle.codebook(model, level)[codes].transpose(1, 2)
        return residuals

    @torch.no_grad()
    def _distances(self, model, residual, level):
        codewords = self._oracle.codebook(model, level)
        x = residual[None]
        squares = x.pow(2).sum(1, keepdim=True), codewords.t().pow(2).sum(0, keepdim=True)
        return (squares[0] - 2 * x @ codewords.t() + squares[1])[0].numpy()


def normalized(audio):
    """Audio [B, C, T] over the root mean square of its mono mix."""
    mono = audio.mean(dim=1, keepdim=True)
    return audio / (1e-8 + mono.pow(2).mean(dim=2, keepdim=True).sqrt())


def _overlap_add(decoded, stride):
    """The encodec package's `_linear_overlap_add`; what reaches beyond the end is cut off."""
    total = stride * (len(decoded) - 1) + decoded[-1].shape[-1]
    time = torch.linspace(0, 1, decoded[0].shape[-1] + 2)[1:-1]
    weight = 0.5 - (time - 0.5).abs()
    weighted_sum = torch.zeros(*decoded[0].shape[:-1], total)
    sum_of_weights = torch.zeros(total)
    for index, frame in enumerate(decoded):
        start = index * stride
        frame = frame[..., : total - start]
        stop = start + frame.shape[-1]
        weighted_sum[..., start:stop] += weight[: stop - start] * frame
        sum_of_weights[start:stop] += weight[: stop - start]
    return weighted_sum / sum_of_weights


def _frames(segments):
    """As the encodec package passes them."""
    return [
        (_tensor(segment.codes).long(), None if segment.scale is None else _tensor(segment.scale))
        for segment in segments
    ]


def _tensor(array):
    return torch.from_numpy(np.array(array))
