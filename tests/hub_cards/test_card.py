"""Cards: the Hub's rules for their metadata, what they tell, and what they leave out."""

import re
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from codax.configuration import preset_config
from codax.conversion import RELEASED, Agreement
from codax.errors import CodaxError
from codax.hub_cards import CardContent, Origin, Speed, model_card, released_origin
from codax.hub_cards.origins import known_licenses

# The Hub's specification of a card's metadata: hub-docs, modelcard.md.
FIELDS = {
    "base_model": (str, list),
    "base_model_relation": str,
    "datasets": (str, list),
    "library_name": str,
    "license": str,
    "license_link": str,
    "license_name": str,
    "metrics": list,
    "model-index": list,
    "pipeline_tag": str,
    "tags": list,
}
RELATIONS = {"adapter", "finetune", "merge", "quantized"}
REPO_ID = "owner/my-codec"
REPO_NAME = re.compile(r"[\w.-]+/[\w.-]+")

AGREEMENT = Agreement("transformers.DacModel", 86, 774, 773, 2.5e-6, 3.1e-7)
SPEED = Speed(10.0, 0.25, 0.5, "a device, 2 cores, jax 0.10.2")
RESULTS = [
    EvalResult(
        task_type="audio-to-audio",
        dataset_type="owner/clips",
        dataset_name="Clips",
        metric_type="si_sdr",
        metric_name="SI-SDR (dB)",
        metric_value=7.25,
        metric_config="6 kbps",
    ),
    EvalResult(
        task_type="audio-to-audio",
        dataset_type="owner/clips",
        dataset_name="Clips",
        metric_type="mel_distance",
        metric_value=0.5,
    ),
]


def content(preset="dac_44khz", **changes):
    released = CardContent(REPO_ID, preset_config(preset), released_origin(preset))
    return replace(released, **changes)


FINETUNED = content(origin=Origin("mit", base_model="descript/dac_44khz"))
NEW = content("encodec_24khz", origin=Origin("mit"))
CARDS = {
    **{preset: content(preset) for preset in RELEASED},
    "all measured": content(agreement=AGREEMENT, speed=SPEED, results=RESULTS, picture=True),
    "fine-tuned": FINETUNED,
    "new": NEW,
}


@pytest.fixture(params=CARDS)
def card(request):
    return model_card(CARDS[request.param])


def header(card):
    """The metadata as the Hub reads them."""
    _, text, body = str(card).split("---\n", 2)
    assert body.strip() == card.text.strip()
    return yaml.safe_load(text)


def test_metadata_follow_the_hubs_specification(card):
    fields = header(card)
    for name, value in fields.items():
        assert isinstance(value, FIELDS[name]), name
    assert fields["license"] in known_licenses()
    assert fields["library_name"] == "transformers"
    assert fields["pipeline_tag"] == "audio-to-audio"
    assert {"jax", "flax"} < set(fields["tags"])
    assert len(fields["tags"]) == len(set(fields["tags"]))
    assert "language" not in fields
    if "base_model" in fields:
        assert REPO_NAME.fullmatch(fields["base_model"])
    assert fields.get("base_model_relation", "finetune") in RELATIONS


def test_cards_are_read_back_by_huggingface_hub(card):
    again = ModelCard(str(card), ignore_metadata_errors=False)
    assert again.data.to_dict() == card.data.to_dict()


def test_results_are_the_model_index(card):
    fields = header(card)
    if "model-index" not in fields:
        assert "No quality metrics" in card.text
        return
    name, results = model_index_to_eval_results(fields["model-index"])
    assert name == "my-codec"
    assert results == RESULTS
    for entry in fields["model-index"][0]["results"]:
        assert {"type"} <= entry["task"].keys()
        assert {"type", "name"} <= entry["dataset"].keys()
        assert all({"type", "value"} <= metric.keys() for metric in entry["metrics"])
    assert "| Clips | 6 kbps | SI-SDR (dB) | 7.25 |" in card.text
    assert "| Clips |  | mel_distance | 0.5 |" in card.text


def test_released_weights_keep_their_licence_and_name_where_they_come_from():
    for preset, released in RELEASED.items():
        card = model_card(content(preset))
        noncommercial = preset == "encodec_32khz"
        assert card.data.license == ("cc-by-nc-4.0" if noncommercial else "mit")
        assert ("not for commercial use" in card.text) == noncommercial
        assert card.data.base_model == released.hub_id
        text = released_origin(preset).license_text
        owner = "Descript" if preset.startswith("dac") else "Meta Platforms, Inc."
        assert ("NonCommercial" if noncommercial else owner) in text


