"""Loading and saving, the same for every codec. The only module that knows FlaxPreTrainedModel."""

import errno
import math
import os
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax
from safetensors import SafetensorError
from safetensors.numpy import save_file
from transformers import PretrainedConfig
from transformers.dynamic_module_utils import custom_object_save
from transformers.modeling_flax_utils import FlaxPreTrainedModel
from transformers.utils import CONFIG_NAME, ModelOutput, logging

from codax.files import atomic_path
from codax.hub_saving import AUTO_MAP, HubSaving, require_pushing

from .chunking import is_traced
from .devices import divided_where_possible, mesh_of, on_cpus, replicated
from .kept_factors import KeptFactors
from .lstm import CARRY
from .torch_layout import params_from_flax, params_from_torch, params_to_torch
from .weight_files import SAFETENSORS, WeightFile, find_weights
from .weight_table import WeightRule

logger = logging.get_logger(__name__)

# What FlaxPreTrainedModel.from_pretrained accepts and a codec has no use for.
IGNORED_OPTIONS = ("adapter_kwargs", "trust_remote_code", "_from_pipeline", "from_pt")


@partial(jax.jit, static_argnames=("module", "method", "options"))
def _run(module: nn.Module, method: str, variables: Mapping, arrays: tuple, options: tuple) -> Any:
    return module.apply(variables, *arrays, method=method, **dict(options))


@partial(jax.jit, static_argnames=("module", "method", "options"))
def _run_carrying(
    module: nn.Module, method: str, params: Mapping, carry: Mapping, arrays: tuple, options: tuple
) -> Any:
    variables = {"params": params, CARRY: carry}
    result, updated = module.apply(
        variables, *arrays, method=method, mutable=[CARRY], **dict(options)
    )
    return updated[CARRY], result


