"""Recipes: every number of a training run, in short TOML files that build on each other.

    base = "dac"              # another recipe, by name or path: what is not said here is as there

    [model]
    preset = "dac_24khz"
    fields = {n_codebooks = 9}  # of the configuration, instead of the preset's

`recipes/` holds those of the published models; each value there cites its source.
"""

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from codax.configuration import preset_config
from codax.errors import CodaxError

RECIPES = Path(__file__).with_name("recipes")

LOSSES = (
    "waveform",
    "mel",
    "stft",
    "encodec_mel",
    "adversarial",
    "features",
    "commitment",
    "codebook",
)


@dataclass(frozen=True)
class ModelRecipe:
    """preset: of the configuration; fields: instead of the preset's

    train_encoder: False leaves encoder and quantizer as they are, for codes that stay the same
    start: what fresh weights are, "reference" as the reference draws them, "fitted" to the first
        batches (`fitted_start`), which saves short runs of DAC a long beginning
    """

    preset: str
    fields: dict[str, Any] = field(default_factory=dict)
    train_encoder: bool = True
    start: str = "reference"

    def config(self) -> Any:
        """The configuration. Raises `ValueError` for a preset, field or start that it has not."""
        config = preset_config(self.preset)
        if self.start == "fitted" and config.model_type != "dac":
            raise CodaxError(f"model.start='fitted' is for DAC, not for {config.model_type}")
        known = config.to_dict()
        unknown = [name for name in self.fields if name not in known]
        if unknown:
            raise CodaxError(f"model.fields: {config.model_type} has no field {unknown[0]!r}")
        return type(config)(**{**type(config).presets[self.preset], **self.fields})


@dataclass(frozen=True)
class ExcerptRecipe:
    """duration_s: seconds of each; batch_size: excerpts in a step, on all devices together

    loudest: look for an excerpt above -40 LUFS, in 8 tries
    transforms: "dac" (volume, peak and phase) or "none"
    validation_s: seconds of those to validate by; validation_count: at most so many
    """

    duration_s: float
    batch_size: int
    loudest: bool
    transforms: str
    validation_s: float
    validation_count: int


@dataclass(frozen=True)
class OptimizerRecipe:
    """Of Adam, for the model and its discriminators alike.

    decay: a factor of the learning rate, each step
    generator_clip, discriminator_clip: the largest norm of all gradients together; 0 for any
    warmup_steps: before those of the decay, in which the learning rate grows from 0
    """

    learning_rate: float
    betas: tuple[float, ...]
    weight_decay: float
    decay: float
    generator_clip: float
    discriminator_clip: float
    warmup_steps: int = 0


@dataclass(frozen=True)
class DiscriminatorRecipe:
    """kind: "dac" or "ms_stft"; fields: of its configuration, instead of the defaults

    objective: "lsgan", "hinge" or "saturating_hinge"
    """

    kind: str
    objective: str
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class QuantizerRecipe:
    """dropout: share of the excerpts that are coded by fewer codebooks, drawn by chance

    dropout_by: "item" draws for each excerpt, "batch" one number for all of them
    gradient: of the audio's losses, "straight_through" as the reference has it, or of DAC
        "tangential" (`reconstruction.tangential`), which bears higher learning rates
    """

    dropout: float
    dropout_by: str
    gradient: str = "straight_through"


@dataclass(frozen=True)
class RunRecipe:
    """steps: in all; the others count steps too, 0 for never

    validate_every, samples_every: validation, and its audio for tensorboard
    checkpoint_every, checkpoints_kept: what a run can be gone on with; the newest are kept
    log_every: losses
    average_decay: of the moving average of the weights, which is what is validated and exported;
        0 for none
    accumulate: parts that a batch is computed in, one after the other, where it needs too much
        memory as a whole; a step is the same, but takes one more forward pass of the model
    dtype: "float32" or "bfloat16", of the model's convolutions; weights and losses are float32
    precision: of float32 products, "default", "high" or "highest"; only GPUs and TPUs have others
    """

    steps: int
    validate_every: int
    checkpoint_every: int
    checkpoints_kept: int
    samples_every: int
    log_every: int
    average_decay: float
    accumulate: int
    dtype: str
    precision: str
    seed: int


