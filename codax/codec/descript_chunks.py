"""The chunks of descript-audio-codec, for `.dac` files that must be those of its `compress`.

Convolutions are not padded there; instead the clip is, by the model's delay at both ends, and every
chunk brings what its frames depend on:

    silence | clip                                    | silence
    |- delay -|
    [ window 0           ]
               [ window 1           ]                  each `step` after the one before
                          [ window 2           ]

A step is no multiple of the hop length: frames shift against the clip from chunk to chunk, and so
codes depend on the length of the window. Source: descript-audio-codec 1.0.0, `CodecMixin.compress`.
"""

import numpy as np

from codax.modeling import FlaxDacModel
from codax.modeling.devices import on_host
from codax.streaming import CodedFrames, Encoder, Latency


class DescriptEncoder(Encoder):
    """An `Encoder` whose codes come in such chunks, of `chunk_frames` frames each.

    window_s: seconds that are coded at a time; a shorter clip is coded in one piece, with padding
    is_chunked: after `flush`, whether the clip was longer
    """

    def __init__(self, model: FlaxDacModel, levels: int, window_s: float, streams: int):
        config = model.config
        self._model, self._levels = model, levels
        self._longest = int(window_s * config.sampling_rate)
        self._size = -(-self._longest // config.hop_length) * config.hop_length
        self.chunk_frames = config.encoded_length(self._size, padded=False)
        self._step = config.decoded_length(self.chunk_frames, padded=False)
        if self.chunk_frames < 1 or self._step < 1:
            raise ValueError(
                f"descript_window_s={window_s} must be seconds, more than the network loses at its "
                f"ends, {2 * config.delay / config.sampling_rate:.3f}"
            )
        self.is_chunked = False
        self._held = np.zeros((streams, config.delay), np.float32)  # from the next window on
        self._received = 0
        self._done = 0  # samples of the clip before the next window

    @property
    def latency(self) -> Latency:
        return Latency(self._size, self._size)

    def push(self, samples: np.ndarray) -> CodedFrames:
        self._received += samples.shape[1]
        self._held = np.concatenate([self._held, samples], axis=1)
        self.is_chunked = self._received > self._longest
        pieces = []
        while self.is_chunked and self._held.shape[1] >= self._size:
            pieces.append(self._next_window())
        return self._joined(pieces)

    def flush(self) -> CodedFrames:
        if not self.is_chunked:
            return self._joined([self._whole()] if self._received else [])
        pieces = []
        while self._done < self._received:
            missing = max(self._size - self._held.shape[1], 0)
            self._held = np.pad(self._held, ((0, 0), (0, missing)))
            pieces.append(self._next_window())
        return self._joined(pieces)

    def _next_window(self) -> np.ndarray:
        window = self._held[:, None, : self._size]
        self._held = self._held[:, self._step :]
        self._done += self._step
        return self._encoded(window, padded=False)

    def _whole(self) -> np.ndarray:
        clip = self._held[:, None, -self._received :]
        missing = -self._received % self._model.config.hop_length
        return self._encoded(np.pad(clip, ((0, 0), (0, 0), (0, missing))), padded=True)

    def _encoded(self, window: np.ndarray, padded: bool) -> np.ndarray:
        output = self._model.encode(window, self._levels, chunk_length_s=0, padded=padded)
        return on_host(output.audio_codes)

    def _joined(self, pieces: list[np.ndarray]) -> CodedFrames:
        none = np.zeros((len(self._held), self._levels, 0), np.int32)
        return CodedFrames(np.concatenate([none, *pieces], axis=-1))
