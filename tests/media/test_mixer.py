from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recorder.media.mixer import HALF_SCALE, mix
from tests.tones import has_tone, sine

SAMPLES = arrays.arrays(np.int16, st.integers(1, 300))


def every_sum() -> tuple[np.ndarray, np.ndarray]:
    """Two voices whose sums are all there are, in order: -65536 … 65534."""
    sums = np.arange(-65536, 65535)
    a = sums // 2
    return a.astype(np.int16), (sums - a).astype(np.int16)


def test_the_sum_is_the_mix_up_to_half_scale() -> None:
    a, b = every_sum()
    sums = a.astype(int) + b
    below = np.abs(sums) <= HALF_SCALE
    assert np.array_equal(mix(a, b)[below], sums[below])


def test_the_mix_rises_everywhere_and_never_reaches_full_scale() -> None:
    mixed = mix(*every_sum()).astype(int)
    assert (np.diff(mixed) >= 0).all()
    assert np.abs(mixed).max() < 32767
    assert np.abs(mixed).max() > 32000


def test_the_knee_has_no_corner() -> None:
    slope = np.convolve(np.diff(mix(*every_sum()).astype(float)), np.ones(256) / 256, "valid")
    assert slope.min() >= 0
    assert slope.max() <= 1
    assert np.abs(np.diff(slope)).max() < 0.01


@settings(deadline=None)
@given(SAMPLES, st.data())
def test_the_mix_is_odd_and_does_not_care_who_is_who(a: np.ndarray, data: st.DataObject) -> None:
    b = data.draw(arrays.arrays(np.int16, len(a)))
    assert np.array_equal(mix(a, b), mix(b, a))
    negatable = (a > -32768) & (b > -32768)
    assert np.array_equal(mix(-a, -b)[negatable], -mix(a, b)[negatable])


@settings(deadline=None)
@given(SAMPLES, st.data())
def test_the_mix_never_wraps(a: np.ndarray, data: st.DataObject) -> None:
    b = data.draw(arrays.arrays(np.int16, len(a)))
    sums = a.astype(int) + b
    mixed = mix(a, b).astype(int)
    assert (np.sign(mixed) == np.sign(sums)).all()
    assert (np.abs(mixed) <= np.abs(sums)).all()


@settings(deadline=None)
@given(arrays.arrays(np.int16, st.integers(1, 300), elements=st.integers(-HALF_SCALE, HALF_SCALE)))
def test_a_voice_alone_passes_bit_for_bit(voice: np.ndarray) -> None:
    silent = np.zeros_like(voice)
    assert np.array_equal(mix(voice, silent), voice)
    assert np.array_equal(mix(silent, voice), voice)


def test_two_voices_are_both_heard() -> None:
    mixed = mix(sine(440, 1), sine(1000, 1))
    assert has_tone(mixed, 440, amplitude=7900)
    assert has_tone(mixed, 1000, amplitude=7900)


def test_the_voices_are_left_as_they_were() -> None:
    a, b = sine(440, 0.1), sine(1000, 0.1)
    mix(a, b)
    assert np.array_equal(a, sine(440, 0.1))
    assert np.array_equal(b, sine(1000, 0.1))


def test_voices_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot mix 1 samples with 2"):
        mix(np.zeros(1, np.int16), np.zeros(2, np.int16))