@dataclass(frozen=True)
class Recipe:
    """losses: weights by name, of `LOSSES`; what is not there is not computed

    balanced: weights are shares of the gradient that reaches the audio (EnCodec's balancer); those
        of commitment and codebook stay factors
    """

    model: ModelRecipe
    excerpts: ExcerptRecipe
    optimizer: OptimizerRecipe
    losses: dict[str, float]
    balanced: bool
    discriminator: DiscriminatorRecipe
    quantizer: QuantizerRecipe
    run: RunRecipe

    def __post_init__(self):
        _require_one_of("excerpts.transforms", self.excerpts.transforms, ("dac", "none"))
        _require_one_of("discriminator.kind", self.discriminator.kind, ("dac", "ms_stft"))
        objectives = ("lsgan", "hinge", "saturating_hinge")
        _require_one_of("discriminator.objective", self.discriminator.objective, objectives)
        _require_one_of("quantizer.dropout_by", self.quantizer.dropout_by, ("item", "batch"))
        gradients = ("straight_through", "tangential")
        _require_one_of("quantizer.gradient", self.quantizer.gradient, gradients)
        _require_one_of("model.start", self.model.start, ("reference", "fitted"))
        _require_one_of("run.dtype", self.run.dtype, ("float32", "bfloat16"))
        _require_one_of("run.precision", self.run.precision, ("default", "high", "highest"))
        for name, weight in self.losses.items():
            _require_one_of("losses", name, LOSSES)
            _require_range(f"losses.{name}", weight, 0, 1e6)
        _require_range("quantizer.dropout", self.quantizer.dropout, 0, 1)
        _require_range("run.average_decay", self.run.average_decay, 0, BELOW_ONE)
        _require_range("run.seed", self.run.seed, 0, 2**31 - 1)
        for name, (least, most) in RATES.items():
            value = getattr(self.optimizer, name)
            _require_range(f"optimizer.{name}", value, least, most)
        betas = self.optimizer.betas
        if len(betas) != 2:
            raise CodaxError(f"optimizer.betas={betas!r} must be two numbers")
        for beta in betas:
            _require_range("optimizer.betas", beta, 0, BELOW_ONE)
        audible = [name for name in LOSSES if name not in ("commitment", "codebook")]
        if not any(self.losses.get(name) for name in audible):
            raise CodaxError(f"losses: one must be above 0 of {', '.join(audible)}")
        for section, names in COUNTS.items():
            for name, least in names.items():
                _require_range(f"{section}.{name}", getattr(getattr(self, section), name), least)
        if self.excerpts.batch_size % self.run.accumulate:
            raise CodaxError(
                f"excerpts.batch_size={self.excerpts.batch_size} must be a multiple of "
                f"run.accumulate={self.run.accumulate}"
            )

    def as_dict(self) -> dict[str, Any]:
        """All of it, as TOML and JSON have it."""
        return _plain(asdict(self))

    @property
    def is_adversarial(self) -> bool:
        """Whether there are discriminators to train."""
        return bool(self.losses.get("adversarial") or self.losses.get("features"))


BELOW_ONE = 1 - 2**-24

RATES = {
    "learning_rate": (0, 1),
    "weight_decay": (0, 1e6),
    "decay": (1e-6, 1),
    "generator_clip": (0, 1e9),
    "discriminator_clip": (0, 1e9),
}
"""The least and the most that the optimizer's numbers may be."""

COUNTS = {
    "excerpts": {"batch_size": 1, "validation_count": 1},
    "optimizer": {"warmup_steps": 0},
    "run": {
        "steps": 1,
        "validate_every": 0,
        "checkpoint_every": 0,
        "checkpoints_kept": 1,
        "samples_every": 0,
        "log_every": 1,
        "accumulate": 1,
    },
}
"""The least that numbers may be."""


