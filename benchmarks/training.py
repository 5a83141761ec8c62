"""Time a step of DAC's training beside descript's torch code: one run, one machine, one batch.

    python benchmarks/training.py                          # 44.1 kHz, full size, a batch of 2
    python benchmarks/training.py --preset dac_16khz --batch 4 --repeats 5

Both compute the same: the recipe's losses, discriminators and optimizers, with random weights, in
float32. Each lives in a process of its own, and does some steps in turn, one after the other as in
training: the first of them, which gets back the memory that an idle process lost, does not count.
Medians do. Ratios are against codax: above 1, codax is faster.
"""

import argparse
import multiprocessing
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.compare import SETTLE_S, peak_memory_mb


def main() -> None:
    options = _parse()
    print(f"{platform.processor() or platform.machine()}, {multiprocessing.cpu_count()} cores")
    workers = {name: Worker(name, options.preset) for name in options.systems}
    batch = _batch(options)
    for name, worker in workers.items():
        print(f"{name:9} first step {worker.step(batch)[0]:.1f} s", flush=True)
    times: dict[str, list[float]] = {name: [] for name in workers}
    memory = dict.fromkeys(workers, 0.0)
    for _ in range(options.repeats):
        for name, worker in workers.items():
            time.sleep(SETTLE_S)
            worker.step(batch)
            for _ in range(options.steps):
                elapsed, peak = worker.step(batch)
                times[name].append(elapsed)
                memory[name] = max(memory[name], peak)
    base = statistics.median(times[options.systems[0]])
    for name, measured in times.items():
        median = statistics.median(measured)
        print(
            f"{name:9} {median:7.2f} s a step ({min(measured):.2f} to {max(measured):.2f}), "
            f"{1 / median:.3f} steps a second, {memory[name]:.0f} MB peak, {median / base:.2f} x "
            f"{options.systems[0]}'s time"
        )
        workers[name].stop()


def _batch(options: argparse.Namespace) -> np.ndarray:
    from codax.configuration import preset_config

    shape = options.batch, 1, round(options.seconds * preset_config(options.preset).sampling_rate)
    return (0.1 * np.random.default_rng(0).standard_normal(shape)).astype(np.float32)


def codax_step(preset: str) -> Any:
    """A function that does one step on a batch."""
    import jax

    from codax import FlaxDacModel
    from codax.training import load_recipe
    from codax.training.steps import Training

    recipe = load_recipe(preset)
    training = Training(recipe, recipe.model.config())
    state = training.initial_state(FlaxDacModel(training.config).params)
    compiled = jax.jit(training.step, donate_argnums=0)

    def step(batch: np.ndarray) -> None:
        nonlocal state
        state, losses = compiled(state, batch)
        jax.block_until_ready((state, losses))

    return step


def descript_step(preset: str) -> Any:
    """Likewise, of descript's modules and losses."""
    import torch

    from codax.configuration import preset_config
    from codax.training import load_recipe
    from tests.evaluation.references import audio_signal, descript_losses
    from tests.reference import peers

    dac, losses = peers.import_dac(), descript_losses()
    recipe, config = load_recipe(preset), preset_config(preset)
    rate, weights = config.sampling_rate, recipe.losses
    model = dac.DAC(
        encoder_rates=list(config.downsampling_ratios),
        decoder_rates=list(config.downsampling_ratios[::-1]),
        n_codebooks=config.n_codebooks,
        quantizer_dropout=recipe.quantizer.dropout,
        sample_rate=rate,
    ).train()
    discriminator = dac.model.Discriminator(sample_rate=rate)
    adversarial = losses.GANLoss(discriminator)
    mel = losses.MelSpectrogramLoss(
        n_mels=[5, 10, 20, 40, 80, 160, 320],
        window_lengths=[32, 64, 128, 256, 512, 1024, 2048],
        mel_fmin=[0.0] * 7,
        mel_fmax=[None] * 7,
        pow=1.0,
        mag_weight=0.0,
    )
    options = {"lr": recipe.optimizer.learning_rate, "betas": recipe.optimizer.betas}
    optimizers = [torch.optim.AdamW(one.parameters(), **options) for one in (discriminator, model)]
    clips = recipe.optimizer.discriminator_clip, recipe.optimizer.generator_clip

    def update(index: int, loss: Any, module: Any) -> None:
        optimizers[index].zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), clips[index])
        optimizers[index].step()

    def step(batch: np.ndarray) -> None:
        real = audio_signal(batch, rate)
        made = model(real.audio_data, rate)
        fake = audio_signal(made["audio"], rate)
        update(0, adversarial.discriminator_loss(fake, real), discriminator)
        scores, features = adversarial.generator_loss(fake, real)
        total = (
            weights["mel"] * mel(fake, real)
            + weights["adversarial"] * scores
            + weights["features"] * features
            + weights["commitment"] * made["vq/commitment_loss"]
            + weights["codebook"] * made["vq/codebook_loss"]
        )
        update(1, total, model)

    return step


SYSTEMS = {"codax": codax_step, "descript": descript_step}


class Worker:
    """One system in a process of its own."""

    def __init__(self, name: str, preset: str):
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, name, preset), daemon=True)
        self._process.start()
        self._pipe.recv()

    def step(self, batch: np.ndarray) -> tuple[float, float]:
        """(seconds, peak memory in MB) of one step."""
        self._pipe.send(batch)
        return self._pipe.recv()

    def stop(self) -> None:
        self._pipe.send(None)
        self._process.join()


def _serve(pipe: Any, name: str, preset: str) -> None:
    step = SYSTEMS[name](preset)
    pipe.send("ready")
    while (batch := pipe.recv()) is not None:
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        started = time.perf_counter()
        step(batch)
        pipe.send((time.perf_counter() - started, peak_memory_mb()))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="dac_44khz")
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    parser.add_argument("--seconds", type=float, default=0.38)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3, help="turns of each")
    parser.add_argument("--steps", type=int, default=3, help="that count in a turn")
    return parser.parse_args()


if __name__ == "__main__":
    main()
