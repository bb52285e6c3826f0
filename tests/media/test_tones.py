"""The helpers that other tests judge recordings with have to be right themselves."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tones import has_tone, is_silent, is_tone, level, loudest, onset, silence, sine, stretches, tone_onset


def test_a_tone_is_told_from_another_from_silence_and_from_noise() -> None:
    noise = np.random.default_rng(1).normal(0, 4000, 8000).astype(np.int16)
    assert is_tone(sine(440, 0.5), 440)
    assert loudest(sine(440, 1)) == 440
    assert not is_tone(sine(440, 0.5), 1000)
    assert not has_tone(sine(440, 0.5), 1000)
    for other in (silence(0.5), noise):
        assert not is_tone(other, 440)
        assert not has_tone(other, 440)


def test_two_tones_are_both_heard_and_neither_is_alone() -> None:
    both = sine(440, 1) + sine(1000, 1)
    assert has_tone(both, 440)
    assert has_tone(both, 1000)
    assert not is_tone(both, 440)


def test_pieces_of_a_tone_join() -> None:
    assert np.array_equal(np.concatenate((sine(440, 0.1), sine(440, 0.1, start=800))), sine(440, 0.2))


def test_level_and_silence() -> None:
    assert level(sine(1000, 1, amplitude=1000)) == pytest.approx(707, abs=1)
    assert is_silent(silence(1))
    assert not is_silent(sine(440, 0.1, amplitude=100))


@pytest.mark.parametrize("start", [0, 777, 4000])
def test_edges_are_found_to_a_few_samples(start: int) -> None:
    sound = np.concatenate((silence(start / 8000), sine(440, 0.5), silence(0.3)))
    assert 0 <= onset(sound) - start <= 3
    ((first, last),) = stretches(sound)
    assert abs(first - start) <= 3
    assert abs(last - start - 4000) <= 3
    assert onset(silence(1)) == -1
    assert stretches(silence(1)) == []


@pytest.mark.parametrize("start", [1000, 3333])
def test_a_tones_start_is_found_under_another(start: int) -> None:
    sound = sine(440, 1)
    sound[start:] += sine(1000, 1)[start:]
    assert abs(tone_onset(sound, 1000) - start) <= 4
    assert tone_onset(sound, 2500) == -1
