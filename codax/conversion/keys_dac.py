"""The original DAC's weight names -> transformers': one table, complete both ways.

Both list a network in the order in which signal passes. descript puts the layers into nested
`nn.Sequential`s and so numbers them where transformers names them:

    encoder.block.0                    encoder.conv1
    encoder.block.1.block.0.block.1    encoder.block.0.res_unit1.conv1
    encoder.block.1.block.4            encoder.block.0.conv1
    encoder.block.5                    encoder.snake1
    decoder.model.1.block.1            decoder.block.0.conv_t1

The quantizer has the same names in both. No weight of an original file is left out.

Source: descript-audio-codec 1.0.0, dac/model/dac.py and dac/nn/quantize.py.
"""

import dataclasses
from collections.abc import Iterable, Iterator

from codax.configuration.configuration_dac import DacArchitecture
from codax.configuration.conv_geometry import Conv, Group, Layer, Snake
from codax.modeling.weight_table import WeightRule, dac_weight_rules

QUANTIZER_MODULES = ("in_proj", "codebook", "out_proj")


def original_modules(architecture: DacArchitecture) -> dict[str, str]:
    """Every module that has weights: its name in transformers -> its name in the original."""
    return {
        **dict(_numbered(architecture.encoder, "encoder", "encoder.block")),
        **{
            name: name
            for level in range(architecture.n_codebooks)
            for name in (f"quantizer.quantizers.{level}.{part}" for part in QUANTIZER_MODULES)
        },
        **dict(_numbered(architecture.decoder, "decoder", "decoder.model")),
    }


def _numbered(layers: Iterable[Layer], root: str, original: str) -> Iterator[tuple[str, str]]:
    """(transformers' name, the original's) of all modules in one `nn.Sequential`."""
    for index, (name, layer) in enumerate(_steps(layers)):
        path, original_path = f"{root}.{name}", f"{original}.{index}"
        if isinstance(layer, Group):
            yield from _numbered(layer.layers, path, f"{original_path}.block")
        else:
            yield path, original_path


def _steps(layers: Iterable[Layer]) -> Iterator[tuple[str, Layer]]:
    """The named layers, with transformers' list of blocks spread out among them."""
    for layer in layers:
        match layer:
            case Group("block", blocks):
                yield from ((f"block.{name}", block) for name, block in _steps(blocks))
            case Group() | Conv() | Snake():
                yield layer.name, layer


def original_weight_rules(architecture: DacArchitecture) -> tuple[WeightRule, ...]:
    """`dac_weight_rules` with the original's keys in place of transformers'."""
    modules = original_modules(architecture)
    return tuple(_renamed(rule, modules) for rule in dac_weight_rules(architecture))


def _renamed(rule: WeightRule, modules: dict[str, str]) -> WeightRule:
    module, _, leaf = rule.torch_key.rpartition(".")
    return dataclasses.replace(rule, torch_key=f"{modules[module]}.{leaf}")
