"""What a configuration may say, and how a wrong one is told: every fault at once, with its place and a way out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticUndefined

from recorder.errors import SettingsError
from recorder.settings import LARGEST_FILE_BYTES, Listener, Media, Settings, Sip, Token, load, parse, warnings
from recorder.settings_schema import entry_of, section_of

EXAMPLE = Path(__file__).parents[1] / "config" / "recorder.yaml"
BASE = Path("/srv/recorder")
ROUTE = "routes: [{name: r, target: 'sip:127.0.0.1:5070'}]\n"


def read(text: str, **environment: str) -> Settings:
    return parse(text, BASE, "recorder.yaml", environment)


def problems_of(text: str, **environment: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(text, **environment)
    assert all(problem.isprintable() for problem in caught.value.problems)
    return caught.value.problems


def problem_of(text: str, **environment: str) -> str:
    problems = problems_of(text, **environment)
    assert len(problems) == 1, problems
    return problems[0]


# What is right --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "\n", "# nothing but a comment\n", "sip:\nroutes:\nlibrary:\nhttp:\n  tokens:\n"])
def test_what_is_left_empty_has_its_default(text: str) -> None:
    settings = read(text)
    assert settings == read("{}")
    assert settings.sip == Sip()
    assert (settings.routes, settings.http.tokens) == ((), ())


@pytest.mark.parametrize("written", ["5062", "'5062'", "05062"])
def test_a_number_is_what_it_looks_like_whether_quoted_or_with_leading_zeros(written: str) -> None:
    assert read(f"http: {{port: {written}}}").http.port == 5062


@pytest.mark.parametrize("written", ["0123", "1e3", "no", "2024-01-01", "12", "0x1F", "1.0"])
def test_text_stays_as_it_was_written_although_yaml_would_make_it_something_else(written: str) -> None:
    (account,) = read(f"accounts: [{{id: {written}, group: {written}}}]").accounts
    assert (account.id, account.group) == (written, written)


@pytest.mark.parametrize(
    ("written", "value"),
    [("true", True), ("yes", True), ("On", True), ("'true'", True), ("false", False), ("no", False), ("OFF", False)],
)
def test_a_switch_may_be_written_in_any_of_the_usual_ways(written: str, value: bool) -> None:
    assert read(f"accounts: [{{id: a, group: g, record: {written}}}]").accounts[0].record is value


def test_paths_are_relative_to_the_configuration_file(tmp_path: Path) -> None:
    file = tmp_path / "recorder.yaml"
    file.write_text("recording: {folder: calls}\nlibrary: {index: /var/index.sqlite}\n")
    settings = load(file, {})
    assert settings.recording.folder == tmp_path / "calls"
    assert settings.index_path == Path("/var/index.sqlite")
    assert load(file, {"RECORDER__LIBRARY__INDEX": "null"}).index_path == tmp_path / "calls" / "index.sqlite"


def test_a_path_may_begin_with_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/op")
    assert read("recording: {folder: ~/calls}").recording.folder == Path("/home/op/calls")
    assert "a home that is not known here" in problem_of("recording: {folder: ~nobody-here/calls}")


def test_anchors_and_merges_share_what_is_common() -> None:
    settings = read(
        "accounts:\n"
        "  - &common {id: a, group: g, record: true}\n"
        "  - {<<: *common, id: b}\n"
        "  - {<<: [{id: c, group: first}, *common]}\n"
    )
    assert [(account.id, account.group, account.record) for account in settings.accounts] == [
        ("a", "g", True),
        ("b", "g", True),
        ("c", "first", True),
    ]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    file = tmp_path / "recorder.yaml"
    file.write_bytes(b"\xef\xbb\xbfsip: {max_calls: 7}\n")
    assert load(file, {}).sip.max_calls == 7


def test_a_hash_in_capitals_is_the_same_token() -> None:
    (token,) = read(f"http: {{tokens: [{{name: a, sha256: {'AB' * 32}}}]}}").http.tokens
    assert token.sha256 == "ab" * 32
    assert "ab" not in repr(token)


# How a wrong one is told ----------------------------------------------------------------------------------------------


def test_every_fault_is_told_at_once_with_its_line_its_path_and_the_reason() -> None:
    text = """\
