"""The `codax` command, run in this process."""

import pytest

from codax.cli.main import main

from .running import Finished


@pytest.fixture
def codax(capsys, tmp_path, monkeypatch):
    """`codax("info", "song.dac")`, in an empty folder that is the current one -> `Finished`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as left:  # as argparse does
            status = left.code
        return Finished(status, *capsys.readouterr())

    return run


@pytest.fixture
def coding(codax, tiny_folder):
    """`coding("encode", ...)`: as `codax`, with the tiny DAC model for `--model`."""
    return lambda command, *rest: codax(command, "--model", tiny_folder, *rest)


@pytest.fixture
def mono(codax, encodec_mono_folder):
    """As `coding`, with the tiny EnCodec model of one channel."""
    return lambda command, *rest: codax(command, "--model", encodec_mono_folder, *rest)


@pytest.fixture
def stereo(codax, encodec_stereo_folder):
    """As `coding`, with the tiny EnCodec model of two channels."""
    return lambda command, *rest: codax(command, "--model", encodec_stereo_folder, *rest)
