"""The run of a recipe: data in, checkpoints and a model folder out, from where it stood before."""

import json
import math
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from transformers.utils import logging

from codax.errors import CodaxError
from codax.feature_extraction import EXTRACTORS
from codax.files import atomic_path
from codax.modeling import FlaxDacModel, FlaxEncodecModel
from codax.training.checkpoints import Checkpoints, holds_checkpoints
from codax.training.data import ExcerptStream, TrainingBatches, validation_excerpts
from codax.training.discriminator_files import save_discriminator
from codax.training.domains import Source
from codax.training.excerpts import LOUDNESS_CUTOFF_DB, ExcerptShape
from codax.training.initial import InitialWeights
from codax.training.recipe import Recipe
from codax.training.run_log import RunLog
from codax.training.steps import Training, TrainState
from codax.training.transforms import DAC_TRANSFORMS
from codax.training.weight_norm import merge_kernels

logger = logging.get_logger(__name__)

RECIPE, BEST, MODEL, CHECKPOINTS, LOGS = "recipe.json", "best", "model", "checkpoints", "logs"
"""What a run's folder holds; `best` and `model` are folders that `from_pretrained` loads."""

DISCRIMINATOR = "discriminator.safetensors"

SIGNALS = (signal.SIGINT, signal.SIGTERM)

SELECTED_BY = "mel"
"""The measure of validation that is lowest for the best model."""

MODELS = {"dac": FlaxDacModel, "encodec": FlaxEncodecModel}

Domains = Mapping[str, Source | Sequence[Source]]


@dataclass
class Progress:
    """step: of `steps`; losses: of the last one that was told; measures: of the last validation

    best: measures of the validation that found the best model
    stopped_by: the signal that ended the run early, or None
    """

    steps: int
    step: int = 0
    losses: dict[str, float] | None = None
    measures: dict[str, float] | None = None
    best: dict[str, float] | None = None
    stopped_by: int | None = None


