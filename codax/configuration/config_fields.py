"""What the codecs' configurations share: checks of fields, and reading that fails clearly."""

import inspect
import math
import numbers
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from transformers import PretrainedConfig

from codax.hub_files import HubError, came_from_hub, why_not

# Far beyond any codec: a config.json from elsewhere must not make us list a billion weights.
MOST_CODEBOOKS = 1024
MOST_RATIOS = 16
MOST_HOP_LENGTH = 2**31
LONGEST_CHUNK_S = 1e6

CHUNK_MODES = ("overlap_average", "exact", "mean")


class DecodeChunks(NamedTuple):
    """How to decode in chunks of `frames` frames; see `CodecConfig.decode_chunks`."""

    frames: int
    overlap: float
    mode: str


class CodecConfig(PretrainedConfig):
    """Mixed into transformers' own configuration of a codec, before it.

    Its fields, which a model's methods take for one call as well:

    decode_chunk_length_s: seconds of audio that are decoded at a time, on which memory depends;
        None or 0: a clip is decoded as a whole
    decode_overlap: the fraction of a chunk that it shares with the next, from 0 to less than 1
    decode_chunk_mode: "overlap_average": the overlapping audio is averaged, but for what is next to
        the inner end of a chunk and so not exact; "exact": chunks come with all the frames that
        they depend on, so that nothing changes, and the overlap is as long as it must be; "mean":
        as hance-ai's descript-audio-codec repositories, all of the overlap averaged with equal
        weights (and, with odd strides, some samples lost at each border)
    encode_chunk_length_s: seconds of audio that are encoded at a time; codes do not depend on it

    presets: the fields of the released models, by name.
    derived_fields: what a config.json may state although it follows from `ratios_field`.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    derived_fields: ClassVar[tuple[str, ...]] = ()
    ratios_field: ClassVar[str]

    decode_chunk_length_s: float | None
    decode_overlap: float
    decode_chunk_mode: str
    encode_chunk_length_s: float | None

    def __init__(
        self,
        decode_chunk_length_s: float | None = None,
        decode_overlap: float = 0.1,
        decode_chunk_mode: str = "overlap_average",
        encode_chunk_length_s: float | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.decode_chunk_length_s = decode_chunk_length_s
        self.decode_overlap = decode_overlap
        self.decode_chunk_mode = decode_chunk_mode
        self.encode_chunk_length_s = encode_chunk_length_s

    def decode_chunks(
        self,
        chunk_length_s: float | None = None,
        overlap: float | None = None,
        mode: str | None = None,
    ) -> DecodeChunks | None:
        """The chunks of one call, whose arguments stand in for the fields; None for a whole clip.

        Raises `ValueError` naming the value that is none, and what is allowed.
        """
        if chunk_length_s is None:
            chunk_length_s = self.decode_chunk_length_s
        overlap = self.decode_overlap if overlap is None else overlap
        mode = self.decode_chunk_mode if mode is None else mode
        require_chunk_length("decode_chunk_length_s", chunk_length_s)
        require_overlap("decode_overlap", overlap)
        require_choice("decode_chunk_mode", mode, CHUNK_MODES)
        if not chunk_length_s:
            return None
        return DecodeChunks(self._frames_of(chunk_length_s), overlap, mode)

    def encode_chunk_frames(self, chunk_length_s: float | None = None) -> int | None:
        """Frames that are encoded at a time, likewise; None for a whole clip."""
        if chunk_length_s is None:
            chunk_length_s = self.encode_chunk_length_s
        require_chunk_length("encode_chunk_length_s", chunk_length_s)
        return self._frames_of(chunk_length_s) if chunk_length_s else None

    def _frames_of(self, length_s: float) -> int:
        return max(1, round(length_s * self.sampling_rate / self.hop_length))

    @classmethod
    def preset(cls, name: str):
        """The configuration of a released model: one of `presets`."""
        if name not in cls.presets:
            raise ValueError(f"unknown preset {name!r}; the presets are {', '.join(cls.presets)}")
        return cls(**cls.presets[name])

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """As transformers', which sets `kwargs` on the finished object: here they are validated.

        The facts derived from the ratios follow from the overriding ones.
        """
        overrides = {name: kwargs.pop(name) for name in cls._own_fields() & set(kwargs)}
        kept = dict(config_dict)
        if cls.ratios_field in overrides:
            for name in cls.derived_fields:
                kept.pop(name, None)
        return super().from_dict({**kept, **overrides}, **kwargs)

    @classmethod
    def _own_fields(cls) -> set[str]:
        """What this configuration and transformers' add to those of every `PretrainedConfig`."""
        own = cls.__mro__[: cls.__mro__.index(PretrainedConfig)]
        signatures = [
            inspect.signature(vars(base)["__init__"]) for base in own if "__init__" in vars(base)
        ]
        names = {name for signature in signatures for name in signature.parameters}
        return (names | set(cls.derived_fields)) - {"self", "kwargs", "fields"}

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """As transformers, which takes a missing config.json for one without fields.

        Where the Hub does not give it, `HubError` says why and what helps, in one line.
        """
        try:
            fields, unused = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        except TypeError as error:
            raise ValueError(
                f"{pretrained_model_name_or_path}: config.json is no object"
            ) from error
        except OSError as error:
            if not came_from_hub(error):
                raise
            reason = why_not(str(pretrained_model_name_or_path), error, kwargs.get("revision"))
            raise HubError(reason) from error.__cause__ or error
        if not fields:
            raise OSError(f"{pretrained_model_name_or_path}: has no config.json")
        return fields, unused

    def validate(self) -> None:
        """Raise `ValueError` for the first field whose value no such model can have."""
        self.decode_chunks()
        self.encode_chunk_frames()


