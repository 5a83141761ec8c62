"""audiocraft's EnCodec checkpoints: weights beside the configuration of the run that made them.

Two kinds are read: what `audiocraft.utils.export.export_encodec` writes (the configuration as YAML
text) and what training writes (the configuration as a pickled omegaconf object, of which stand-ins
keep the values; omegaconf itself is not needed). The first kind is written as well.

Source: audiocraft 1.3, models/builders.py, utils/export.py and config/model/encodec/default.yaml.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

from codax.configuration import EncodecConfig
from codax.errors import CheckpointError
from codax.formats.field_checks import shown
from codax.modeling.torch_layout import params_from_torch, params_to_torch

from .keys_encodec import original_encodec_rules
from .torch_files import as_arrays, import_torch

MOST_YAML = 2**20  # characters; a configuration has some 20,000
MOST_DEPTH = 32  # of nested entries, and of references to other entries

# What PyYAML raises for text that is none, and for tags whose value is none of their kind.
YAML_FAULTS = (
    yaml.YAMLError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
REFERENCE = re.compile(r"\$\{([\w.]+)\}")


class StandIn:
    """Takes the place of a pickled object: its attributes are kept, and nothing is done."""

    def __init__(self, *_arguments: Any):
        pass

    def __setitem__(self, _key: Any, _value: Any):
        pass


class ConfigStandIn(StandIn):
    """Of omegaconf's containers and values."""


OMEGACONF_STAND_INS: dict[str, type] = {
    **dict.fromkeys(
        (
            "omegaconf.dictconfig.DictConfig",
            "omegaconf.listconfig.ListConfig",
            *(
                f"omegaconf.nodes.{kind}Node"
                for kind in ("Any", "Integer", "Float", "Boolean", "String", "Path", "Bytes")
            ),
        ),
        ConfigStandIn,
    ),
    **dict.fromkeys(
        (
            "omegaconf.base.ContainerMetadata",
            "omegaconf.base.Metadata",
            "typing.Any",
            "collections.defaultdict",
            *(f"builtins.{kind}" for kind in ("dict", "list", "int", "float", "bool", "str")),
        ),
        StandIn,
    ),
}


def is_audiocraft(content: Any) -> bool:
    """Whether a torch file's content is one of audiocraft's compression checkpoints."""
    return isinstance(content, Mapping) and ("xp.cfg" in content or "pretrained" in content)


def load_audiocraft(content: Mapping, source: str) -> tuple[EncodecConfig, dict]:
    """The configuration and the Flax tree (float32), weight norm folded. `CheckpointError`."""
    if "pretrained" in content:
        raise CheckpointError(
            f"{source}: holds no weights, only the name of a model: {shown(content['pretrained'])}"
        )
    state = content.get("best_state")
    if isinstance(state, Mapping) and set(state) == {"model"}:  # a training checkpoint
        state = state["model"]
    if not isinstance(state, Mapping) or not state:
        raise CheckpointError(f"{source}: has no weights under 'best_state'")
    config = _config_from(_Settings(_settings(content["xp.cfg"], source), source))
    rules = original_encodec_rules(config.architecture)
    return config, params_from_torch(rules, as_arrays(state, source), source)


def audiocraft_package(config: Any, params: Mapping) -> dict:
    """What `torch.save` has to write for audiocraft's `CompressionModel.get_pretrained`.

    Raises `CheckpointError` for a model that audiocraft does not have.
    """
    if not isinstance(config, EncodecConfig):
        raise CheckpointError(
            f"audiocraft's own format holds EnCodec models, not {config.model_type}"
        )
    if config.segmenting is not None:
        raise CheckpointError(
            "audiocraft codes clips in one piece: it has no model that codes segments, as "
            f"chunk_length_s={config.chunk_length_s} says"
        )
    torch = import_torch()
    rules = original_encodec_rules(config.architecture)
    state = params_to_torch(rules, params, old_spelling=True)
    return {
        "best_state": {key: torch.from_numpy(array.copy()) for key, array in state.items()},
        "xp.cfg": yaml.safe_dump(_settings_of(config), sort_keys=False),
        "version": "1.3.0",
        "exported": True,
    }


