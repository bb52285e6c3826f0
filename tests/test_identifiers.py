"""What may become part of a file name, and that a name says the same when it is read back."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recorder.identifiers import RecordingName, is_valid_dialog_id, is_valid_name, new_dialog_id

NAMES = st.from_regex(r"[A-Za-z0-9](?:[A-Za-z0-9_-]|\.(?!\.)){0,63}", fullmatch=True)
DIALOG_IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", fullmatch=True)
TIMESTAMPS_MS = st.integers(0, 10**15 - 1)
LONGEST_FILE_NAME_BYTES = 255


@pytest.mark.parametrize("name", ["a", "0", "Acme_Bank-2.eu", "a" * 64, "a.b.c", "a-", "a."])
def test_a_plain_name_is_a_group_or_account_id(name: str) -> None:
    assert is_valid_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".a",
        "-a",
        "_a",
        "a..b",
        "a/b",
        "a\\b",
        "a~b",
        "a b",
        "a\n",
        "a\0",
        "a" * 65,
        "é",
        "²",
        "٣",
        "..",
        "%2e",
        "a:b",
    ],
)
def test_a_name_that_could_leave_its_folder_or_break_a_name_apart_is_refused(name: str) -> None:
    assert not is_valid_name(name)


@pytest.mark.parametrize("dialog_id", ["", "a.b", "a~b", "a@host", "-a", "a" * 65, "a\n", "٣"])
def test_a_dialog_id_is_stricter_still(dialog_id: str) -> None:
    assert not is_valid_dialog_id(dialog_id)


@given(st.text(max_size=70))
@example("con.wav")
def test_no_valid_identifier_is_more_than_one_plain_path_component(text: str) -> None:
    for valid in (is_valid_name, is_valid_dialog_id):
        if valid(text):
            assert text.isascii()
            assert text.isprintable()
            assert Path("/folder", text).parent == Path("/folder")
            assert not text.startswith(".")
            assert "~" not in text


def test_a_new_dialog_id_is_32_upper_case_hex_digits_and_unlike_the_last() -> None:
    made = {new_dialog_id() for _ in range(1000)}
    assert len(made) == 1000
    assert all(re.fullmatch(r"[0-9A-F]{32}", dialog_id) and is_valid_dialog_id(dialog_id) for dialog_id in made)


def test_the_file_name_is_group_account_time_and_dialog() -> None:
    name = RecordingName("bank", "cards.eu", 1732276800123, "0123456789ABCDEF0123456789ABCDEF")
    assert name.stem == "bank~cards.eu~1732276800123~0123456789ABCDEF0123456789ABCDEF"


@given(NAMES, NAMES, TIMESTAMPS_MS, DIALOG_IDS)
def test_a_name_read_back_is_the_same_and_fits_a_file_system(
    group_id: str, account_id: str, timestamp_ms: int, dialog_id: str
) -> None:
    name = RecordingName(group_id, account_id, timestamp_ms, dialog_id)
    assert RecordingName.parse(name.stem) == name
    assert len(name.stem + ".wav.part") <= LONGEST_FILE_NAME_BYTES


@given(st.text(st.sampled_from("aZ09~.-_/٣ "), max_size=20))
@example("a~b~0~c")
@example("a~b~007~c")  # two spellings of one number would be two files of one recording
@example("a~b~-1~c")
@example("a~b~1000000000000000~c")
@example("a~b~٣~c")
@example("a~b~1~c.d")
@example("a~b~1~c~d")
def test_whatever_is_read_as_a_name_writes_the_same_name(stem: str) -> None:
    try:
        name = RecordingName.parse(stem)
    except ValueError:
        return
    assert name.stem == stem


@pytest.mark.parametrize(
    "stem", ["", "a~b~c", "a~b~1~c~d", "a~b~x~c", "a~b~007~c", "~b~1~c", "../a~b~1~c", "a~b~1~c.wav"]
)
def test_a_file_name_that_is_not_ours_is_refused(stem: str) -> None:
    with pytest.raises(ValueError, match="name"):
        RecordingName.parse(stem)


@pytest.mark.parametrize(
    ("parts", "label"),
    [
        (("a~b", "a", 1, "d"), "group_id"),
        (("a", "..", 1, "d"), "account_id"),
        (("a", "a", -1, "d"), "dialog_timestamp_ms"),
        (("a", "a", 10**15, "d"), "dialog_timestamp_ms"),
        (("a", "a", 1, "d/e"), "dialog_id"),
    ],
)
def test_a_part_that_is_not_valid_is_named(parts: tuple[str, str, int, str], label: str) -> None:
    with pytest.raises(ValueError, match=f"^{label} "):
        RecordingName(*parts)