def test_a_fine_tuned_model_says_of_what():
    card = model_card(FINETUNED)
    assert card.data.base_model == "descript/dac_44khz"
    assert header(card)["base_model_relation"] == "finetune"
    assert "fine-tuned from those of [descript/dac_44khz]" in card.text


def test_a_new_model_claims_no_other():
    card = model_card(NEW)
    assert "base_model" not in header(card)
    assert "unchanged" not in card.text
    assert "## Agreement with the original" not in card.text
    assert "LICENSE](LICENSE)" not in card.text


def test_what_was_not_measured_is_not_told():
    card = model_card(content())
    for heading in ("## Agreement", "## Quality", "## Speed"):
        assert heading not in card.text
    assert "spectrograms.png" not in card.text
    assert "model-index" not in header(card)


def test_what_was_measured_is_told_with_its_figures():
    original = replace(AGREEMENT, reference="descript-audio-codec", codes_equal=774, max_margin=0)
    agreement = replace(AGREEMENT, original=original)
    text = model_card(content(agreement=agreement, speed=SPEED, picture=True)).text
    assert "| transformers.DacModel | 773 of 774 | 2.5e-06 | 3.1e-07 |" in text
    assert "| descript-audio-codec | 774 of 774 | 0.0e+00 | 3.1e-07 |" in text
    assert "on a device, 2 cores, jax 0.10.2: encoded in 0.25 s (40 times" in text
    assert "decoded in 0.5 s (20 times" in text
    assert "](spectrograms.png)" in text


BITRATES = {
    "dac_44khz": [
        "| `n_quantizers=1` | 1 | 0.8613 kbps |",
        "| `n_quantizers=9` | 9 | 7.752 kbps |",
    ],
    "encodec_24khz": ["| `bandwidth=1.5` | 2 | 1.5 kbps |", "| `bandwidth=24` | 32 | 24 kbps |"],
    "encodec_32khz": ["| `bandwidth=2.2` | 4 | 2.2 kbps |"],
    "encodec_48khz": ["| `bandwidth=3` | 2 | 3 kbps |", "| `bandwidth=24` | 16 | 24 kbps |"],
}


@pytest.mark.parametrize("preset", BITRATES)
def test_bitrates_are_those_of_the_codes(preset):
    text = model_card(content(preset)).text
    for row in BITRATES[preset]:
        assert row in text


def test_notes_are_part_of_the_card():
    notes = "## Training\n\nOn birds, for a week."
    assert notes in model_card(content(notes=f"\n{notes}\n")).text


def test_musicgens_codec_cites_musicgen():
    text = model_card(content("encodec_32khz")).text
    assert "arxiv.org/abs/2306.05284" in text
    assert "copet2023simple" in text
    assert "MusicGen" not in model_card(content("encodec_24khz")).text


def test_weights_without_a_hub_twin_name_where_they_come_from():
    card = model_card(content("dac_44khz_16kbps"))
    assert f"[dac_44khz_16kbps]({RELEASED['dac_44khz_16kbps'].url}), unchanged" in card.text


def test_an_own_licence_has_a_name_and_a_text():
    origin = Origin("other", "Do as you like.", "my-licence-1.0")
    fields = header(model_card(content(origin=origin)))
    assert (fields["license"], fields["license_name"]) == ("other", "my-licence-1.0")
    assert fields["license_link"] == "LICENSE"


BAD_ORIGINS = {
    "a licence that the Hub does not know": (("nonsense",), "nonsense"),
    "none": (("",), "licence ''"),
    "an own licence without a name": (("other", "text"), "takes a name"),
    "an own licence without its text": (("other", None, "mine"), "needs its text"),
    "a name for a known one": (("mit", "text", "mine"), "takes a name"),
}


@pytest.mark.parametrize("case", BAD_ORIGINS)
def test_licences_are_those_of_the_hub(case):
    arguments, reason = BAD_ORIGINS[case]
    with pytest.raises(CodaxError, match=reason):
        Origin(*arguments)


@pytest.mark.parametrize("base_model", ["", "not a repo", "http://x/y", "dac"])
def test_a_base_model_is_a_repository(base_model):
    with pytest.raises(CodaxError, match="repository"):
        Origin("mit", base_model=base_model)


def test_bars_in_names_do_not_break_the_table():
    result = replace(RESULTS[0], dataset_name="a|b")
    assert "| a&#124;b | 6 kbps |" in model_card(content(results=[result])).text
