"""One step of training: discriminators first, then the model, by one forward pass of it."""

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import lax

from codax.errors import CodaxError
from codax.evaluation.distances import (
    multi_scale_mel_distance,
    multi_scale_stft_distance,
    si_sdr,
    waveform_l1,
)
from codax.modeling.weight_table import WeightRule
from codax.training import adversarial
from codax.training.balancer import BalancerState, balance, initial_balancer
from codax.training.discriminator_weights import (
    dac_discriminator_weight_rules,
    ms_stft_discriminator_weight_rules,
)
from codax.training.discriminators import (
    DacDiscriminatorConfig,
    FlaxDacDiscriminator,
    FlaxMsStftDiscriminator,
    MsStftDiscriminatorConfig,
)
from codax.training.ema_codebooks import initialise_codebooks, update_codebooks
from codax.training.fitted_start import VECTORS_OF_A_CODEWORD, fit_to_audio
from codax.training.mel_loss import multi_scale_spectrogram_loss
from codax.training.parts import joined, mapped, split, summed
from codax.training.recipe import OptimizerRecipe, Recipe
from codax.training.reconstruction import TRAINING_MODULES, Reconstruction, draw_levels
from codax.training.weight_norm import merge_kernels, split_kernels, training_weight_rules

DISCRIMINATORS = {
    "dac": (DacDiscriminatorConfig, FlaxDacDiscriminator, dac_discriminator_weight_rules),
    "ms_stft": (
        MsStftDiscriminatorConfig,
        FlaxMsStftDiscriminator,
        ms_stft_discriminator_weight_rules,
    ),
}
"""(configuration, module, its weight rules), by the kind that a recipe names."""

OBJECTIVES = {
    "lsgan": (
        adversarial.lsgan_discriminator_loss,
        adversarial.lsgan_generator_loss,
        adversarial.summed_feature_loss,
    ),
    "hinge": (
        adversarial.hinge_discriminator_loss,
        adversarial.hinge_generator_loss,
        adversarial.mean_feature_loss,
    ),
    "saturating_hinge": (
        adversarial.hinge_discriminator_loss,
        adversarial.saturating_hinge_generator_loss,
        adversarial.mean_feature_loss,
    ),
}
"""(loss of the discriminators, of the model, of features), by the objective that a recipe names."""

QUANTIZER_LOSSES = ("commitment", "codebook")
"""Of the quantizer, which no balancer scales."""


class TrainState(struct.PyTreeNode):
    """All that a step changes.

    step: int32, how many there were
    model: its parameters, kernels as gain and direction; discriminator: likewise, or None
    model_optimizer, discriminator_optimizer: of optax
    average: of the model's parameters over the steps, or None
    balancer: what the balancer knows of the losses, or None
    """

    step: jax.Array
    model: dict[str, Any]
    discriminator: dict[str, Any] | None
    model_optimizer: Any
    discriminator_optimizer: Any
    average: dict[str, Any] | None
    balancer: BalancerState | None


class Audios(NamedTuple):
    """Real audio and what the model made of it, float32 [B, C, T]."""

    real: jax.Array
    fake: jax.Array