class Trainer:
    """Trains a model by a recipe, in a folder; what the folder holds of such a run is gone on with.

    domains, validation: names -> sources of audio, as `ExcerptStream` takes them
    output: checkpoints/, logs/ for tensorboard, recipe.json; best/ and model/, which
        `FlaxAutoModel.from_pretrained` loads: the best by validation, and the last
    from_pretrained: a model to begin with, whose configuration is that of the recipe
    discriminator: a file of discriminators to begin with, such as the `discriminator.safetensors`
        of another run; what `codax.conversion.read_discriminator` reads. Fresh ones by default.
    devices: that divide a batch; all by default, those of other processes that
        `jax.distributed` joined too, which then write to the same folder
    workers: threads that read audio

    Raises `CodaxError` for data, models and recipes that do not fit each other, before any step.
    """

    def __init__(
        self,
        recipe: Recipe,
        domains: Domains,
        output: str | os.PathLike,
        validation: Domains | None = None,
        from_pretrained: str | os.PathLike | None = None,
        discriminator: str | os.PathLike | None = None,
        devices: Sequence[Any] | None = None,
        workers: int | None = None,
    ):
        self.recipe = recipe
        self.output = Path(output)
        self.config = recipe.model.config()
        self.training = Training(recipe, self.config)
        self._initial = InitialWeights.of(from_pretrained, discriminator)
        self._mesh = _mesh(devices, recipe)
        if holds_checkpoints(self.output / CHECKPOINTS):
            _require_same(self.output / RECIPE, self._asked)
            self._discriminator = None
        else:
            self._initial.require_fit(self.training)
            self._discriminator = self._initial.load_discriminator(self.training)
        self._check_lengths()
        self.training.require_fit(self._shape(recipe.excerpts.duration_s).num_samples)
        self._batches = self._open_batches(domains, workers)
        self._validation = self._open_validation(validation)

    def run(self, tell: Callable[[Progress], None] = lambda _: None) -> Progress:
        """Train until the recipe's last step, or a SIGINT or SIGTERM, after which it can go on.

        tell: called after every step

        Raises `CodaxError` where a loss is no finite number, and what reading audio raises.
        """
        progress = Progress(self.recipe.run.steps)
        with (
            self._batches,
            Checkpoints(self.output / CHECKPOINTS, self.recipe.run.checkpoints_kept) as checkpoints,
            _signals() as received,
        ):
            state, progress.best = self._begun(checkpoints)
            progress.step = int(state.step)
            if progress.step > progress.steps:
                raise CodaxError(
                    f"run.steps={progress.steps}: the run in {self.output} is at step "
                    f"{progress.step} already"
                )
            if self.is_first:
                self._note_recipe()
            with RunLog(self.output / LOGS, progress.step, self.is_first) as log:
                run = _Run(self, state, checkpoints, log, progress)
                while progress.step < progress.steps and progress.stopped_by is None:
                    run.step(received)
                    tell(progress)
                    if received and jax.process_count() == 1:
                        progress.stopped_by = received[0]
                run.finish()
        if progress.stopped_by is None:
            self.export(run.state, MODEL)
            if self.is_first and run.state.discriminator is not None:
                path = self.output / DISCRIMINATOR
                save_discriminator(self.training, run.state.discriminator, path)
        return progress

    def export(self, state: TrainState, name: str) -> Path:
        """Write the model of a state into a folder of the output that `from_pretrained` loads."""
        folder = self.output / name
        if self.is_first:
            model = self._model(_do_init=False)
            # Of NumPy, so that what is computed here asks nothing of other processes.
            weights = merge_kernels(jax.tree.map(np.asarray, self.training.best_of(state)))
            model.save_pretrained(folder, params=weights)
            EXTRACTORS[self.config.model_type].from_config(self.config).save_pretrained(folder)
        return folder

    @property
    def is_first(self) -> bool:
        """Of the processes that train together; it writes what all have in common."""
        return jax.process_index() == 0

    def _open_batches(self, domains: Domains, workers: int | None) -> TrainingBatches:
        recipe = self.recipe.excerpts
        stream = ExcerptStream(
            domains,
            self._shape(recipe.duration_s),
            transforms=DAC_TRANSFORMS if recipe.transforms == "dac" else (),
            seed=self.recipe.run.seed,
            loudness_cutoff_db=LOUDNESS_CUTOFF_DB if recipe.loudest else None,
        )
        return TrainingBatches(
            stream,
            recipe.batch_size,
            workers=workers,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def _open_validation(self, domains: Domains | None) -> list[np.ndarray]:
        if domains is None or not self.recipe.run.validate_every:
            return []
        recipe = self.recipe.excerpts
        excerpts = validation_excerpts(
            domains,
            self._shape(recipe.validation_s),
            transforms=DAC_TRANSFORMS[:2] if recipe.transforms == "dac" else (),
            seed=self.recipe.run.seed,
            loudness_cutoff_db=LOUDNESS_CUTOFF_DB if recipe.loudest else None,
            most=recipe.validation_count,
        )
        return [excerpt.samples for excerpt in excerpts]

    def _shape(self, duration_s: float) -> ExcerptShape:
        return ExcerptShape(self.config.sampling_rate, self.config.audio_channels, duration_s)

    def _check_lengths(self) -> None:
        """Losses need spectra, which need more samples than half of their windows have."""
        shortest = max(2048 // 2 + 1, self.config.hop_length)
        for name in ("duration_s", "validation_s"):
            shape = self._shape(getattr(self.recipe.excerpts, name))
            rate = shape.sampling_rate
            if shape.num_samples < shortest:
                raise CodaxError(
                    f"excerpts.{name}={shape.duration_s} is {shape.num_samples} samples at "
                    f"{rate} Hz, allowed: from {shortest / rate:.4g} s"
                )

    @property
    def _asked(self) -> dict[str, Any]:
        """All that the numbers of a run depend on but its data."""
        return {**self.recipe.as_dict(), **asdict(self._initial)}

    def _note_recipe(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.output / RECIPE) as temporary:
            temporary.write_text(json.dumps(self._asked, indent=2) + "\n")

    def _begun(self, checkpoints: Checkpoints) -> tuple[TrainState, dict[str, float] | None]:
        """The state to go on from, on all devices, and the best measures so far."""
        newest = checkpoints.newest()
        if newest is None:
            return self._first_state(), None
        model = self._model(_do_init=False).params_shape_tree
        state = jax.eval_shape(self.training.initial_state, model)
        state, told = checkpoints.restored(newest, state, self._replicated)
        self._batches.set_state(told["batches"])
        return state, told["best"]

    def _first_state(self) -> TrainState:
        """Before the first step."""
        params = self._initial.load_params() or self._model(seed=self.recipe.run.seed).params
        state = self.training.initial_state(params, self._discriminator)
        state = jax.device_put(state, self._replicated)
        if self._initial.from_pretrained is None:
            begin = self._batches.get_state()
            count = self.training.batches_to_begin
            batches = [self._placed(next(self._batches)) for _ in range(count)]
            state = self._compiled(self._begun_with)(state, batches)
            self._batches.set_state(begin)
        return state

    def _begun_with(self, state: TrainState, batches: list[jax.Array]) -> TrainState:
        return self.training.begun(state, jnp.concatenate(batches))

    def _model(self, **options: Any) -> Any:
        return MODELS[self.config.model_type](self.config, **options)

    def _compiled(self, change: Callable[..., Any]) -> Callable[..., Any]:
        """A function of a state, which it takes away, and a batch; what it gives is everywhere."""
        return jax.jit(change, donate_argnums=0, out_shardings=self._replicated)

    @property
    def _replicated(self) -> NamedSharding:
        return NamedSharding(self._mesh, P())

    def _everywhere(self, samples: np.ndarray) -> jax.Array:
        """An array that all processes have alike -> the same on all devices."""
        return jax.make_array_from_process_local_data(self._replicated, samples)

    def _placed(self, samples: np.ndarray) -> jax.Array:
        """The rows of this process -> the batch of all, divided among the devices."""
        sharding = NamedSharding(self._mesh, P("batch"))
        return jax.make_array_from_process_local_data(sharding, samples)


class _Run:
    """What `Trainer.run` does step by step."""

    def __init__(
        self,
        trainer: Trainer,
        state: TrainState,
        checkpoints: Checkpoints,
        log: RunLog,
        progress: Progress,
    ):
        self.state = state
        self._trainer, self._recipe = trainer, trainer.recipe.run
        self._checkpoints, self._log, self._progress = checkpoints, log, progress
        self._step = trainer._compiled(_with_agreement(trainer.training.step))
        self._validate = jax.jit(trainer.training.validate, out_shardings=trainer._replicated)
        self._under_way: tuple[int, dict, jax.Array] | None = None
        self._batch = trainer._placed(next(trainer._batches))
        self._position = trainer._batches.get_state()

    def step(self, received: Sequence[int]) -> None:
        """One step; the losses of the one before are looked at while it is computed.

        received: signals of this process, which the others hear of by this step
        """
        number = received[0] if received else 0
        numbers = np.full(len(self._trainer._mesh.local_devices), number, np.int32)
        self.state, losses, agreed = self._step(
            self.state, self._batch, self._trainer._placed(numbers)
        )
        position = self._position
        self._progress.step += 1
        step = self._progress.step
        if step < self._progress.steps:
            self._batch = self._trainer._placed(next(self._trainer._batches))
            self._position = self._trainer._batches.get_state()
        self._look_at_losses()
        self._under_way = step, losses, agreed
        self._saved_position = position
        every = self._recipe.validate_every
        if _is_due(step, every) or (every and step == self._progress.steps):
            self._look_at_losses()
            self._validated(step)
        if _is_due(step, self._recipe.checkpoint_every):
            self._save()

    def finish(self) -> None:
        """Look at the last losses, and leave a checkpoint of the last step."""
        self._look_at_losses()
        if self._progress.step and self._checkpoints.newest() != self._progress.step:
            self._save()

    def _save(self) -> None:
        self._look_at_losses()
        told = {"batches": self._saved_position, "best": self._progress.best}
        self._checkpoints.save(self._progress.step, self.state, told)

    def _look_at_losses(self) -> None:
        """Wait for the losses that are under way, refuse bad ones, and write them down."""
        if self._under_way is None:
            return
        (step, losses, agreed), self._under_way = self._under_way, None
        values = {name: float(value) for name, value in jax.device_get(losses).items()}
        bad = [name for name, value in values.items() if not math.isfinite(value)]
        if bad:
            newest = self._checkpoints.newest()
            kept = "none" if newest is None else newest
            raise CodaxError(
                f"step {step}: {bad[0]} is {values[bad[0]]}; the last checkpoint: {kept}; a lower "
                "optimizer.learning_rate or optimizer.generator_clip may help"
            )
        self._progress.losses = values
        if jax.process_count() > 1 and int(agreed):
            self._progress.stopped_by = int(agreed)
        if step % self._recipe.log_every == 0 or step == self._progress.steps:
            self._log.write(step, "train", values)

    def _validated(self, step: int) -> None:
        trainer = self._trainer
        if not trainer._validation:
            return
        params = trainer.training.best_of(self.state)
        rows, heard = [], None
        for samples in trainer._validation:
            measures, audio = self._validate(params, trainer._everywhere(samples[None]))
            rows.append(jax.device_get(measures))
            if heard is None:
                heard = np.asarray(audio[0]), samples
        means = {name: _mean([row[name] for row in rows]) for name in rows[0]}
        self._progress.measures = means
        self._log.write(step, "validation", means)
        if _is_due(step, self._recipe.samples_every) and heard is not None:
            self._log.write_audio(step, trainer.config.sampling_rate, *heard)
        best = self._progress.best
        if math.isfinite(means[SELECTED_BY]) and (
            best is None or means[SELECTED_BY] < best[SELECTED_BY]
        ):
            self._progress.best = means
            trainer.export(self.state, BEST)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Signals that ask to stop are noted, a second one of them as it always is."""
    received: list[int] = []
    before = {}

    def note(number: int, _frame: Any) -> None:
        received.append(number)
        signal.signal(number, before[number])

    for number in SIGNALS:
        before[number] = signal.getsignal(number)
        try:
            signal.signal(number, note)
        except ValueError:  # not in the main thread, where signals do not arrive
            del before[number]
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _mean(values: Sequence[float]) -> float:
    """Without those that are not finite, as ratios to silence are."""
    finite = [float(value) for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else math.nan


def _with_agreement(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step in which all processes learn of a signal that reached one of them.

    It takes signals int32 [devices] too, 0 for none, and gives the largest. So all stop after the
    same step, the one in which they see it, without another exchange between them.
    """

    def agreeing(state, samples, signals):
        return *step(state, samples), jnp.max(signals)

    return agreeing


def _mesh(devices: Sequence[Any] | None, recipe: Recipe) -> Mesh:
    devices = jax.devices() if devices is None else devices
    parts = recipe.run.accumulate
    if recipe.excerpts.batch_size // parts % len(devices):
        raise CodaxError(
            f"excerpts.batch_size={recipe.excerpts.batch_size} must be a multiple of the "
            f"{len(devices)} devices" + (f" times run.accumulate={parts}" if parts > 1 else "")
        )
    return Mesh(np.array(devices), ("batch",))


def _require_same(path: Path, asked: dict[str, Any]) -> None:
    """But for how long the run is and what it leaves on its way, which may change."""
    if not path.exists():
        raise CodaxError(f"{path.parent}: holds checkpoints, but no {RECIPE}")
    try:
        there = json.loads(path.read_text())
    except ValueError as error:
        raise CodaxError(f"{path}: is no recipe of codax") from error
    if not isinstance(there, dict):
        raise CodaxError(f"{path}: is no recipe of codax")
    differing = [key for key in _differing(there, asked) if key not in MAY_CHANGE]
    if differing:
        raise CodaxError(
            f"{path.parent}: holds a run with another {', '.join(differing)}; go on with the same "
            "recipe, or give another --output"
        )


MAY_CHANGE = (
    "excerpts.validation_s",
    "excerpts.validation_count",
    "run.steps",
    "run.validate_every",
    "run.checkpoint_every",
    "run.checkpoints_kept",
    "run.samples_every",
    "run.log_every",
)


def _differing(there: Any, asked: Any, key: str = "") -> list[str]:
    if isinstance(there, dict) and isinstance(asked, dict):
        names = sorted({*there, *asked})
        prefix = f"{key}." if key else ""
        return [
            one
            for name in names
            for one in _differing(there.get(name), asked.get(name), prefix + name)
        ]
    return [] if there == asked else [key]


def _is_due(step: int, every: int) -> bool:
    return bool(every) and step % every == 0
