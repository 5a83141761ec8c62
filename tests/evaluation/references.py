"""What the distances are compared with: descript's losses and audiotools' spectra, in torch."""

import functools
import sys
import types
import warnings

import numpy as np

from tests.reference import peers


def audio_signal(samples, sampling_rate):
    """audiotools' AudioSignal of float [B, C, T], array or torch tensor."""
    torch = _torch()
    if not torch.is_tensor(samples):
        samples = torch.tensor(np.asarray(samples))
    return peers.import_audiotools().AudioSignal(samples, sampling_rate)


def descript_losses():
    """The module dac.nn.loss, whose mel filters come from the stand-in for librosa."""
    peers.import_dac()
    import dac.nn.loss

    sys.modules.setdefault("librosa.filters", _librosa_filters())
    return dac.nn.loss


def mel_filters(sr, n_fft, n_mels, fmin=0.0, fmax=None, scale="slaney"):
    """`librosa.filters.mel` as transformers computes it; float32 [n_mels, n_fft // 2 + 1].

    That of librosa itself and it differ by rounding, where `sr` is even.
    """
    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # filters narrower than a bin, which the recipes have
        bank = mel_filter_bank(
            n_fft // 2 + 1,
            n_mels,
            fmin,
            fmax or sr / 2,
            sr,
            norm="slaney" if scale == "slaney" else None,
            mel_scale=scale,
        )
    return bank.T.astype(np.float32)


@functools.cache
def _librosa_filters():
    module = types.ModuleType("librosa.filters", doc="Stand-in, for audiotools' mel spectra only.")
    module.mel = mel_filters
    return module


def _torch():
    import torch

    return torch