@dataclass(frozen=True)
class Training:
    """What a recipe says of the steps, for a model with a configuration.

    Methods that take a state give a new one; none changes what it is given.
    """

    recipe: Recipe
    config: Any

    def __post_init__(self):
        if self.recipe.quantizer.gradient != "straight_through" and not self._is_dac:
            raise CodaxError(
                f"quantizer.gradient={self.recipe.quantizer.gradient!r} is for DAC, not for "
                f"{self.config.model_type}"
            )

    @cached_property
    def module(self) -> Any:
        """The model, which reconstructs."""
        run = self.recipe.run
        dtype = jnp.dtype(run.dtype)
        precision = lax.Precision(run.precision)
        module_class = TRAINING_MODULES[self.config.model_type]
        told = {"gradient": self.recipe.quantizer.gradient} if self._is_dac else {}
        return module_class(self.config.architecture, dtype, dtype, precision, **told)

    @cached_property
    def discriminator(self) -> Any:
        _, module_class, _ = DISCRIMINATORS[self.recipe.discriminator.kind]
        run = self.recipe.run
        precision = lax.Precision(run.precision)
        return module_class(self._discriminator_config, jnp.dtype(run.dtype), precision)

    def initial_state(self, model: Mapping[str, Any], discriminator: Any = None) -> TrainState:
        """The state before the first step.

        model: parameters as `FlaxPreTrainedCodec.params`
        discriminator: likewise, or None for fresh ones
        """
        return jax.jit(self._initial_state)(model, discriminator)

    def _initial_state(self, model: Mapping[str, Any], discriminator: Any) -> TrainState:
        params = self._split(model)
        if self.recipe.is_adversarial and discriminator is None:
            discriminator = self._fresh_discriminator()
        critic = self.discriminator_optimizer
        return TrainState(
            step=jnp.int32(0),
            model=params,
            discriminator=discriminator,
            model_optimizer=self.model_optimizer.init(params),
            discriminator_optimizer=None if discriminator is None else critic.init(discriminator),
            average=params if self.recipe.run.average_decay else None,
            balancer=initial_balancer(self.audio_losses) if self.recipe.balanced else None,
        )

    def _split(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """Kernels as gain and direction; what is held stays as it is, to the last bit."""
        rules = training_weight_rules(self.config)
        return split_kernels(model, [rule for rule in rules if not self._is_held(rule.flax_path)])

    def require_fit(self, num_samples: int) -> None:
        """Raise `CodaxError` where discriminators do not fit each other, or excerpts so long."""
        if not self.recipe.is_adversarial:
            return
        shape = (1, self.config.audio_channels, num_samples)
        try:
            jax.eval_shape(
                self.discriminator.init, jax.random.key(0), jax.ShapeDtypeStruct(shape, jnp.float32)
            )
        except (TypeError, ValueError) as error:
            fields = self.recipe.discriminator.fields
            raise CodaxError(
                f"discriminator.fields={fields}: for excerpts of {num_samples} samples and "
                f"{shape[1]} channels: {error}"
            ) from error

    def step(self, state: TrainState, samples: jax.Array) -> tuple[TrainState, dict]:
        """One step on real audio float32 [B, C, T] -> the new state, and losses by name.

        The discriminators are updated first, and the model by what they say then, on the same
        reconstruction: descript's order, and audiocraft's.
        """
        key = jax.random.fold_in(jax.random.key(self.recipe.run.seed), state.step)
        for_levels, for_codebooks = jax.random.split(key)
        levels = self._levels(for_levels, len(samples))
        made, pull_back = self._reconstructed(state.model, samples, levels)
        audios = Audios(samples, made.audio)
        losses = {"commitment": made.commitment, "codebook": made.codebook}
        if self.recipe.is_adversarial:
            state, losses["discriminator"] = self._discriminator_step(state, audios)
        gradient, audio_losses, balancer = self._audio_gradient(state, audios)
        gradients = pull_back(gradient)
        model, optimizer = _updated(
            self.model_optimizer, gradients, state.model_optimizer, state.model
        )
        if self._learns_codebooks and self.recipe.model.train_encoder:
            codebooks = state.model["quantizer"]
            codebooks = update_codebooks(codebooks, made.latents, levels, for_codebooks)
            model = {**model, "quantizer": codebooks}
        losses |= audio_losses | {"gradient_norm": optax.tree.norm(gradients)}
        return state.replace(
            step=state.step + 1,
            model=model,
            model_optimizer=optimizer,
            average=self._averaged(state.average, model),
            balancer=balancer,
        ), losses

    def _reconstructed(
        self, params: dict[str, Any], samples: jax.Array, levels: jax.Array
    ) -> tuple[Reconstruction, Callable[[jax.Array], dict[str, Any]]]:
        """What the model makes, and what turns the audio's gradient into that of the parameters.

        A batch in one part runs through the model once. Of several parts, what gradients need is
        not kept: each runs once more when they are asked for.
        """
        weights = [
            jnp.float32(self.recipe.losses.get(name, 0) / self._num_parts)
            for name in QUANTIZER_LOSSES
        ]

        def with_pull_back(part):
            def forward(params):
                made = self.reconstruct(self._with_held(params), *part)
                return (made.audio, made.commitment, made.codebook), made

            _, pull_back, made = jax.vjp(forward, params, has_aux=True)
            return made, lambda gradient: pull_back((gradient, *weights))[0]

        def of_part(part_and_gradient):
            part, gradient = part_and_gradient
            _, pull_back = with_pull_back(part)
            return pull_back(gradient)

        if self._num_parts == 1:
            return with_pull_back((samples, levels))
        parts = split((samples, levels), self._num_parts)
        made = self._reconstructed_in_parts(params, parts)
        return made, lambda gradient: summed(of_part, (parts, split(gradient, self._num_parts)))

    def _reconstructed_in_parts(self, params: dict[str, Any], parts: Any) -> Reconstruction:
        """parts: of samples and levels, as `split` gives them -> as of the whole batch"""
        made = mapped(lambda part: self.reconstruct(params, *part), parts)
        return Reconstruction(
            joined(made.audio),
            jnp.mean(made.commitment),
            jnp.mean(made.codebook),
            joined(made.latents),
        )

    @property
    def batches_to_begin(self) -> int:
        """Of how many batches `begun` makes the most."""
        if self._learns_codebooks or self.recipe.model.start != "fitted":
            return 1
        excerpts = self.recipe.excerpts
        frames = excerpts.duration_s * self.config.sampling_rate / self.config.hop_length
        wanted = VECTORS_OF_A_CODEWORD * self.config.codebook_size
        return math.ceil(wanted / (frames * excerpts.batch_size))

    def begun(self, state: TrainState, samples: jax.Array) -> TrainState:
        """A state of fresh weights, with those that are to be found by audio before any step.

        EnCodec's codebooks, by k-means; DAC's weights where the recipe says `model.start="fitted"`.
        samples: float32 [B, C, T], of `batches_to_begin` batches
        """
        if self._learns_codebooks:
            model = self._with_codebooks(state.model, samples)
        elif self.recipe.model.start == "fitted":
            missing = -samples.shape[-1] % self.config.hop_length
            padded = jnp.pad(samples, ((0, 0), (0, 0), (0, missing)))
            fresh = merge_kernels(state.model)
            key = jax.random.key(self.recipe.run.seed)
            rate = self.config.sampling_rate
            model = self._split(fit_to_audio(self.module, fresh, padded, rate, key))
        else:
            return state
        average = None if state.average is None else jax.tree.map(jnp.copy, model)
        return state.replace(model=model, average=average)

    def _with_codebooks(self, params: dict[str, Any], samples: jax.Array) -> dict[str, Any]:
        levels = self._all_levels(len(samples))
        made = self._reconstructed_in_parts(params, split((samples, levels), self._num_parts))
        key = jax.random.key(self.recipe.run.seed)
        quantizer = initialise_codebooks(params["quantizer"], made.latents, key)
        return {**params, "quantizer": quantizer}

    def validate(self, params: dict[str, Any], samples: jax.Array) -> tuple[dict, jax.Array]:
        """Measures of the reconstruction by all codebooks, and the audio float32 [B, C, T].

        Silence has no `si_sdr`, but NaN.
        """
        audio = self.reconstruct(params, samples, self._all_levels(len(samples))).audio
        measures = {
            "mel": multi_scale_mel_distance(audio, samples, self.config.sampling_rate),
            "stft": multi_scale_stft_distance(audio, samples),
            "waveform": waveform_l1(audio, samples),
            "si_sdr": jnp.where(jnp.ptp(samples) > 0, si_sdr(audio, samples), jnp.nan),
        }
        return measures, audio

    def reconstruct(self, params: dict[str, Any], samples, levels) -> Reconstruction:
        """Run the model with parameters as in `TrainState`."""
        variables = {"params": merge_kernels(params)}
        return self.module.apply(variables, samples, levels, method="reconstruct")

    def best_of(self, state: TrainState) -> dict[str, Any]:
        """The model's parameters that are validated and exported: averaged where that is wanted."""
        return state.model if state.average is None else state.average

    @cached_property
    def audio_losses(self) -> dict[str, float]:
        """Weights of the losses that the audio has, by name."""
        losses = self.recipe.losses.items()
        return {name: weight for name, weight in losses if name not in QUANTIZER_LOSSES and weight}

    @cached_property
    def model_optimizer(self) -> Any:
        recipe = self.recipe.optimizer
        trained = _adam(recipe, recipe.generator_clip)
        parts: dict[Hashable, Any] = {"trained": trained, "held": optax.set_to_zero()}
        return optax.multi_transform(parts, self._labels)

    @cached_property
    def discriminator_optimizer(self) -> Any:
        recipe = self.recipe.optimizer
        return _adam(recipe, recipe.discriminator_clip)

    @cached_property
    def _discriminator_config(self) -> Any:
        config_class, _, _ = DISCRIMINATORS[self.recipe.discriminator.kind]
        given = self.recipe.discriminator.fields
        try:
            fields = {
                name: tuple(map(tuple, value)) if name == "bands" else _as_tuple(value)
                for name, value in given.items()
            }
            return config_class(**fields)
        except (TypeError, ValueError) as error:
            raise CodaxError(f"discriminator.fields={given}: {error}") from error

    @property
    def discriminator_rules(self) -> tuple[WeightRule, ...]:
        """Every weight of the discriminators, and its name in the reference's torch code."""
        _, _, rules_of = DISCRIMINATORS[self.recipe.discriminator.kind]
        return rules_of(self._discriminator_config)

    def _fresh_discriminator(self) -> dict[str, Any]:
        channels = self.config.audio_channels
        samples = jax.ShapeDtypeStruct((1, channels, self.config.sampling_rate), jnp.float32)
        key = jax.random.fold_in(jax.random.key(self.recipe.run.seed), 2**31)
        params = self.discriminator.lazy_init(key, samples)["params"]
        return split_kernels(params, self.discriminator_rules)

    def _judged(self, params: Any, samples: jax.Array) -> list[list[jax.Array]]:
        return self.discriminator.apply({"params": merge_kernels(params)}, samples)

    def _discriminator_step(
        self, state: TrainState, audios: Audios
    ) -> tuple[TrainState, jax.Array]:
        """-> the state with discriminators that know these, and their loss before."""
        loss_of, _, _ = OBJECTIVES[self.recipe.discriminator.objective]

        def loss(params, part):
            real, fake = _halves(self._judged(params, jnp.concatenate(part)))
            return loss_of(fake, real) / self._num_parts

        value, gradients = summed(
            partial(jax.value_and_grad(loss), state.discriminator), split(audios, self._num_parts)
        )
        params, optimizer = _updated(
            self.discriminator_optimizer,
            gradients,
            state.discriminator_optimizer,
            state.discriminator,
        )
        return state.replace(discriminator=params, discriminator_optimizer=optimizer), value

    def _audio_gradient(
        self, state: TrainState, audios: Audios
    ) -> tuple[jax.Array, dict[str, jax.Array], BalancerState | None]:
        """What of the losses reaches the audio, float32 [B, C, T]; the losses; the balancer."""
        of_part = self._gradients_by_loss if self.recipe.balanced else self._gradient_of_sum
        gradients, losses = mapped(
            partial(of_part, state.discriminator), split(audios, self._num_parts)
        )
        # Losses are means over a batch, of which a part is a share.
        gradients = jax.tree.map(lambda one: one / self._num_parts, joined(gradients))
        losses = jax.tree.map(jnp.mean, losses)
        if not self.recipe.balanced:
            return gradients, losses, None
        assert state.balancer is not None
        balanced = balance(gradients, self.audio_losses, state.balancer)
        return balanced.gradient, losses, balanced.state

    def _gradient_of_sum(self, discriminator: Any, audios: Audios) -> tuple[jax.Array, dict]:
        """Of the weighted losses; and the losses."""
        functions = self._loss_functions(discriminator, audios.real)

        def total(audio):
            # Feature maps once, so that the discriminators' gradient is computed once.
            maps = self._maps(discriminator, audio)
            losses = {name: loss(audio, maps) for name, loss in functions.items()}
            return sum(self.audio_losses[name] * losses[name] for name in losses), losses

        return jax.grad(total, has_aux=True)(audios.fake)

    def _gradients_by_loss(self, discriminator: Any, audios: Audios) -> tuple[dict, dict]:
        """Of every loss alone: XLA computes once what they share. And the losses."""

        def alone(audio, loss):
            return loss(audio, self._maps(discriminator, audio))

        pairs = {
            name: jax.value_and_grad(alone)(audios.fake, loss)
            for name, loss in self._loss_functions(discriminator, audios.real).items()
        }
        losses = {name: value for name, (value, _) in pairs.items()}
        return {name: gradient for name, (_, gradient) in pairs.items()}, losses

    def _maps(self, discriminator: Any, samples: jax.Array) -> list[list[jax.Array]]:
        """Feature maps, none where no loss asks for them."""
        return self._judged(discriminator, samples) if self.recipe.is_adversarial else []

    def _loss_functions(
        self, discriminator: Any, real: jax.Array
    ) -> dict[str, Callable[[jax.Array, Any], jax.Array]]:
        """The losses that the recipe wants, of reconstructed audio and its feature maps."""
        rate = self.config.sampling_rate
        _, adversarial_loss, feature_loss = OBJECTIVES[self.recipe.discriminator.objective]

        def features(_, maps):
            return feature_loss(maps, lax.stop_gradient(self._judged(discriminator, real)))

        functions = {
            "waveform": lambda audio, _: waveform_l1(audio, real),
            "mel": lambda audio, _: multi_scale_mel_distance(audio, real, rate),
            "stft": lambda audio, _: multi_scale_stft_distance(audio, real),
            "encodec_mel": lambda audio, _: multi_scale_spectrogram_loss(audio, real, rate),
            "adversarial": lambda _, maps: adversarial_loss(maps),
            "features": features,
        }
        return {name: functions[name] for name in self.audio_losses}

    def _averaged(self, average: dict | None, model: dict) -> dict | None:
        if average is None:
            return None
        decay = self.recipe.run.average_decay
        moved = jax.tree.map(lambda old, new: decay * old + (1 - decay) * new, average, model)
        # Codebooks are averages already.
        leaves, new = flatten_dict(moved), flatten_dict(model)
        return unflatten_dict(
            {path: new[path] if self._is_held(path) else leaf for path, leaf in leaves.items()}
        )

    def _levels(self, key: jax.Array, batch: int) -> jax.Array:
        recipe = self.recipe.quantizer
        return draw_levels(key, batch, self._num_codebooks, recipe.dropout, recipe.dropout_by)

    def _all_levels(self, batch: int) -> jax.Array:
        return jnp.full(batch, self._num_codebooks)

    @property
    def _num_parts(self) -> int:
        return self.recipe.run.accumulate

    @property
    def _learns_codebooks(self) -> bool:
        """Whether moving averages teach the codebooks, instead of gradients."""
        return self.config.model_type == "encodec"

    @property
    def _num_codebooks(self) -> int:
        if self._is_dac:
            return self.config.n_codebooks
        return self.config.architecture.num_quantizers

    @property
    def _is_dac(self) -> bool:
        return self.config.model_type == "dac"

    def _is_held(self, path: tuple[str, ...]) -> bool:
        """Whether a parameter gets no gradient."""
        if path[0] == "quantizer" and self._learns_codebooks:
            return True
        return path[0] in ("encoder", "quantizer") and not self.recipe.model.train_encoder

    def _labels(self, params: Mapping) -> dict:
        labels = {
            path: "held" if self._is_held(path) else "trained" for path in flatten_dict(params)
        }
        return unflatten_dict(labels)

    def _with_held(self, params: Mapping) -> dict:
        """The parameters, of which those that are held end all gradients."""
        leaves = flatten_dict(params)
        return unflatten_dict(
            {
                path: lax.stop_gradient(leaf) if self._is_held(path) else leaf
                for path, leaf in leaves.items()
            }
        )


def _adam(recipe: OptimizerRecipe, clip: float) -> Any:
    """AdamW whose rate decays step by step, as torch's; Adam without weight decay."""
    warmup = recipe.warmup_steps
    rate = optax.warmup_exponential_decay_schedule(
        0.0 if warmup else recipe.learning_rate, recipe.learning_rate, warmup, 1, recipe.decay
    )
    first, second = recipe.betas
    adam = optax.adamw(rate, first, second, weight_decay=recipe.weight_decay)
    return optax.chain(optax.clip_by_global_norm(clip), adam) if clip else adam


def _updated(optimizer: Any, gradients: Any, state: Any, params: Any) -> tuple[Any, Any]:
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state


def _halves(maps: list[list[jax.Array]]) -> tuple[Any, Any]:
    """Feature maps of two batches, one after the other -> of each."""
    return (
        jax.tree.map(lambda one: one[: len(one) // 2], maps),
        jax.tree.map(lambda one: one[len(one) // 2 :], maps),
    )


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
