"""What test_processes.py runs in processes of their own.

    python -m tests.corpus.in_processes map     MODEL DATASET   in one process, and finds caches
    python -m tests.corpus.in_processes spawn   MODEL DATASET   in two that are spawned
    python -m tests.corpus.in_processes fork    MODEL DATASET   in two forked where JAX is running

DATASET is a folder, as `save_to_disk` writes it; beside it lies DATASET.parquet. The last line of
stdout is JSON.
"""

import json
import os
import sys

import datasets
import jax
import multiprocess
from datasets.fingerprint import Hasher

from codax import AudioCodec
from codax.corpus import DecodeAudio, EncodeAudio, PrepareAudio


def in_one_process(model, folder):
    loaded = count_loads()
    stored = {
        "folder": datasets.load_from_disk(folder),
        "parquet": datasets.load_dataset("parquet", data_files=f"{folder}.parquet", split="train"),
    }
    encode = EncodeAudio(model, n_quantizers=2)
    decode = DecodeAudio(model, file_format="wav", column="back")
    fingerprints = [Hasher.hash(encode)]
    report = {"files": [], "codes": []}
    for dataset in stored.values():
        codes = dataset.map(encode, batched=True, batch_size=2)
        back = codes.map(decode, batched=True)
        report["files"] += [
            sorted(one["filename"] for one in made.cache_files) for made in (codes, back)
        ]
        report["codes"].append(codes["codes"][:])
        assert len(back["back"][0]["bytes"]) > 1000
    fingerprints += [Hasher.hash(encode), Hasher.hash(EncodeAudio(model, n_quantizers=2))]
    others = [Hasher.hash(PrepareAudio(model)), Hasher.hash(DecodeAudio(model))]
    torch = [name for name in ("torch", "torchcodec") if sys.modules.get(name) is not None]
    return {**report, "loads": len(loaded), "hashes": [fingerprints, others], "torch": torch}


def count_loads():
    """A list that grows by one for each model that is loaded."""
    loaded, load = [], AudioCodec.from_pretrained

    def counted(*args, **options):
        loaded.append(args)
        return load(*args, **options)

    AudioCodec.from_pretrained = counted
    return loaded


def in_spawned_processes(model, folder):
    """Each of which takes one device."""
    multiprocess.set_start_method("spawn")
    dataset, encode = datasets.load_from_disk(folder), EncodeAudio(model, n_quantizers=2)
    codes = dataset.map(encode, batched=True, num_proc=2, with_rank=True)["codes"][:]
    is_idle = not jax._src.xla_bridge.backends_are_initialized()
    devices = [devices_of(EncodeAudio(model).named.codec(rank)) for rank in (0, 1, 3, None)]
    named = EncodeAudio(model).named
    moved = [devices_of(named.codec(rank)) for rank in (0, 1, None, 0)]
    return {"codes": codes, "devices": devices, "moved": moved, "is_idle": is_idle}


def devices_of(codec):
    leaf = jax.tree.leaves(codec.model.params)[0]
    return sorted(device.id for device in leaf.devices())


def in_forked_processes(model, folder):
    """Through `datasets`, and as a data loader forks one that has loaded its model."""
    encode, dataset = EncodeAudio(model), datasets.load_from_disk(folder)
    encode.named.codec()
    report = {"map": None, "fork": None}
    try:
        dataset.map(encode, batched=True, num_proc=2)
    except RuntimeError as error:
        report["map"] = str(error)
    reading, writing = os.pipe()
    if not os.fork():
        try:
            encode(dataset[:1])
        except RuntimeError as error:
            os.write(writing, str(error).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as told:
        report["fork"] = told.read()
    return report


RUNS = {"map": in_one_process, "spawn": in_spawned_processes, "fork": in_forked_processes}


def main(how, model, folder):
    datasets.disable_progress_bars()
    print(json.dumps(RUNS[how](model, folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
