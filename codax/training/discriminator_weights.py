"""Every weight of the discriminators, in the references' torch state dicts and in the Flax tree.

`codax.modeling.torch_layout.params_from_torch(rules, state, source)` reads a state dict with these
tables, weight norm folded, and `params_to_torch` writes one.
"""

from collections.abc import Iterator

from codax.modeling.weight_table import Layout, WeightRule

from .discriminators import Conv2d, DacDiscriminatorConfig, MsStftDiscriminatorConfig

CONV_2D = Layout(
    lambda kernel: kernel.transpose(2, 3, 1, 0), lambda kernel, _: kernel.transpose(3, 2, 0, 1)
)


def dac_discriminator_weight_rules(config: DacDiscriminatorConfig) -> tuple[WeightRule, ...]:
    """Every weight of `FlaxDacDiscriminator`; keys of descript's `dac.model.Discriminator`."""
    rules = []
    for i in range(len(config.periods)):
        for conv in config.period_convs:
            torch_root = f"discriminators.{i}.{_descript_name(conv)}"
            rules.extend(_conv_rules(conv, torch_root, (f"periods_{i}", conv.name)))
    for i in range(len(config.fft_sizes)):
        torch_root = f"discriminators.{len(config.periods) + i}"
        path = f"resolutions_{i}"
        for band in range(len(config.bands)):
            for j, conv in enumerate(config.band_convs):
                name = f"bands_{band}_{conv.name}"
                key = f"{torch_root}.band_convs.{band}.{j}.0"
                rules.extend(_conv_rules(conv, key, (path, name)))
        conv = config.band_score_conv
        rules.extend(_conv_rules(conv, f"{torch_root}.{conv.name}", (path, conv.name)))
    return tuple(rules)


def ms_stft_discriminator_weight_rules(
    config: MsStftDiscriminatorConfig,
) -> tuple[WeightRule, ...]:
    """Every weight of `FlaxMsStftDiscriminator`; keys of the encodec package and of audiocraft."""
    return tuple(
        rule
        for i in range(len(config.window_lengths))
        for conv in config.scale_convs
        for rule in _conv_rules(
            conv,
            f"discriminators.{i}.{_numbered(conv.name)}.conv",
            (f"scales_{i}", conv.name),
        )
    )


def _descript_name(conv: Conv2d) -> str:
    """Those that an activation follows lie in a sequence with it."""
    name = _numbered(conv.name)
    return name if name == conv.name else f"{name}.0"


def _numbered(name: str) -> str:
    """`convs_3` -> `convs.3`; `conv_post` as it is."""
    root, _, number = name.rpartition("_")
    return f"{root}.{number}" if number.isdigit() else name


def _conv_rules(conv: Conv2d, torch_root: str, path: tuple[str, ...]) -> Iterator[WeightRule]:
    channels = (conv.in_channels, conv.out_channels)
    yield WeightRule(
        f"{torch_root}.weight",
        (*channels[::-1], *conv.kernel_size),
        (*path, "kernel"),
        (*conv.kernel_size, *channels),
        CONV_2D,
        conv.weight_norm,
    )
    bias = (conv.out_channels,)
    yield WeightRule(f"{torch_root}.bias", bias, (*path, "bias"), bias)