sip:
  max_calls: 5000
media:
  clock_rate_hz: 44100
  address: localhost
trunks:
  - name: carrier
    sources: [10.0.0.1/8]
  - name: carrier
    sources: [300.0.0.1]
routes:
  - name: r
    target: tel:112
    match: {called: "["}
accounts:
  - id: a
    record: perhaps
  - group: g
log: {level: loud}
"""
    assert problems_of(text) == [
        "line 2: sip.max_calls: must be 2000 or less, not '5000'",
        "line 4: media.clock_rate_hz: must be 8000 or 16000, not 44100",
        "line 5: media.address: must be an IP address such as 127.0.0.1, 0.0.0.0 or ::1, not 'localhost'",
        (
            "line 8: trunks.0.sources.0: 10.0.0.1/8 has bits set behind its mask; "
            "write 10.0.0.0/8 for the network, or an address without mask"
        ),
        (
            "line 10: trunks.1.sources.0: must be an IP address or network such as 192.0.2.10 or 10.0.0.0/8, not "
            "'300.0.0.1'"
        ),
        (
            "line 13: routes.0.target: must be a SIP URI such as sip:127.0.0.1:5070 or sip:{user}@ivr.example.com, not "
            "'tel:112'"
        ),
        "line 14: routes.0.match.called: is not a regular expression: unterminated character set at position 0",
        (
            "line 16: accounts.0.group: is missing and has no default: give the account's group, the first part of its "
            "recordings' file names"
        ),
        "line 17: accounts.0.record: must be true or false (yes, no, on and off do as well), not 'perhaps'",
        (
            "line 18: accounts.1.id: is missing and has no default: give the account's id, the second part of its "
            "recordings' file names"
        ),
        "line 19: log.level: must be 'debug', 'info', 'warning' or 'error', not 'loud'",
    ]


def test_a_bad_key_does_not_hide_contradictions_elsewhere() -> None:
    problems = problems_of(
        "log: {level: loud}\n"
        "accounts: [{id: a, group: g, match: {trunk: nowhere}}, {id: a, group: g}]\n"
        "media: {rtp_port_first: 30000, rtp_port_last: 30099}\n"
    )
    paths = [re.sub(r"^(line \d+: )?(\S+): .*", r"\2", problem) for problem in problems]
    assert sorted(paths) == ["accounts.0.match.trunk", "accounts.1.id", "log.level", "sip.max_calls"]


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("sip: {max_cals: 3}", "sip.max_cals: unknown key; did you mean max_calls?"),
        ("sip: {MAX-CALLS: 3}", "sip.MAX-CALLS: unknown key; did you mean max_calls?"),
        ("account: []", "account: unknown key; did you mean accounts?"),
        ("max_calls: 3", "max_calls: unknown key here; there is sip.max_calls"),
        ("media: {port: 3}", "media.port: unknown key here; there is sip.listen.0.port and http.port"),
        ("log: {x: 3}", "log.x: unknown key; known here: level, format"),
        (
            "routes: [{name: r, target: 'sip:a', prio: 1}]",
            "routes.0.prio: unknown key; known here: name, match, rewrite, target, targets, redirects",
        ),
        ("1: 2", "1: unknown key; known here: sip, media,"),
        ('"a\\nb": 2', "a\\nb: unknown key"),
    ],
)
def test_an_unknown_key_is_an_error_that_says_what_may_have_been_meant(text: str, advice: str) -> None:
    assert problem_of(text).startswith(f"line 1: {advice}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sip: {max_calls: yes}", "sip.max_calls: must be a whole number, not 'yes'"),
        ("sip: {max_calls: 1.5}", "sip.max_calls: must be a whole number, not '1.5'"),
        (f"sip: {{max_calls: {'9' * 5000}}}", f"sip.max_calls: must be a whole number, not '{'9' * 59}…"),
        ("sip: {max_calls: 0}", "sip.max_calls: must be 1 or more, not '0'"),
        ("sip: {max_calls: }", "sip.max_calls: is empty; give it a value, or remove it"),
        ("sip: {max_calls: [1]}", "sip.max_calls: must be a whole number"),
        ("sip: {ring_timeout_s: .nan}", "sip.ring_timeout_s: must be a number, not '.nan'"),
        ("sip: {ring_timeout_s: nan}", "sip.ring_timeout_s: must be a number, not 'nan'"),
        ("sip: {ring_timeout_s: inf}", "sip.ring_timeout_s: must be a number, not 'inf'"),
        ("sip: {ring_timeout_s: 0}", "sip.ring_timeout_s: must be more than 0, not '0'"),
        ("sip: {listen: []}", "sip.listen: needs at least one entry"),
        ("sip: {listen: {port: 5060}}", "sip.listen: must be a list: begin each entry with '- '"),
        ("sip: 5060", "sip: must be a section: keys with their values, one a line, indented below it, not '5060'"),
        ("sip: []", "sip: must be a section: keys with their values, one a line, indented below it"),
        ('sip: {user_agent: "a\\nb"}', r"sip.user_agent: must be 1 to 64 printable ASCII characters, not 'a\nb'"),
        ("accounts: [null]", "accounts.0: is empty; give it a value, or remove it"),
        ("accounts: [{id: a/b, group: g}]", "accounts.0.id: must be 1 to 64 letters"),
        ("accounts: [{id: [a], group: g}]", "accounts.0.id: must be text"),
        (
            "accounts: [{id: a, group: g, match: {called: 'a{99999999999}'}}]",
            "accounts.0.match.called: is not a regular",
        ),
        ("trunks: [{name: t, sources: []}]", "trunks.0: needs sources, client_certificates or digest"),
        ("trunks: [{name: t, sources: [x]}]", "trunks.0.sources.0: must be an IP address or network"),
        ("trunks: [{name: t, sources: [7]}]", "trunks.0.sources.0: must be an IP address or network"),
        (
            "trunks: [{name: t, sources: ['::1'], identity_headers: {group: 'A B'}}]",
            "trunks.0.identity_headers.group: must be a SIP header name",
        ),
        ("recording: {folder: ''}", "recording.folder: must be a path"),
        ('recording: {folder: "a\\0b"}', "recording.folder: must be a path"),
        ("media: {rtp_port_last: 20002}", "media: rtp_port_last must be at least rtp_port_first + 3"),
        ("http: {port: 70000}", "http.port: must be 65535 or less, not '70000'"),
    ],
)
def test_a_wrong_value_is_told_in_plain_words(text: str, reason: str) -> None:
    assert problem_of(text).startswith(f"line 1: {reason}")


@pytest.mark.parametrize(
    "target", ["sip:a", "sip:{user}@ivr.example.com:5070", "SIPS:x@[2001:db8::1]:5061;transport=tcp?X=1", "sip:my_app"]
)
def test_a_target_may_be_any_sip_uri(target: str) -> None:
    assert read(f"routes: [{{name: r, target: '{target}'}}]").routes[0].target == target


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("tel:112", "must be a SIP URI"),
        ("sip:", "must be a SIP URI"),
        ("sip:user@", "must be a SIP URI"),
        ("sip:a b", "must be a SIP URI"),
        ("sip:{user}", "must be a SIP URI"),  # a caller would choose where the call goes
        ("sip:a@{user}", "must be a SIP URI"),
        ('sip:a>"', "must be a SIP URI"),
        ("sip:h:0", "has port 0; ports go from 1 to 65535"),
        ("sip:h:65536", "has port 65536; ports go from 1 to 65535"),
        ("sip:{called}@h", "has {called}; the one placeholder is {user}, the called number"),
    ],
)
def test_a_target_that_no_call_could_be_sent_to_is_an_error(target: str, reason: str) -> None:
    assert problem_of(f"routes: [{{name: r, target: '{target}'}}]").startswith(f"line 1: routes.0.target: {reason}")


def test_a_token_in_the_place_of_its_hash_is_not_repeated() -> None:
    problem = problem_of("http: {tokens: [{name: a, sha256: my-secret-token}]}")
    assert problem.startswith("line 1: http.tokens.0.sha256: must be the SHA-256 of the token as 64 hex digits")
    assert "my-secret" not in problem


def test_an_account_without_a_group_is_told_what_the_group_is() -> None:
    assert problem_of("accounts:\n  - id: a\n    record: true\n") == (
        "line 2: accounts.0.group: is missing and has no default: "
        "give the account's group, the first part of its recordings' file names"
    )


# YAML -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sip:\n\tmax_calls: 1", "line 2, column 1: is not YAML: found character '\\t' that cannot start any token; "),
        ("sip: a: b", "line 1, column 7: is not YAML: mapping values are not allowed here; check the indentation"),
        ("sip: {", "line 1, column 7: is not YAML: "),
        (
            "a: 'x\n\nb: 1",
            "line 3, column 5: is not YAML: found unexpected end of stream (while scanning a quoted scalar",
        ),
        (
            "sip: @x",
            "line 1, column 6: is not YAML: found character '@' that cannot start any token; put the value in ",
        ),
        ("a: 1\n---\nb: 2", "line 2, column 1: is not YAML: but found another document"),
        ("log:\n  level: \0", "line 2, column 10: is not YAML: the character U+0000 is not allowed"),
        ("sip: *nowhere", "line 1, column 6: is not YAML: found undefined alias"),
        ("log: {level: !env LEVEL}", "line 1: the tag !env is not supported; give a plain value"),
        ("sip: &a {listen: [*a]}", "line 1: refers to itself"),
        ("? [a]\n: 1", "line 1: a key must be a word"),
        ("[" * 5000, "is nested too deeply"),
        ('a: "\\UFFFFFFFF"', "is not YAML: "),
        ('recording: {folder: "\\ud800"}', "line 1: holds half of a character pair"),
        ("- sip\n- http", "must be a mapping of sections such as sip:, routes: and accounts:"),
        ("just text", "must be a mapping of sections such as sip:, routes: and accounts:"),
    ],
)
def test_text_that_is_no_mapping_in_yaml_says_where_and_why(text: str, problem: str) -> None:
    assert problems_of(text)[0].startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sip: {}\nhttp: {}\nsip: {}\n", "line 3: sip: is there already in line 1; keep one of them"),
        ("sip:\n  max_calls: 1\n  max_calls: 2\n", "line 3: max_calls: is there already in line 2; keep one of them"),
        ("accounts:\n  - {id: a, group: g, id: b}\n", "line 2: id: is there already in line 2; keep one of them"),
    ],
)
def test_a_key_that_is_there_twice_is_an_error(text: str, problem: str) -> None:
    assert problem_of(text) == problem


# Files ----------------------------------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_read_is_told_by_its_name(tmp_path: Path) -> None:
    def problem(path: Path) -> str:
        with pytest.raises(SettingsError) as caught:
            load(path, {})
        assert str(caught.value).startswith(f"{path}: 1 error\n")
        return caught.value.problems[0]

    assert problem(tmp_path / "none.yaml").startswith("is not there; check the path")
    assert problem(tmp_path) == "is a folder, not a file"
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("sip: {}\n# Größe\n".encode("latin-1"))
    assert problem(latin) == "line 2: is not UTF-8 text (byte 0xf6); save it as UTF-8"
    huge = tmp_path / "huge.yaml"
    huge.write_bytes(b"#" * LARGEST_FILE_BYTES + b"\xff")
    assert problem(huge) == "cannot be read: larger than 4 MiB; is it the right file?"
    assert problem(Path("/dev/zero")) == "cannot be read: larger than 4 MiB; is it the right file?"


# What cannot be together ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "media: {rtp_port_first: 20000, rtp_port_last: 20999}",
            (
                "sip.max_calls: 500 calls take 2000 ports (4 a call: RTP and RTCP of two legs), but "
                "media.rtp_port_first 20000 to rtp_port_last 20999 are 1000, enough for 250 calls; "
                "widen that range, or lower this"
            ),
        ),
        (
            "sip: {listen: [{port: 5060}, {host: 0.0.0.0}]}",
            "line 1: sip.listen.1.port: udp 0.0.0.0 port 5060 is taken by sip.listen.0 already",
        ),
        (
            "sip: {listen: [{transport: tcp, port: 8080}]}",
            "http.port: port 8080 is taken by sip.listen.0 (tcp) already",
        ),
        (
            "sip: {listen: [{port: 20000}]}",
            "line 1: sip.listen.0.port: port 20000 is among the RTP ports, 20000 to 29999; move one",
        ),
        (
            "accounts: [{id: a, group: g, match: {trunk: x}}]\ntrunks: [{name: t, sources: [192.0.2.1]}]",
            "line 1: accounts.0.match.trunk: there is no trunk 'x'; trunks has t",
        ),
        (
            "trunks: [{name: t, sources: [192.0.2.1], srtp: optional, srtp_keying: [dtls]}]",
            "line 1: trunks.0.srtp_keying: no DTLS offer is answered in plain; with srtp: optional put sdes first",
        ),
        (
            "routes: [{name: a, target: 'sip:a'}, {name: a, target: 'sip:b'}]",
            "line 1: routes.1.name: 'a' is there twice, in routes.0 too; each entry needs its own",
        ),
        (
            f"http: {{tokens: [{{name: a, sha256: {'0' * 64}}}, {{name: b, sha256: {'0' * 64}}}]}}",
            "http.tokens.1.sha256: the same token is there twice, in http.tokens.0 too; each entry needs its own",
        ),
    ],
)
def test_keys_that_cannot_be_together_are_an_error(text: str, problem: str) -> None:
    found = problem_of(text)
    assert problem in (found, re.sub(r"^line \d+: ", "", found))


def test_as_many_calls_as_ports_allow_are_accepted_and_one_more_is_not() -> None:
    media = "media: {rtp_port_first: 20000, rtp_port_last: 20999}\n"
    assert read(media + "sip: {max_calls: 250}").sip.max_calls == 250
    assert "251 calls take 1004 ports" in problem_of(media + "sip: {max_calls: 251}")


@pytest.mark.parametrize(
    "listen",
    [
        "[{port: 5060}, {port: 5060, transport: tcp}]",
        "[{port: 0}, {port: 0}]",
        "[{host: 127.0.0.1}, {host: 127.0.0.2}]",
        "[{host: 0.0.0.0}, {host: '::'}]",
    ],
)
def test_listeners_that_can_be_together_are_accepted(listen: str) -> None:
    assert len(read(f"sip: {{listen: {listen}}}").sip.listen) == 2


def test_contradictions_hold_for_settings_made_in_python_as_well() -> None:
    with pytest.raises(ValidationError, match=r"sip\.max_calls: 500 calls take 2000 ports"):
        Settings(media=Media(rtp_port_first=20000, rtp_port_last=20100))


# What is surely not meant ---------------------------------------------------------------------------------------------


def test_the_defaults_warn_that_nothing_is_routed_and_nothing_recorded() -> None:
    assert warnings(read("")) == [
        "routes: there are none, so every call is answered 404; add one with the target to send calls on to",
        "accounts: none has record: true, so nothing is recorded; recording is off unless an account says so",
        "http.tokens: there are none, so nobody can search or listen (the API answers 401); `recorder token` makes one",
    ]


TOKENS = f"http: {{tokens: [{{name: a, sha256: {'0' * 64}}}]}}\n"
RECORDED = ROUTE + "accounts: [{id: a, group: g, record: true}]\n"


def test_a_complete_configuration_has_no_warnings() -> None:
    assert warnings(read(RECORDED + TOKENS)) == []


def test_an_address_for_others_without_tokens_is_warned_of() -> None:
    (warning,) = warnings(read(RECORDED + "http: {host: 0.0.0.0}"))
    assert warning.startswith("http.tokens: there are none, so nobody can search or listen")
    assert "0.0.0.0 is there for others to reach" in warning


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("sip: {listen: [{host: 192.0.2.1}]}", "trunks: there are none, so calls are taken from this machine only"),
        ("sip: {log_messages: true}", "sip.log_messages: whole SIP messages go to the log"),
        (
            "trunks: [{name: a, sources: [10.0.0.0/8]}, {name: b, sources: ['::1', 10.1.0.0/16]}]",
            "trunks.1.sources.1: 10.1.0.0/16 belongs to trunk a already, by its 10.0.0.0/8",
        ),
        ("recording: {block_ms: 500}", "recording.block_ms: up to 1020 ms of a call are not on the disk yet"),
        ("redaction: {guard_before_ms: 800}", "recording.block_ms: up to 1420 ms of a call are not on the disk yet"),
    ],
)
def test_what_is_surely_not_meant_is_warned_of(text: str, warning: str) -> None:
    (found,) = warnings(read(RECORDED + TOKENS + text))
    assert found.startswith(warning)


def test_rules_behind_one_that_takes_every_call_are_warned_of() -> None:
    general, special = "{name: all, target: 'sip:a'}", "{name: one, target: 'sip:b', match: {called: '1'}}"
    accounts = "accounts: [{id: a, group: g, record: true}, {id: b, group: g}]\n" + TOKENS
    found = warnings(read(f"routes: [{general}, {special}]\n{accounts}"))
    assert [warning.split(":")[0] for warning in found] == ["routes.0.match", "accounts.0.match"]
    # A trunk that names the account reaches every one of them.
    trunk = "trunks: [{name: t, sources: ['::1'], identity_headers: {account: X-Account}}]\n"
    assert warnings(read(f"routes: [{special}, {general}]\n{accounts}{trunk}")) == []


@pytest.mark.parametrize(
    ("target", "warned"),
    [
        ("sip:a;transport=tcp", "TCP"),
        ("sips:a", "TLS"),
        ("sip:a;transport=tls", "TLS"),
        ("sip:a;transport=udp", ""),
    ],
)
def test_a_target_without_a_transport_to_reach_it_is_warned_of(target: str, warned: str) -> None:
    found = warnings(read(TOKENS + RECORDED.replace("sip:127.0.0.1:5070", target)))
    assert bool(found) == bool(warned)
    assert all(f"asks for {warned}" in warning for warning in found)


# The environment ------------------------------------------------------------------------------------------------------


def test_the_environment_overrides_key_by_key() -> None:
    settings = read(
        "sip: {max_calls: 5, listen: [{port: 5061}, {port: 5062}]}\naccounts: [{id: a, group: g}]\n",
        RECORDER__SIP__MAX_CALLS="200",
        RECORDER__SIP__LISTEN__1__PORT="05070",
        RECORDER__ACCOUNTS__0__RECORD="yes",
        RECORDER__ACCOUNTS__0__GROUP="0123",
        RECORDER__HTTP="{host: 127.0.0.2}",
        UNRELATED="x",
    )
    assert settings.sip.max_calls == 200
    assert [listener.port for listener in settings.sip.listen] == [5061, 5070]
    assert (settings.accounts[0].record, settings.accounts[0].group) == (True, "0123")
    assert (settings.http.host, settings.http.port) == ("127.0.0.2", 8080)


def test_the_environment_can_make_entries_that_the_file_does_not_have() -> None:
    environment = {f"RECORDER__ACCOUNTS__{number}__ID": f"a{number}" for number in range(11)}
    environment |= {f"RECORDER__ACCOUNTS__{number}__GROUP": "g" for number in range(11)}
    settings = read("", RECORDER__SIP__LISTEN__0__PORT="5061", **environment)
    assert [account.id for account in settings.accounts] == [f"a{number}" for number in range(11)]
    assert settings.sip.listen[0].port == 5061


@pytest.mark.parametrize("value", ["[0-9]+", "^\\+30.*", "'[0-9]+'", "a: b"])
def test_a_single_value_from_the_environment_is_no_yaml(value: str) -> None:
    (route,) = read(ROUTE, RECORDER__ROUTES__0__MATCH__CALLED=value).routes
    assert route.match.called == value.strip("'")


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("SIP__MAX_CAL", "1", "sip.max_cal: unknown key; did you mean max_calls?"),
        ("SIPP__MAX_CALLS", "1", "sipp: unknown key; did you mean sip?"),
        ("SIP__MAX_CALLS", "many", "sip.max_calls: must be a whole number, not 'many'"),
        ("SIP__MAX_CALLS", "", "sip.max_calls: is empty; give it a value, or remove it"),
        ("SIP__MAX_CALLS", "9", None),
        ("SIP__MAX_CALLS", "1999", "sip.max_calls: 1999 calls take 7996 ports"),
        ("SIP__MAX_CALLS__X", "1", "sip.max_calls is a single value; it has no 'x' in it"),
        ("ROUTES", "[", "its value cannot be used: line 1, column 2: is not YAML"),
        ("ROUTES__X__NAME", "a", "routes is a list: give a position, 0 for the first entry, not 'x'"),
        ("ROUTES__-1__NAME", "a", "routes is a list: give a position, 0 for the first entry, not '-1'"),
        ("ROUTES__5__NAME", "a", "routes has 1 entries, so the next one is 1, not 5"),
        ("ROUTES__1__NAME", "a", "routes.1: needs target, the SIP URI that calls are sent on to, or targets"),
        ("ACCOUNTS__0__ID", "a", "accounts.0 is no section in the file"),
        ("", "a", "'': unknown key"),
        ("LOG__LEVEL", "\udcff", "its value is not UTF-8 text"),
    ],
)
def test_an_override_that_is_wrong_is_told_by_the_name_of_its_variable(
    variable: str, value: str, problem: str | None
) -> None:
    text = ROUTE + "media: {rtp_port_last: 21000}\nsip: {max_calls: 250}\n"
    if variable.startswith("ACCOUNTS"):
        text += "accounts: [scalar]\n"
    environment = {f"RECORDER__{variable}": value}
    if problem is None:
        assert read(text, **environment).sip.max_calls == 9
        return
    found = problems_of(text, **environment)
    assert found[0].startswith(f"environment variable RECORDER__{variable}: {problem}"), found


def test_two_variables_for_one_key_are_an_error() -> None:
    environment = {"RECORDER__LOG__LEVEL": "info", "RECORDER__LOG__Level": "debug"}
    assert "sets the same key as RECORDER__LOG__LEVEL" in problem_of("", **environment)


def test_an_override_in_one_place_leaves_what_an_alias_shares_alone() -> None:
    text = "accounts:\n  - {id: a, group: g, match: &m {called: '1'}}\n  - {id: b, group: g, match: *m}\n"
    settings = read(text, RECORDER__ACCOUNTS__0__MATCH__CALLED="2")
    assert [account.match.called for account in settings.accounts] == ["2", "1"]


# Whatever is thrown at it ---------------------------------------------------------------------------------------------


def keys_of(model: type[BaseModel]) -> Iterator[str]:
    for key, field in model.model_fields.items():
        yield key
        inner = section_of(field.annotation) or section_of(entry_of(field.annotation))
        if inner is not None:
            yield from keys_of(inner)


KEYS = st.one_of(st.sampled_from(sorted(set(keys_of(Settings)))), st.text(max_size=4))
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.dates(),
    st.sampled_from(
        ["127.0.0.1", "sip:a@b:1", "10.0.0.0/8", "~x/y", "[", "0" * 64, "tcp", "5060", "a{99999999999}", "("]
    ),
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=25,
)
NAMES = st.lists(st.one_of(KEYS, st.integers(-1, 3).map(str)), max_size=5).map(lambda parts: "__".join(parts).upper())


def only_settings_errors(text: str, environment: dict[str, str]) -> None:
    try:
        lines = warnings(parse(text, BASE, "recorder.yaml", environment))
    except SettingsError as error:
        lines = error.problems or [""]
    assert all(line and line.isprintable() for line in lines), lines


@given(TREES, st.dictionaries(NAMES, st.text(max_size=8), max_size=3))
@hypothesis_settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_tree_raises_anything_but_a_settings_error(tree: Any, overrides: dict[str, str]) -> None:
    environment = {f"RECORDER__{name}": value for name, value in overrides.items()}
    only_settings_errors(yaml.safe_dump(tree, allow_unicode=True), environment)


@given(st.text(st.sampled_from("sip:{}[]\n -&*!%@#'\"\\|>?,<~0aU\t\ud800é"), max_size=40))
@hypothesis_settings(max_examples=1000, deadline=None)
def test_no_text_raises_anything_but_a_settings_error(text: str) -> None:
    only_settings_errors(text, {})


# config/recorder.yaml -------------------------------------------------------------------------------------------------


def uncommented(text: str) -> str:
    """The example with each `#key` made a key; prose has a blank after its `#`."""
    return re.sub(r"^( *)#(?=\S)", r"\1", text, flags=re.MULTILINE)


def documented_keys(node: yaml.Node | None, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], int]]:
    """Every key under a node, by its path without positions, with its line counted from 0."""
    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            yield from documented_keys(entry, above)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*above, key.value), key.start_mark.line
            yield from documented_keys(value, (*above, key.value))


def expected_keys(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every key of the models in their order, with its field."""
    for key, field in model.model_fields.items():
        yield (*above, key), field
        inner = section_of(field.annotation) or section_of(entry_of(field.annotation))
        if inner is not None:
            yield from expected_keys(inner, (*above, key))


