"""Names off the wire: what passes is fit for a file name, and a file name is read back as it was written."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from hypothesis import strategies as st

from recorder.identifiers import RecordingName, is_valid_dialog_id, is_valid_name
from tests.fuzz.cases import fuzzed

near_names = st.one_of(
    st.text(max_size=80),
    st.text("ab0._-~/\\ \n\x00Aé٣", max_size=70),
    st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\n?"),
)
stems = st.one_of(
    st.text(max_size=80),
    st.lists(near_names, min_size=3, max_size=5).map("~".join),
    st.tuples(near_names, near_names, st.from_regex(r"[0-9٣]{1,17}\n?"), near_names).map("~".join),
)


@fuzzed(value=near_names)
def test_what_passes_is_a_plain_name_of_its_own_folder(value: str) -> None:
    for valid in (is_valid_name(value), is_valid_dialog_id(value)):
        if valid:
            assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", value)
            assert value[-1] != "\n"
            assert ".." not in value
            assert PurePosixPath(value).name == value
            assert not value.startswith(".")


@fuzzed(stem=stems)
def test_a_stem_is_read_back_to_the_letter_or_refused(stem: str) -> None:
    try:
        name = RecordingName.parse(stem)
    except ValueError:
        return
    assert name.stem == stem
    assert RecordingName.parse(name.stem) == name
    assert len(f"{stem}.wav.part".encode()) <= 255