class FlaxPreTrainedCodec(HubSaving, FlaxPreTrainedModel):
    """A codec that loads from and saves to transformers' torch layout, without torch.

    A subclass gives `config_class`, `weight_rules(config)` and `module_class`, which is made of the
    configuration's architecture, the two dtypes and the precision.
    """

    config_class: ClassVar[Any]  # a subclass of CodecConfig
    module_class: ClassVar[Any]  # a subclass of nn.Module
    config_file = CONFIG_NAME
    base_model_prefix = ""
    main_input_name = "input_values"

    def __init__(
        self,
        config: PretrainedConfig,
        input_shape: tuple[int, int, int] | None = None,
        seed: int = 0,
        dtype: Any = jnp.float32,
        _do_init: bool = True,
        encode_dtype: Any = jnp.float32,
        precision: lax.PrecisionLike = lax.Precision.HIGHEST,
    ):
        checked = config if isinstance(config, self.config_class) else self._as_own_config(config)
        checked.validate()
        module = self.module_class(
            checked.architecture,
            jnp.dtype(dtype),
            jnp.dtype(encode_dtype),
            lax.Precision(precision),
        )
        shape = input_shape or (1, checked.audio_channels, checked.hop_length)
        # Not super().__init__: it traces the whole network to learn the shapes that weight_rules
        # lists (0.6 s for DAC), and warns that transformers 5 drops Flax, of which users need not
        # hear from a package that requires a version with Flax. These are all its attributes.
        self._config = checked
        self._module = module
        self._seed = seed
        self.dtype = dtype
        self.input_shape = shape
        self.generation_config = None
        self._is_initialized = _do_init
        rules = self.weight_rules(checked)
        self._required_params = {rule.flax_path for rule in rules}
        self._params_shape_tree = unflatten_dict(
            {rule.flax_path: jax.ShapeDtypeStruct(rule.flax_shape, jnp.float32) for rule in rules}
        )
        self._factors = KeptFactors(
            checked.architecture, {"encoder": module.encode_dtype, "decoder": module.dtype}
        )
        if _do_init:
            self.params = self.init_weights(self.key, shape)

    @cached_property
    def key(self) -> jax.Array:
        """The random key of the constructor's seed; made late, since it compiles a program."""
        return jax.random.PRNGKey(self._seed)

    @staticmethod
    def weight_rules(config: PretrainedConfig) -> tuple[WeightRule, ...]:
        """Every weight of a model with this configuration, in both layouts."""
        raise NotImplementedError

    def init_weights(self, rng: jax.Array, input_shape: tuple, params: dict | None = None) -> Any:
        """Fresh random weights as a nested dict; where `params` has a weight already, that one."""
        fresh = self.module.lazy_init(rng, jax.ShapeDtypeStruct(input_shape, jnp.float32))["params"]
        if params is None:
            return fresh
        return unflatten_dict({**flatten_dict(fresh), **flatten_dict(params)})

    def _apply(
        self,
        method: str,
        params: Mapping | None,
        *arrays,
        batch_axes: Sequence[int] | None = None,
        **options,
    ) -> Any:
        """Run a method of the module, compiled.

        There is one compilation for each architecture, method, shape and `options` (hashable),
        shared by all model objects; on one CPU it goes by blocks of time (time_blocks.py). `params`
        stand in for the model's own. batch_axes: where the batch is in each of `arrays`, which
        several devices divide; the first axis by default.
        """
        weights = self.params if params is None else params
        arrays = tuple(divided_where_possible(arrays, weights, batch_axes))
        kept = {} if params is not None else self._factors.of(weights)
        variables = {"params": weights, **kept}
        module = self.module
        if on_cpus(weights) and mesh_of(weights) is None and not is_traced(weights, arrays):
            module = module.clone(in_blocks=True)
        return _run(module, method, variables, arrays, tuple(sorted(options.items())))

    def _apply_carrying(
        self, method: str, params: Mapping | None, carry: Mapping, *arrays, **options
    ) -> tuple[Any, Any]:
        """`_apply` with the state of LSTMs, the collection `CARRY` -> (that state, the result)."""
        weights = self.params if params is None else params
        arrays = tuple(divided_where_possible(arrays, weights))
        options_ = tuple(sorted(options.items()))
        return _run_carrying(self.module, method, weights, carry, arrays, options_)

    def spread(self, devices: Sequence[Any] | None = None) -> None:
        """Hold the parameters on several devices, among which work is divided from then on.

        Batches are divided where their size is a multiple of the number of devices. Chunks of long
        clips are, whatever their number, but for those of EnCodec's that hand on an LSTM's state.
        Results are those of one device.

        devices: all of this process by default; `jax.devices()` where `jax.distributed` joins
            several processes, all of which then make the same calls with the same arguments
        """
        self.params = replicated(self.params, jax.local_devices() if devices is None else devices)

    def chunks_at_once(self, batch: int, params: Mapping | None = None) -> int:
        """How many chunks of a batch of clips make a batch for all devices of the parameters."""
        mesh = mesh_of(self.params if params is None else params)
        return 1 if mesh is None else mesh.size // math.gcd(mesh.size, batch)

    def _as(self, output: ModelOutput, return_dict: bool | None) -> Any:
        """An output as its dataclass, or as a tuple where that is what the caller wants."""
        return output if self._wants_dict(return_dict) else output.to_tuple()

    def _wants_dict(self, return_dict: bool | None) -> bool:
        return self.config.return_dict if return_dict is None else return_dict

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike,
        dtype: Any = jnp.float32,
        *model_args,
        config: PretrainedConfig | str | os.PathLike | None = None,
        cache_dir: str | os.PathLike | None = None,
        ignore_mismatched_sizes: bool = False,
        force_download: bool = False,
        local_files_only: bool = False,
        token: str | bool | None = None,
        revision: str = "main",
        subfolder: str = "",
        **kwargs,
    ) -> Any:
        """Load a model from a folder or Hub repository, without first making random weights.

        Reads, in this order of preference and never two: `model.safetensors` in transformers' torch
        layout (weight norm folded or not; torch need not be installed) or in Flax's, its sharded
        form, `flax_model.msgpack`, its sharded form. Weights become float32; `dtype` is that of the
        computation.

        Further keyword arguments override fields of the configuration or go to the model's
        constructor. `proxies` and `_do_init=False` (returns `(model, params)`) work as in
        transformers. `ignore_mismatched_sizes` is refused: no weight is ever made up.

        Raises `CheckpointError` listing all missing, unexpected, mis-shaped and non-finite weights;
        `OSError` where there is no such folder, repository or file; `ValueError` for bad fields.
        """
        if ignore_mismatched_sizes:
            raise ValueError(
                "ignore_mismatched_sizes=True: codax never initialises weights at random"
            )
        name_or_path = str(pretrained_model_name_or_path)
        dtype = kwargs.pop("torch_dtype", dtype)  # the older name, which FlaxAutoModel takes too
        if isinstance(dtype, str) and dtype == "auto":
            dtype = jnp.float32
        do_init = kwargs.pop("_do_init", True)
        commit_hash = kwargs.pop("_commit_hash", None)
        hub_options = {
            "cache_dir": cache_dir,
            "force_download": force_download,
            "local_files_only": local_files_only,
            "token": kwargs.pop("use_auth_token", None) if token is None else token,
            "revision": revision,
            "subfolder": subfolder,
            "proxies": kwargs.pop("proxies", None),
        }
        kwargs.pop("resume_download", None)
        user_agent = {"file_type": "model", "framework": "flax"}
        user_agent["from_auto_class"] = kwargs.pop("_from_auto", False)
        for option in IGNORED_OPTIONS:
            kwargs.pop(option, None)

        model_config, model_options = cls._load_config(
            config, name_or_path, {**hub_options, "_commit_hash": commit_hash}, kwargs
        )
        # A configuration that is given, as FlaxAutoModel does, keeps its commit; a copy has none.
        for source in (config, model_config):
            commit_hash = commit_hash or getattr(source, "_commit_hash", None)
        weights = find_weights(
            name_or_path, user_agent=user_agent, commit_hash=commit_hash, **hub_options
        )
        params = cls._params_of(weights, model_config)
        model = cls(model_config, *model_args, dtype=dtype, _do_init=False, **model_options)
        if not do_init:
            return model, params
        model._is_initialized = True
        model.params = params
        return model

    @classmethod
    def _load_config(
        cls, config, name_or_path: str, hub_options: dict, overrides: dict
    ) -> tuple[Any, dict]:
        """(configuration, keyword arguments that it does not know)."""
        if not isinstance(config, PretrainedConfig):
            return cls.config_class.from_pretrained(
                name_or_path if config is None else config,
                return_unused_kwargs=True,
                **hub_options,
                **overrides,
            )
        return cls._as_own_config(config, return_unused_kwargs=True, **overrides)

    @classmethod
    def _params_of(cls, weights: WeightFile, config: Any) -> dict:
        """The Flax tree of what was read; `config` may be corrected by it."""
        if weights.is_torch_layout:
            cls._correct_config(config, weights.tensors, weights.source)
        read = params_from_torch if weights.is_torch_layout else params_from_flax
        return read(cls.weight_rules(config), weights.tensors, weights.source)

    @classmethod
    def _correct_config(cls, config: Any, keys: Collection[str], source: str) -> None:
        """Set right what a published config.json is known to say wrongly of the weights beside it.

        keys: of the torch state dict
        """

    @classmethod
    def _as_own_config(cls, config: PretrainedConfig, **options) -> Any:
        """FlaxAutoModel brings transformers' own configuration, which knows fewer fields."""
        fields = config.to_dict()
        # How the weights were stored, or what FlaxAutoModel was given: neither is the model's.
        fields.pop("dtype", None)
        return cls.config_class.from_dict(fields, **options)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        params: dict | None = None,
        push_to_hub: bool = False,
        token: str | bool | None = None,
        safe_serialization: bool = True,
        repo_id: str | None = None,
        max_shard_size: int | str | None = None,  # noqa: ARG002
        **push_options,
    ) -> None:
        """Write config.json and model.safetensors, which torch's transformers and codax both read.

        `params` stand in for the model's own. Each file is replaced in one step or not at all. A
        model whose class came as code of its repository takes that code along. `push_to_hub=True`
        does what the method of this name does (`repo_id`, the folder's name by default, and its
        other arguments). There is one weight file, in safetensors: `max_shard_size` is not
        heeded, `safe_serialization=False` is refused.
        """
        if not safe_serialization:
            raise ValueError("safe_serialization=False: codax writes weights as safetensors only")
        require_pushing(push_to_hub, push_options)
        tree = self.params if params is None else params
        state = params_to_torch(self.weight_rules(self.config), tree)
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.config.architectures = [type(self).__name__.removeprefix("Flax")]
        self.config.dtype = "float32"
        self._save_code(folder)
        with atomic_path(folder / SAFETENSORS) as path:
            _save_safetensors(state, path)
        with atomic_path(folder / CONFIG_NAME) as path:
            self.config.to_json_file(path)
        logger.info(f"Model saved in {folder}")

        if push_to_hub:
            self.push_to_hub(repo_id or folder.name, token=token, params=params, **push_options)

    def _save_code(self, folder: Path) -> None:
        """Write the code that this class came as, if it did, and let config.json name it."""
        config: Any = self.config
        vars(config).pop(AUTO_MAP, None)
        for part in (self, config):
            if part._auto_class is not None:
                custom_object_save(part, folder, config=config)


def _save_safetensors(state: dict, path: Path) -> None:
    try:
        save_file(state, path, metadata={"format": "pt"})
    except SafetensorError as error:  # a full disk, reported as its own kind of error
        raise OSError(errno.EIO, str(error), str(path)) from error