def is_int(value: object) -> bool:
    """Whether it is a Python or NumPy integer; a bool is none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def require_positive_int(field: str, value: Any, largest: int | None = None) -> None:
    """Raise `ValueError` naming the field unless it is an integer from 1 to `largest`."""
    if not is_int(value) or value < 1:
        raise ValueError(f"{field}={value!r} must be a positive integer")
    if largest is not None and value > largest:
        raise ValueError(f"{field}={value} must be at most {largest}")


def require_ratios(field: str, ratios: object) -> None:
    """Raise `ValueError` naming the field unless it is a short list of positive integers."""
    if not isinstance(ratios, (list, tuple)) or not ratios:
        raise ValueError(f"{field}={ratios!r} must be a list of positive integers")
    if len(ratios) > MOST_RATIOS:
        raise ValueError(f"{field} has {len(ratios)} entries, at most {MOST_RATIOS}")
    for ratio in ratios:
        require_positive_int(f"{field}: an entry", ratio)
    if math.prod(ratios) > MOST_HOP_LENGTH:
        raise ValueError(f"{field}={ratios!r} must have a product of at most {MOST_HOP_LENGTH}")


def require_number(field: str, value: Any, largest: float, smallest: float = 0.0) -> None:
    """Raise `ValueError` naming the field unless it is a number from `smallest` to `largest`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not smallest <= value <= largest:
        raise ValueError(f"{field}={value!r} must be a number from {smallest:g} to {largest:g}")


def require_chunk_length(field: str, value: Any) -> None:
    """Raise `ValueError` naming the field unless it is None, 0 or a number of seconds."""
    if value is not None:
        require_number(field, value, LONGEST_CHUNK_S)


def require_overlap(field: str, value: Any) -> None:
    """Raise `ValueError` naming the field unless it is a fraction that leaves something new."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value < 1:
        raise ValueError(f"{field}={value!r} must be a number from 0 to less than 1")


def require_power_of_two(field: str, value: int) -> None:
    """Raise `ValueError` naming the field unless the positive integer is a power of two."""
    if value & (value - 1):
        raise ValueError(f"{field}={value} must be a power of two")


def require_choice(field: str, value: Any, choices: tuple) -> None:
    """Raise `ValueError` naming the field, and the choices, unless it is one of them."""
    if value not in choices:
        raise ValueError(f"{field}={value!r} must be one of {', '.join(map(repr, choices))}")