class _WithoutAliases(yaml.SafeLoader):
    """A few lines with aliases can stand for any amount of data, and a configuration has none."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has aliases")
        return super().compose_node(parent, index)


def _settings(given: Any, source: str) -> dict:
    """The configuration as nested plain values, from YAML text or from stand-ins."""
    if isinstance(given, str):
        if len(given) > MOST_YAML:
            raise CheckpointError(f"{source}: its xp.cfg is too long to be a configuration")
        try:
            given = yaml.load(given, _WithoutAliases)  # a SafeLoader
        except YAML_FAULTS as error:
            raise CheckpointError(f"{source}: its xp.cfg is no YAML: {error!r}") from error
    else:
        given = _plain(given, source)
    if not isinstance(given, dict):
        raise CheckpointError(f"{source}: its xp.cfg is no mapping")
    return given


def _plain(value: Any, source: str, depth: int = 0, done: dict[int, Any] | None = None) -> Any:
    """`done`: by id, since a few entries that hold each other twice can stand for any number."""
    if depth > MOST_DEPTH:
        raise CheckpointError(f"{source}: its xp.cfg is nested too deeply")
    done = {} if done is None else done
    if id(value) not in done:
        if isinstance(value, ConfigStandIn):
            kept = vars(value)
            plain = _plain(kept.get("_content", kept.get("_val")), source, depth + 1, done)
        elif isinstance(value, dict):
            plain = {key: _plain(one, source, depth + 1, done) for key, one in value.items()}
        elif isinstance(value, list | tuple):
            plain = [_plain(one, source, depth + 1, done) for one in value]
        else:
            plain = value
        done[id(value)] = plain
    return done[id(value)]


class _Settings:
    """Looks entries up, follows references such as ${sample_rate}, and checks types."""

    def __init__(self, entries: dict, source: str):
        self.entries = entries
        self.source = source

    def get(self, path: str, kind: type | tuple, default: Any = None) -> Any:
        """The entry at "seanet.n_filters"; `default` where there is none."""
        value = self._find(path, 0)
        if value is None:
            value = default
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise CheckpointError(f"{self.source}: xp.cfg has {path}={shown(value)}")
        return value

    def require(self, path: str, *allowed: Any) -> None:
        """`CheckpointError` where an entry has another value than the one that codax knows."""
        value = self._find(path, 0)
        if value is not None and value not in allowed:
            known = ", ".join(map(repr, allowed)) or "none"
            raise CheckpointError(
                f"{self.source}: xp.cfg has {path}={shown(value)}; codax has {known}"
            )

    def _find(self, path: str, depth: int) -> Any:
        if depth > MOST_DEPTH:
            raise CheckpointError(f"{self.source}: xp.cfg refers to itself at {path}")
        value: Any = self.entries
        names = path.split(".")
        for index, name in enumerate(names):
            if value is None:
                return None
            if not isinstance(value, dict):
                section = ".".join(names[:index])
                raise CheckpointError(
                    f"{self.source}: xp.cfg has {section}={shown(value)}, which is no mapping"
                )
            value = value.get(name)
        if not isinstance(value, str) or not (reference := REFERENCE.fullmatch(value)):
            return value
        found = self._find(reference[1], depth + 1)
        if found is None:
            raise CheckpointError(
                f"{self.source}: xp.cfg has {path}={shown(value)}, which refers to nothing"
            )
        return found


def _config_from(settings: _Settings) -> EncodecConfig:
    settings.require("compression_model", "encodec")
    settings.require("encodec.autoencoder", "seanet")
    settings.require("encodec.quantizer", "rvq")
    settings.require("seanet.activation", "ELU")
    settings.require("seanet.activation_params.alpha", 1.0)
    settings.require("seanet.disable_norm_outer_blocks", 0)
    settings.require("seanet.decoder.final_activation")
    settings.require("seanet.norm_params", {})
    for network, known in (("encoder", ()), ("decoder", ("trim_right_ratio", "final_activation"))):
        overrides = settings.get(f"seanet.{network}", dict, {})
        others = [
            shown(name)
            for name, value in overrides.items()
            if value is not None and name not in (*known, "final_activation_params")
        ]
        if others:
            raise CheckpointError(
                f"{settings.source}: xp.cfg gives the {network} alone {', '.join(others)}, which "
                "codax does not have"
            )
    sampling_rate = settings.get("encodec.sample_rate", int, settings.get("sample_rate", int, 0))
    if sampling_rate < 1:
        raise CheckpointError(f"{settings.source}: xp.cfg has sample_rate={shown(sampling_rate)}")
    ratios = settings.get("seanet.ratios", list, [8, 5, 4, 2])
    if not all(isinstance(ratio, int) for ratio in ratios):
        raise CheckpointError(f"{settings.source}: xp.cfg has seanet.ratios that are no integers")
    levels, size = settings.get("rvq.n_q", int, 8), settings.get("rvq.bins", int, 1024)
    try:
        frame_rate = math.ceil(sampling_rate / math.prod(ratios))
        return EncodecConfig(
            target_bandwidths=[_bandwidth(levels, size, frame_rate)],
            sampling_rate=sampling_rate,
            audio_channels=settings.get("encodec.channels", int, settings.get("channels", int, 1)),
            normalize=settings.get("encodec.renormalize", bool, False),
            hidden_size=settings.get("seanet.dimension", int, 128),
            num_filters=settings.get("seanet.n_filters", int, 32),
            num_residual_layers=settings.get("seanet.n_residual_layers", int, 1),
            upsampling_ratios=ratios,
            norm_type=settings.get("seanet.norm", str, "weight_norm"),
            kernel_size=settings.get("seanet.kernel_size", int, 7),
            last_kernel_size=settings.get("seanet.last_kernel_size", int, 7),
            residual_kernel_size=settings.get("seanet.residual_kernel_size", int, 3),
            dilation_growth_rate=settings.get("seanet.dilation_base", int, 2),
            use_causal_conv=settings.get(
                "seanet.causal", bool, settings.get("encodec.causal", bool, False)
            ),
            pad_mode=settings.get("seanet.pad_mode", str, "constant"),
            compress=settings.get("seanet.compress", int, 2),
            num_lstm_layers=settings.get("seanet.lstm", int, 2),
            trim_right_ratio=settings.get("seanet.decoder.trim_right_ratio", float, 1.0),
            codebook_size=size,
            use_conv_shortcut=not settings.get("seanet.true_skip", bool, True),
        )
    except CheckpointError:
        raise
    except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise CheckpointError(
            f"{settings.source}: xp.cfg is not that of an EnCodec: {error}"
        ) from error


def _bandwidth(levels: int, size: int, frame_rate: int) -> float:
    """The kbps that make up this many codebooks, in the way that the configuration divides."""
    bits = math.ceil(math.log2(size))
    bandwidth = levels * bits * frame_rate / 1000
    while int(1000 * bandwidth // (frame_rate * bits)) < levels:
        bandwidth = math.nextafter(bandwidth, math.inf)
    return bandwidth


def _settings_of(config: EncodecConfig) -> dict:
    pad_mode, ratios = config.pad_mode, list(config.upsampling_ratios)
    return {
        "sample_rate": config.sampling_rate,
        "channels": config.audio_channels,
        "compression_model": "encodec",
        "encodec": {
            "autoencoder": "seanet",
            "quantizer": "rvq",
            "sample_rate": config.sampling_rate,
            "channels": config.audio_channels,
            "causal": config.use_causal_conv,
            "renormalize": config.normalize,
        },
        "seanet": {
            "dimension": config.hidden_size,
            "channels": config.audio_channels,
            "causal": config.use_causal_conv,
            "n_filters": config.num_filters,
            "n_residual_layers": config.num_residual_layers,
            "ratios": ratios,
            "activation": "ELU",
            "activation_params": {"alpha": 1.0},
            "norm": config.norm_type,
            "norm_params": {},
            "kernel_size": config.kernel_size,
            "residual_kernel_size": config.residual_kernel_size,
            "last_kernel_size": config.last_kernel_size,
            "dilation_base": config.dilation_growth_rate,
            "pad_mode": pad_mode,
            "true_skip": not config.use_conv_shortcut,
            "compress": config.compress,
            "lstm": config.num_lstm_layers,
            "disable_norm_outer_blocks": 0,
            "decoder": {
                "trim_right_ratio": config.trim_right_ratio,
                "final_activation": None,
                "final_activation_params": None,
            },
            "encoder": {},
        },
        "rvq": {
            "n_q": config.num_quantizers,
            "q_dropout": False,
            "bins": config.codebook_size,
            "decay": 0.99,
            "kmeans_init": True,
            "kmeans_iters": 50,
            "threshold_ema_dead_code": 2,
            "orthogonal_reg_weight": 0.0,
            "orthogonal_reg_active_codes_only": False,
        },
    }
