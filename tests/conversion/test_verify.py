"""The report of a conversion beside torch's models."""

import sys

import pytest

from codax.conversion import Agreement, convert_checkpoint, verify_against_torch
from codax.conversion.verify import MARGIN_TOLERANCE
from tests.reference import peers

pytest.importorskip("torch", reason="torch is not installed (from the extra `convert`)")


@pytest.fixture
def converted(original, tmp_path):
    return convert_checkpoint(original.save(), tmp_path / "model")


def test_conversion_agrees_with_transformers(converted):
    import torch

    threads = torch.get_num_threads()
    agreement = verify_against_torch(converted, seconds=0.25)
    assert agreement.holds
    assert agreement.reference == "transformers.DacModel"
    assert (agreement.frames, agreement.codes_total) == (50, 150)
    assert agreement.codes_equal == 150
    assert agreement.max_margin == 0
    assert 0 < agreement.max_audio_error < 1e-5
    assert agreement.original is None
    assert torch.get_num_threads() == threads


def test_conversion_agrees_with_the_original_package(converted, original):
    if reason := peers.missing_descript():
        pytest.skip(reason)
    peers.import_dac()
    agreement = verify_against_torch(converted, original=original.save(), seconds=0.25)
    assert agreement.holds
    assert agreement.original.holds
    assert agreement.original.reference == "descript-audio-codec"
    assert agreement.original.codes_equal == agreement.original.codes_total


def test_another_original_does_not_hold(converted, original):
    if reason := peers.missing_descript():
        pytest.skip(reason)
    peers.import_dac()
    original.state["quantizer.quantizers.0.codebook.weight"] *= -1
    agreement = verify_against_torch(converted, original=original.save(), seconds=0.25)
    assert not agreement.holds
    assert agreement.original.codes_equal < agreement.original.codes_total
    assert agreement.original.max_margin > 100 * MARGIN_TOLERANCE


def test_original_package_that_is_missing_is_told(converted, original, monkeypatch):
    told = []
    monkeypatch.setitem(sys.modules, "dac", None)
    monkeypatch.setattr("codax.conversion.verify.logger.warning", told.append)
    agreement = verify_against_torch(converted, original=original.save(), seconds=0.25)
    assert agreement.original is None
    assert "not compared with descript-audio-codec" in told[0]


def test_report_has_one_line_for_each_fact():
    agreement = Agreement("transformers.DacModel", 87, 783, 780, 2e-6, 3e-6)
    assert str(agreement).splitlines() == [
        "reference: transformers.DacModel",
        "frames: 87",
        "equal codes: 780 of 783",
        "largest margin between differing codes: 2.0e-06",
        "largest difference of decoded audio: 3.0e-06",
    ]


@pytest.mark.parametrize(
    ("margin", "audio", "holds"),
    [(0.0, 0.0, True), (1e-6, 1e-6, True), (0.1, 1e-6, False), (0.0, 1e-2, False)],
)
def test_conversion_holds_up_to_rounding(margin, audio, holds):
    agreement = Agreement("reference", 1, 1, 1, margin, audio)
    assert agreement.holds == holds
    assert Agreement("reference", 1, 1, 1, 0.0, 0.0, original=agreement).holds == holds