def comment_above(lines: list[str], line: int) -> str:
    """The prose above a line, joined."""
    start = line
    while start > 0 and re.match(r" *# ", lines[start - 1]):
        start -= 1
    return " ".join(text.strip().removeprefix("# ") for text in lines[start:line])


def plain(value: Any) -> Any:
    """A default as YAML gives it."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, tuple):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path | IPv4Network | IPv6Network) else value


def test_the_example_loads_as_it_is_and_records_nothing_until_asked() -> None:
    settings = load(EXAMPLE, {})
    assert settings.sip.listen == (Listener(transport="udp", host="127.0.0.1", port=5060),)
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 8080)
    assert [route.target for route in settings.routes] == ["sip:127.0.0.1:5070"]
    assert [account.record for account in settings.accounts] == [False]
    assert [warning.split(":")[0] for warning in warnings(settings)] == ["accounts", "http.tokens"]


def test_the_example_with_every_comment_taken_away_loads_too() -> None:
    settings = parse(uncommented(EXAMPLE.read_text()), BASE, "recorder.yaml", {})
    assert settings.trunks[0].identity_headers.dialog == "X-Dialog-Id"
    assert isinstance(settings.http.tokens[0], Token)


def test_the_example_has_every_key_in_the_order_of_the_models() -> None:
    root = yaml.compose(uncommented(EXAMPLE.read_text()), yaml.SafeLoader)
    assert [path for path, _ in documented_keys(root)] == [path for path, _ in expected_keys(Settings)]


def test_the_example_explains_every_key_and_names_its_true_default() -> None:
    text = EXAMPLE.read_text()
    lines = text.splitlines()
    fields = dict(expected_keys(Settings))
    checked = 0
    for path, line in documented_keys(yaml.compose(uncommented(text), yaml.SafeLoader)):
        comment, field = comment_above(lines, line), fields[path]
        assert len(comment) > 10, f"line {line + 1}: {path} has no comment"
        named = re.search(r"Default: (.+)\.$", comment)
        if field.is_required():
            assert comment.endswith("Required."), path
        elif section_of(field.annotation) is None:
            assert named, f"line {line + 1}: {path} does not name its default"
            stated = yaml.safe_load(named[1])
            default = field.get_default(call_default_factory=False)
            assert default is not PydanticUndefined
            assert (None if stated == "none" else stated) == plain(default), path
            checked += 1
    assert checked > 30
    given = yaml.safe_load(uncommented(text))
    assert given["media"] | {"address": None, "public_address": None} == plain(Media()), (
        "what is commented out shows the defaults"
    )
    assert given["log"] == plain(Settings().log)
    assert given["redaction"] | {"header": None, "info_package": None} == plain(Settings().redaction)
    no_keys = {"signing_key_file": None, "encryption": {"key_file": None, "key": None}}
    assert given["recording"] | no_keys == plain(Settings().recording)
