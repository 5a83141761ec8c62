"""Sentences in many languages, of phrases in `phrases.toml` and of words that are invented."""

import tomllib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

INVENTED_SENTENCES = 0.2
"""Of a language that has phrases, the part of the sentences that have invented words alone."""

INVENTED_WHO = 0.15
"""Of the others, the part in which an invented name does what is done."""

LONGEST_NUMBER = 10**6


def draw_text(
    random: np.random.Generator, language: str, num_characters: int, *, numbers: bool
) -> str:
    """Draw sentences until they have so many characters.

    language: a name in `phrases.toml`, or another, whose words are invented, of Latin letters
    numbers: whether the reader knows what to make of digits
    """
    sentences = [_sentence(random, language, numbers)]
    while sum(map(len, sentences)) < num_characters:
        sentences.append(_sentence(random, language, numbers))
    return " ".join(sentences)


def invented_word(random: np.random.Generator, language: str) -> str:
    """One to four syllables, each a consonant and a vowel, the last sometimes with a final."""
    parts = [
        pick(random, _letters(language, kind))
        for _ in range(random.integers(1, 5))
        for kind in ("consonants", "vowels")
    ]
    finals = _letters(language, "finals")
    if finals and random.random() < 0.3:
        parts.append(pick(random, finals))
    return "".join(parts)


def pick(random: np.random.Generator, choices: Sequence) -> str:
    """One of them, each as likely."""
    return choices[int(random.integers(len(choices)))]


def _sentence(random: np.random.Generator, language: str, numbers: bool) -> str:
    if "who" not in _phrases().get(language, {}) or random.random() < INVENTED_SENTENCES:
        words = [invented_word(random, language) for _ in range(random.integers(3, 10))]
    else:
        words = _phrased(random, language)
    if numbers and random.random() < 0.2:
        number = str(int(np.exp(random.uniform(0, np.log(LONGEST_NUMBER)))))
        words.insert(int(random.integers(len(words) + 1)), number)
    if len(words) > 2 and random.random() < 0.5:
        place = int(random.integers(1, len(words)))
        words[place - 1] += ","
    sentence = " ".join(words)
    return sentence[0].upper() + sentence[1:] + pick(random, "...?!")


def _phrased(random: np.random.Generator, language: str) -> list[str]:
    order = _entry(language, "order").split()
    if random.random() < 0.3:
        order.remove("when")
    phrases = {part: pick(random, _phrases()[language][part]) for part in order}
    if random.random() < INVENTED_WHO:
        phrases["who"] = invented_word(random, language)
    return [phrases[part] for part in order]


@lru_cache
def _letters(language: str, kind: str) -> tuple[str, ...]:
    """Those of the language, where it has any of its own; a list that is empty has one, of none."""
    own = "consonants" in _phrases().get(language, {})
    if not own:
        return tuple(_phrases()["default"][kind].split())
    letters = tuple(_phrases()[language].get(kind, "").split())
    return letters if letters or kind == "finals" else ("",)


def _entry(language: str, key: str) -> str:
    return _phrases()[language].get(key, _phrases()["default"][key])


@lru_cache
def _phrases() -> dict[str, dict]:
    return tomllib.loads(Path(__file__).with_name("phrases.toml").read_text("utf-8"))
