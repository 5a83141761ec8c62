"""Imports `dac`, `audiotools` and `encodec` as test oracles, without their heavy dependencies.

The packages import torchaudio, tensorboard and more at the top of their files, of which the codecs
run one function (`torchaudio.functional.lfilter`, in the loudness meter) and, to read a
file, `librosa.load`. While they are imported, and while a file is read, stand-ins for the missing
modules lie in `sys.modules`; afterwards they are taken out again, so that nobody else mistakes
them for the real packages. A dependency that is installed is used as it is.
"""

import functools
import importlib
import importlib.util
import sys
import warnings
from contextlib import contextmanager
from types import ModuleType

REQUIREMENTS = "tests/requirements-peers.txt"
DESCRIPT = ("dac", "audiotools", "einops", "flatten_dict", "julius")
DESCRIPT_ALSO = ("torch", "pyloudnorm", "rich", "scipy", "soundfile", "tqdm")
ENCODEC = ("encodec", "einops", "torch")


def missing_transformers():
    """Why transformers' torch models cannot run here, or None."""
    return _missing(("torch", "transformers"), "the extra `test`")


def missing_descript():
    """Why descript's packages cannot run here, or None."""
    return _missing(DESCRIPT + DESCRIPT_ALSO, REQUIREMENTS)


def missing_encodec():
    """Why the encodec package cannot run here, or None."""
    return _missing(ENCODEC, REQUIREMENTS)


def _missing(names, where_from):
    absent = [name for name in names if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)} (from {where_from})" if absent else None


@functools.cache
def import_dac():
    """The reference's `dac` package, with `dac.utils.encode` and `dac.utils.decode` loaded."""
    with _stand_ins(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dac = importlib.import_module("dac")
        importlib.import_module("dac.utils.encode")
        importlib.import_module("dac.utils.decode")
    _read_files_with_soundfile(importlib.import_module("audiotools").AudioSignal)
    return dac


def import_audiotools():
    """The reference's `audiotools` package: `AudioSignal`, `Meter`."""
    import_dac()
    return importlib.import_module("audiotools")


@functools.cache
def import_encodec():
    """The reference's `encodec` package."""
    with _stand_ins(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("encodec")


@functools.cache
def import_msstftd():
    """The reference's `encodec.msstftd`, which has the discriminators of its training."""
    import_encodec()
    with _stand_ins(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("encodec.msstftd")


@contextmanager
def _stand_ins():
    """Stand-ins for the modules that are not installed, for the length of the block."""
    absent = {
        name: module
        for name, module in _make_stand_ins().items()
        if importlib.util.find_spec(name.partition(".")[0]) is None
    }
    if importlib.util.find_spec("tensorboard") is None:
        absent["torch.utils.tensorboard"] = _module("torch.utils.tensorboard", SummaryWriter=None)
    sys.modules.update(absent)
    try:
        yield
    finally:
        for name in absent:
            sys.modules.pop(name, None)


@functools.cache
def _make_stand_ins():
    functional = _module("torchaudio.functional", lfilter=lfilter)
    transforms = _module("torchaudio.transforms", Spectrogram=spectrogram)
    return {
        "torchaudio": _module(
            "torchaudio", __version__="stand-in", functional=functional, transforms=transforms
        ),
        "torchaudio.functional": functional,
        "torchaudio.transforms": transforms,
        "librosa": _module("librosa", load=load),
        "argbind": _module("argbind", bind=_bind_nothing),
        "ffmpy": _module("ffmpy"),
        "importlib_resources": importlib.import_module("importlib.resources"),
        "randomname": _module("randomname"),
    }


def _module(name, **attributes):
    module = ModuleType(name, doc=f"Stand-in for {name}, for the reference implementations only.")
    vars(module).update(attributes)
    return module


def _bind_nothing(*_args, **_kwargs):
    """`argbind.bind` used as a decorator with arguments: the function stays as it is."""
    return lambda function: function


def lfilter(waveform, a_coeffs, b_coeffs, clamp=True):
    """`torchaudio.functional.lfilter` for one filter: waveform [..., T] -> [..., T].

    As in torchaudio's C++ loop, the moving-average half comes before the recursive half (direct
    form I) and both run in the waveform's own precision.
    """
    import torch
    from scipy.signal import lfilter as scipy_lfilter

    samples, a, b = (tensor.detach().cpu().numpy() for tensor in (waveform, a_coeffs, b_coeffs))
    one = a[:1] / a[0]
    filtered = scipy_lfilter(one, a / a[0], scipy_lfilter(b / a[0], one, samples))
    filtered = torch.from_numpy(filtered.astype(samples.dtype))
    return filtered.clamp(-1.0, 1.0) if clamp else filtered


def spectrogram(*, n_fft, hop_length, win_length, window_fn, normalized, center, pad_mode, power):
    """`torchaudio.transforms.Spectrogram` as encodec's discriminators call it.

    Waveforms [..., T] -> complex spectra [..., n_fft // 2 + 1, F], divided by the root of the
    window's energy.
    """
    import torch

    if not normalized or center or pad_mode is not None or power is not None:
        raise NotImplementedError("only normalized complex spectra without padding are stood in")
    window = window_fn(win_length)

    def transform(waveform):
        flat = waveform.reshape(-1, waveform.shape[-1])
        spectra = torch.stft(
            flat, n_fft, hop_length, win_length, window, center=False, return_complex=True
        )
        spectra = spectra / window.pow(2).sum().sqrt()
        return spectra.reshape(*waveform.shape[:-1], *spectra.shape[1:])

    return transform


def load(path, sr=None, mono=False, offset=0.0, duration=None):
    """`librosa.load` as audiotools calls it: float32 [T] or [C, T] at the file's own rate."""
    import soundfile

    if sr is not None or mono:
        raise NotImplementedError(f"only sr=None, mono=False is stood in for, not {sr=}, {mono=}")
    with soundfile.SoundFile(str(path)) as file:
        file.seek(int((offset or 0.0) * file.samplerate))
        num_samples = -1 if duration is None else int(duration * file.samplerate)
        return file.read(num_samples, dtype="float32").T, file.samplerate


def _read_files_with_soundfile(audio_signal_class):
    """Lend audiotools the `librosa` stand-in while it reads a file: it imports it right there."""
    load_from_file = audio_signal_class.load_from_file

    @functools.wraps(load_from_file)
    def load_with_stand_in(*args, **kwargs):
        with _stand_ins():
            return load_from_file(*args, **kwargs)

    audio_signal_class.load_from_file = load_with_stand_in