def load_recipe(name_or_path: str | Path, settings: Iterable[str] = ()) -> Recipe:
    """Read a recipe.

    name_or_path: one of `recipe_names()`, or a TOML file
    settings: what is to be otherwise, as "run.steps=1000" or 'model.preset="dac_16khz"', with a
        value as TOML writes it; text may do without quotes

    Raises `CodaxError` that names a file, key or value which is not allowed.
    """
    table = _read(name_or_path)
    for setting in settings:
        table = _merged(table, _parsed(setting))
    return _built(Recipe, table, "")


def recipe_names() -> tuple[str, ...]:
    """Recipes that can be named; the others are their bases."""
    names = sorted(path.stem for path in RECIPES.glob("*.toml"))
    return tuple(name for name in names if "model" in _own_table(RECIPES / f"{name}.toml"))


def _read(name_or_path: str | Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The tables of a file, on top of those of its base."""
    path = _path_of(name_or_path, above[-1].parent if above else Path())
    if path.resolve() in above:
        raise CodaxError(f"{path}: is its own base")
    table = _own_table(path)
    base = table.pop("base", None)
    if base is None:
        return table
    if not isinstance(base, str):
        raise CodaxError(f"{path}: base={base!r} must be the name or path of a recipe")
    return _merged(_read(base, (*above, path.resolve())), table)


def _path_of(name_or_path: str | Path, folder: Path) -> Path:
    path = folder / name_or_path
    if path.suffix == ".toml":
        if not path.is_file():
            raise CodaxError(f"{path}: no such recipe")
        return path
    named = RECIPES / f"{name_or_path}.toml"
    if not named.is_file():
        raise CodaxError(
            f"{name_or_path}: no recipe of this name, allowed: {', '.join(recipe_names())}, or a "
            "path that ends in .toml"
        )
    return named


def _own_table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CodaxError(f"{path}: is no TOML: {error}") from error


def _parsed(setting: str) -> dict[str, Any]:
    """'run.steps=5' -> {"run": {"steps": 5}}"""
    key, equals, value = setting.partition("=")
    if not equals or not key.strip():
        raise CodaxError(f"{setting!r}: a setting is written key=value, as run.steps=1000")
    try:
        return tomllib.loads(setting)
    except tomllib.TOMLDecodeError:
        pass
    try:
        return tomllib.loads(f"{key} = {value.strip()!r}")
    except tomllib.TOMLDecodeError as error:
        raise CodaxError(f"{setting!r}: {error}") from error


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        is_table = isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
        merged[key] = _merged(below[key], value) if is_table else value
    return merged


def _built(kind: type, table: Mapping[str, Any], where: str) -> Any:
    """A dataclass of a table. where: its key, with a dot after it"""
    hints = get_type_hints(kind)
    unknown = [name for name in table if name not in hints]
    if unknown:
        raise CodaxError(f"{where}{unknown[0]}: is no key, allowed: {', '.join(hints)}")
    # MISSING, both: there is no default.
    needed = [one.name for one in fields(kind) if one.default_factory is one.default]
    missing = [name for name in needed if name not in table]
    if missing:
        raise CodaxError(f"{where}{missing[0]}: is missing from the recipe")
    return kind(**{key: _value(hints[key], value, where + key) for key, value in table.items()})


def _value(hint: Any, value: Any, key: str) -> Any:
    kind = get_origin(hint) or hint
    if hasattr(kind, "__dataclass_fields__"):
        if not isinstance(value, Mapping):
            raise CodaxError(f"{key}={value!r} must be a table")
        return _built(kind, value, f"{key}.")
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and is_number:
        return float(value)
    if not isinstance(value, kind) or (kind is int and not is_number):
        raise CodaxError(f"{key}={value!r} must be {NAMES[kind]}")
    return value


NAMES = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "true or false",
    tuple: "a list",
    dict: "a table",
}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value


def _require_one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise CodaxError(f"{key}: {value!r} is not allowed, but {', '.join(allowed)}")


def _require_range(key: str, value: Any, least: float, most: float = float("inf")) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= value <= most or not math.isfinite(value):
        raise CodaxError(f"{key}={value!r} must be a number from {least} to {most:.10g}")
