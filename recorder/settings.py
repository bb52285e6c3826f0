"""Typed, validated configuration: one YAML file, overridden key by key from the environment.

`load` reports every fault at once, each with its line and the path of its key. An override is named after its path:
`RECORDER__SIP__MAX_CALLS=200` sets `sip.max_calls`, `RECORDER__ROUTES__0__TARGET` the target of the first route. The
value of a section or a list is read as YAML; any other is taken as it is (in quotes or not; `null` for none).
What two keys must not say together, and what is allowed but surely not meant, is in `recorder.settings_checks`.
"""

from __future__ import annotations

import os
import re
import warnings as python_warnings
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from recorder import header_names, settings_checks, settings_environment, settings_schema, yaml_source
from recorder.errors import SettingsError
from recorder.identifiers import is_valid_name
from recorder.settings_checks import warnings as warnings
from recorder.settings_encryption import Encryption
from recorder.settings_formats import Format
from recorder.settings_section import FilePath, number
from recorder.settings_section import Section as _Section

ENVIRONMENT_PREFIX = settings_environment.PREFIX
LARGEST_FILE_BYTES = 4 * 1024 * 1024

# RFC 3261, section 25.1: [user[:password]@] host [:port] [;parameters] [?headers]. Which characters a user or a
# parameter may hold is left to the stack; blanks, quotes and angle brackets would break out of the header it stands in.
# The host takes no placeholder: a caller would choose where calls go.
_SIP_URI = re.compile(
    r"sips?:(?:[^\s<>\"@]+@)?(?:\[[0-9a-f:.]+\]|[a-z0-9._-]*[a-z0-9])(?::(?P<port>[0-9]{1,9}))?"
    r"(?:;[^\s<>\"?]*)?(?:\?[^\s<>\"]*)?",
    re.ASCII | re.IGNORECASE,
)


MAX_LISTENERS = 8
"""What pjsua has room for."""
PRIVATE_NETWORKS = tuple(
    ip_network(network)
    for network in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""Addresses that never reach us through a NAT of ours (RFC 1918, RFC 3927, RFC 4193, RFC 4291)."""


def _name(value: str) -> str:
    if not is_valid_name(value):
        raise ValueError("must be 1 to 64 letters, digits, '.', '_' or '-', and start with a letter or digit")
    return value


def _pattern(value: str) -> str:
    try:
        with python_warnings.catch_warnings(action="ignore"):  # such as "possible nested set": legal, if odd
            re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    return value


def _header_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!%*_+`'~.-]{1,64}", value):
        raise ValueError("must be a SIP header name such as X-Group-Id (RFC 3261, section 25.1)")
    return value


def _control_header(value: str) -> str:
    if value.lower() in header_names.OURS:
        raise ValueError(f"{value} has a meaning of its own in SIP; take a name such as X-Recording")
    return value


def _info_package(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!%_+`'~.-]{1,64}", value):
        raise ValueError("must be the name of an Info Package such as x-recording (RFC 6086, section 9)")
    return value


def _passed_header(value: str) -> str:
    if not header_names.is_pattern(value):
        raise ValueError("must be a SIP header name such as User-to-User, or the beginning of names such as X-*")
    ours = header_names.covered(value)
    if ours is not None:
        raise ValueError(f"would pass {ours}, which is the recorder's own on each leg; leave it out")
    return value


def _sip_uri(value: str) -> str:
    shape = _SIP_URI.fullmatch(value)
    if shape is None:
        raise ValueError("must be a SIP URI such as sip:127.0.0.1:5070 or sip:{user}@ivr.example.com")
    if shape["port"] and not 1 <= int(shape["port"]) <= 65535:
        raise ValueError(f"has port {shape['port']}; ports go from 1 to 65535")
    unknown = set(re.findall(r"\{(.*?)\}", value)) - {"user"}
    if unknown:
        raise ValueError(f"has {{{min(unknown)}}}; the one placeholder is {{user}}, the called number")
    return value


def _digits(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9+*#_.-]{0,64}", value):
        raise ValueError("must be the beginning of a number: at most 64 letters, digits and + * # _ . -")
    return value


def _replacement(value: str) -> str:
    if not re.fullmatch(r"(?:[A-Za-z0-9+*#_.-]|\\[1-9]){0,64}", value):
        raise ValueError("must be letters, digits, + * # _ . - and \\1 to \\9 for the groups of pattern")
    return value


def _nameserver(value: str) -> str:
    try:
        nameserver(value)
    except ValueError:
        raise ValueError("must be an IP address, with a port if not 53, such as 192.0.2.53 or 127.0.0.1:5353") from None
    return value


def nameserver(value: str) -> tuple[str, int]:
    """Read `address`, `address:port` or `[address]:port`. Raises ValueError."""
    with_port = re.fullmatch(r"([0-9.]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})", value)
    host, port = (with_port[1].strip("[]"), int(with_port[2])) if with_port else (value, 53)
    if not 1 <= port <= 65535:
        raise ValueError(f"port {port}")
    return str(ip_address(host)), port


def _address(value: str) -> str:
    try:
        ip_address(value)
    except ValueError:
        raise ValueError("must be an IP address such as 127.0.0.1, 0.0.0.0 or ::1") from None
    return value


def _network(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return ip_network(value)
    except ValueError:
        pass
    try:
        meant = ip_network(value, strict=False)
    except ValueError:
        raise ValueError("must be an IP address or network such as 192.0.2.10 or 10.0.0.0/8") from None
    raise ValueError(f"{value} has bits set behind its mask; write {meant} for the network, or an address without mask")


def _printable(value: str) -> str:
    if not re.fullmatch(r"[ -~]{1,64}", value):
        raise ValueError("must be 1 to 64 printable ASCII characters")
    return value


def _each_once(value: tuple[str, ...]) -> tuple[str, ...]:
    if twice := next((one for one in value if value.count(one) > 1), None):
        raise ValueError(f"has {twice} twice")
    return value


def _sip_user(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._!~*'()&=+$,;?/%-]{1,64}", value):
        raise ValueError("must be the user part of a SIP URI, such as 302105550100 (RFC 3261, section 25.1)")
    return value


def _realm(value: str) -> str:
    if not re.fullmatch(r"[ !#-\[\]-~]{1,64}", value):
        raise ValueError('must be 1 to 64 printable ASCII characters, without " and \\')
    return value


def _host_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", value):
        raise ValueError(
            "must be a name as it stands in the certificate, such as sbc.example.com; it takes no wildcard"
        )
    return value


def _sha256(value: str) -> str:
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", value, re.ASCII):
        raise ValueError("must be the SHA-256 of the token as 64 hex digits; `recorder token` makes both")
    return value.lower()


Name = Annotated[str, AfterValidator(_name)]
Pattern = Annotated[str, AfterValidator(_pattern)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
Nameserver = Annotated[str, AfterValidator(_nameserver)]
Digits = Annotated[str, AfterValidator(_digits)]
PassedHeader = Annotated[str, AfterValidator(_passed_header)]
SipUri = Annotated[str, AfterValidator(_sip_uri)]
Address = Annotated[str, AfterValidator(_address)]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)]
Codec = Literal["PCMU", "PCMA", "G722", "opus", "G729", "GSM"]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=86400)]

PASSED_HEADERS = (
    "P-Asserted-Identity",
    "Privacy",
    "Diversion",
    "History-Info",
    "User-to-User",
    "Reason",
    "Recv-Info",
    "X-*",
)


class Listener(_Section):
    transport: Literal["udp", "tcp", "tls"] = "udp"
    host: Address = "127.0.0.1"
    port: Port = 5060
    public_address: Address | None = None
    public_port: Annotated[int, Field(ge=1, le=65535)] | None = None


class Tls(_Section):
    """Files in PEM; `recorder.tls_files` looks into them."""

    certificate: FilePath | None = None
    private_key: FilePath | None = None
    private_key_password: Annotated[str | None, Field(repr=False)] = None
    ca: FilePath | None = None
    verify_client: bool = False
    verify_server: bool = True


class Ringback(_Section):
    """The tone that the party that stays in a transfer hears while the new one rings (ITU-T E.180)."""

    enabled: bool = True
    hertz: Annotated[tuple[Annotated[int, Field(ge=1, le=3400)], ...], Field(min_length=1, max_length=2)] = (425,)
    cadence_ms: Annotated[tuple[Annotated[int, Field(ge=1, le=30000)], ...], Field(min_length=2, max_length=16)] = (
        1000,
        4000,
    )

    @model_validator(mode="after")
    def _in_pairs(self) -> Ringback:
        if len(self.cadence_ms) % 2:
            raise ValueError("cadence_ms must hold pairs: how long it sounds, how long it does not, and so on")
        return self


class Sip(_Section):
    listen: Annotated[tuple[Listener, ...], Field(min_length=1, max_length=MAX_LISTENERS)] = (Listener(),)
    tls: Tls = Tls()
    local_networks: tuple[Network, ...] = PRIVATE_NETWORKS
    strangers: Literal["reject", "drop"] = "reject"
    user_agent: Annotated[str, AfterValidator(_printable)] = "recorder"
    setup_timeout_s: Seconds = 10
    ring_timeout_s: Seconds = 60
    max_call_s: Seconds | None = None
    transfer_ringback: Ringback = Ringback()
    session_timers: Literal["off", "supported", "required"] = "supported"
    session_expires_s: Annotated[int, Field(ge=90, le=86400)] = 1800
    nameservers: tuple[Nameserver, ...] = ()
    options_interval_s: Annotated[float, Field(ge=1, le=3600)] | None = None
    max_calls: Annotated[int, Field(ge=1, le=2000)] = 500
    drain_timeout_s: Annotated[float, Field(ge=0, le=86400)] = 30
    pass_headers: tuple[PassedHeader, ...] = PASSED_HEADERS
    identity_hosts: Literal["ours", "target", "keep"] = "ours"
    log_messages: bool = False


class Media(_Section):
    rtp_port_first: Annotated[int, Field(ge=1024, le=65534)] = 20000
    rtp_port_last: Annotated[int, Field(ge=1025, le=65535)] = 29999
    address: Address | None = None
    public_address: Address | None = None
    codecs: Annotated[tuple[Codec, ...], Field(min_length=1), AfterValidator(_each_once)] = get_args(Codec)
    transcoding: bool = True
    rtp_timeout_s: Seconds | None = 60
    rtp_timeout_action: Literal["alarm", "end"] = "alarm"
    clock_rate_hz: Annotated[Literal[8000, 16000], BeforeValidator(number)] = 8000
    bridge_threads: Annotated[int, Field(ge=1, le=16)] = 1
    ring_s: Annotated[float, Field(ge=1, le=60)] = 8

    @model_validator(mode="after")
    def _room_for_a_call(self) -> Media:
        if self.rtp_port_last - self.rtp_port_first < 3:
            raise ValueError("rtp_port_last must be at least rtp_port_first + 3: one call takes four ports")
        return self


class IdentityHeaders(_Section):
    """Names of the headers of the incoming INVITE that carry our identifiers, where a trunk sends them."""

    group: HeaderName | None = None
    account: HeaderName | None = None
    dialog: HeaderName | None = None


class Credentials(_Section):
    """What we answer a 401 or 407 of the trunk with (RFC 3261, section 22)."""

    username: Annotated[str, AfterValidator(_printable), Field(description="the user name that the trunk gave you")]
    password: Annotated[str | None, Field(repr=False)] = None
    password_file: FilePath | None = None
    realm: Annotated[str, AfterValidator(_printable)] = "*"

    @model_validator(mode="after")
    def _some_password(self) -> Credentials:
        if self.password is None and self.password_file is None:
            raise ValueError("needs password or password_file")
        return self


class Digest(_Section):
    """What the trunk's requests must prove to know (RFC 3261, section 22; RFC 8760)."""

    username: Annotated[str, AfterValidator(_printable), Field(description="the user name that the trunk is to use")]
    password: Annotated[str | None, Field(repr=False)] = None
    password_file: FilePath | None = None
    realm: Annotated[str, AfterValidator(_realm)] = "recorder"
    algorithms: Annotated[tuple[Literal["md5", "sha-256"], ...], Field(min_length=1)] = ("md5",)

    @model_validator(mode="after")
    def _some_password(self) -> Digest:
        if not self.password and self.password_file is None:
            raise ValueError("needs password or password_file")
        return self


class Registration(_Section):
    """A REGISTER that is kept alive (RFC 3261, section 10)."""

    registrar: Annotated[SipUri, Field(description="where to register, such as sip:registrar.example.com")]
    user: Annotated[str, AfterValidator(_sip_user), Field(description="the user part to be registered")]
    expires_s: Annotated[int, Field(ge=30, le=86400)] = 300
    retry_s: Annotated[int, Field(ge=1, le=3600)] = 30


class Trunk(_Section):
    name: Annotated[Name, Field(description="a name for logs and for match.trunk")]
    sources: tuple[Network, ...] = ()
    client_certificates: tuple[Annotated[str, AfterValidator(_host_name)], ...] = ()
    digest: Digest | None = None
    behind_nat: bool = False
    srtp: Literal["off", "optional", "required"] = "off"
    srtp_keying: Annotated[tuple[Literal["sdes", "dtls"], ...], Field(min_length=1)] = ("sdes",)
    credentials: Credentials | None = None
    registration: Registration | None = None
    proxy: SipUri | None = None
    identity_headers: IdentityHeaders = IdentityHeaders()
    max_calls: Annotated[int, Field(ge=1, le=2000)] | None = None
    calls_per_second: Annotated[float, Field(gt=0, le=10000)] | None = None
    calls_burst: Annotated[int, Field(ge=1, le=10000)] | None = None
    pass_headers: tuple[PassedHeader, ...] | None = None
    transfer: Literal["deny", "allow"] = "deny"

    @model_validator(mode="after")
    def _known_by_something(self) -> Trunk:
        if not self.sources and not self.client_certificates and self.digest is None:
            raise ValueError("needs sources, client_certificates or digest: what its calls are known by")
        return self


class Match(_Section):
    """What a rule asks of a call; a key that is not given matches every call. Numbers are matched as a whole."""

    trunk: Name | None = None
    called: Pattern | None = None
    calling: Pattern | None = None
    called_prefix: Digits | None = None
    calling_prefix: Digits | None = None


class NumberRewrite(_Section):
    """What becomes of a number: `pattern` first, then `strip`, then `prefix`."""

    pattern: Pattern | None = None
    replacement: Annotated[str, AfterValidator(_replacement)] = ""
    strip: Annotated[int, Field(ge=0, le=64)] = 0
    prefix: Digits = ""

    @model_validator(mode="after")
    def _groups_are_there(self) -> NumberRewrite:
        if self.pattern is not None:
            groups = re.compile(self.pattern).groups
            beyond = [number for number in re.findall(r"\\([1-9])", self.replacement) if int(number) > groups]
            if beyond:
                raise ValueError(f"replacement has \\{beyond[0]}, but pattern has {groups} groups")
        elif self.replacement:
            raise ValueError("replacement needs a pattern; for digits to be put first, use prefix")
        return self


class Rewrite(_Section):
    called: NumberRewrite = NumberRewrite()
    calling: NumberRewrite = NumberRewrite()


class Target(_Section):
    uri: Annotated[SipUri, Field(description="the SIP URI that calls are sent on to, such as sip:127.0.0.1:5070")]
    priority: Annotated[int, Field(ge=0, le=65535)] = 0
    weight: Annotated[int, Field(ge=0, le=65535)] = 1
    trunk: Name | None = None
    setup_timeout_s: Seconds | None = None
    options_interval_s: Annotated[float, Field(ge=1, le=3600)] | None = None


class Route(_Section):
    name: Annotated[Name, Field(description="a name for messages about this route")]
    match: Match = Match()
    rewrite: Rewrite = Rewrite()
    target: SipUri | None = None
    targets: tuple[Target, ...] = ()
    redirects: Literal["return", "follow"] = "return"

    @model_validator(mode="after")
    def _leads_somewhere(self) -> Route:
        if not self.all_targets:
            raise ValueError("needs target, the SIP URI that calls are sent on to, or targets with several of them")
        return self

    @property
    def all_targets(self) -> tuple[Target, ...]:
        """`targets`, after what the short form `target` stands for."""
        return (*((Target(uri=self.target),) if self.target is not None else ()), *self.targets)


class AccountRedaction(_Section):
    """What a sensitive step leaves in an account's recordings; a guard that is not given is the general one."""

    mode: Literal["mute", "pause", "tone"] = "mute"
    guard_before_ms: Annotated[int, Field(ge=0, le=5000)] | None = None
    guard_after_ms: Annotated[int, Field(ge=0, le=80)] | None = None


class Account(_Section):
    id: Annotated[Name, Field(description="the account's id, the second part of its recordings' file names")]
    group: Annotated[Name, Field(description="the account's group, the first part of its recordings' file names")]
    record: bool = False
    match: Match = Match()
    format: Format = Format()
    redaction: AccountRedaction = AccountRedaction()
    dtmf: Literal["keep", "remove"] = "keep"


class Recording(_Section):
    folder: FilePath = Path("recordings")
    block_ms: Annotated[int, Field(ge=20, le=1000)] = 400
    queue_mb: Annotated[int, Field(ge=1, le=65536)] = 256
    sync_s: Annotated[float, Field(ge=0.1, le=3600)] | None = 5
    disk_floor_mb: Annotated[int, Field(ge=0)] = 512
    when_disk_full: Literal["connect", "refuse"] = "connect"
    signing_key_file: FilePath | None = None
    encryption: Encryption = Encryption()


class ControlHeader(_Section):
    """A header of INFO requests that controls the recording; the patterns stand for the whole value."""

    name: Annotated[HeaderName, AfterValidator(_control_header), Field(description="the header's name")]
    mute: Annotated[Pattern, Field(description="a regular expression for the values that begin a sensitive step")]
    unmute: Annotated[Pattern, Field(description="a regular expression for the values that end a sensitive step")]


class Redaction(_Section):
    guard_before_ms: Annotated[int, Field(ge=0, le=5000)] = 300
    guard_after_ms: Annotated[int, Field(ge=0, le=80)] = 60
    header: ControlHeader | None = None
    info_package: Annotated[str, AfterValidator(_info_package)] | None = None
    sdp: bool = True


class Library(_Section):
    index: FilePath | None = None


class Token(_Section):
    name: Annotated[Name, Field(description="who holds it, for the audit log")]
    role: Literal["viewer", "developer", "maintainer", "owner"] = "viewer"
    may: Annotated[tuple[Literal["control"], ...], AfterValidator(_each_once)] = ()
    sha256: Annotated[
        str, AfterValidator(_sha256), Field(repr=False, description="its SHA-256, which `recorder token` prints")
    ]


class Http(_Section):
    host: Address = "127.0.0.1"
    port: Port = 8080
    tokens: tuple[Token, ...] = ()


class Log(_Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class Settings(_Section):
    """The whole configuration. Immutable; paths are absolute once `load` has returned it."""

    sip: Sip = Sip()
    media: Media = Media()
    trunks: tuple[Trunk, ...] = ()
    routes: tuple[Route, ...] = ()
    accounts: tuple[Account, ...] = ()
    recording: Recording = Recording()
    redaction: Redaction = Redaction()
    library: Library = Library()
    http: Http = Http()
    log: Log = Log()

    @model_validator(mode="after")
    def _no_contradictions(self, info: ValidationInfo) -> Settings:
        broken: frozenset[str] = (info.context or {}).get("broken", frozenset())
        if faults := settings_checks.contradictions(self, broken):
            raise settings_schema.ContradictionError(faults)
        return self

    @property
    def index_path(self) -> Path:
        """Where the SQLite index is; in the recordings' folder unless `library.index` says otherwise."""
        return self.library.index or self.recording.folder / "index.sqlite"


def load(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check the configuration file at `path`, with overrides from `environment` (default: the process's).

    Relative paths in it are relative to the file's folder. Raises SettingsError that lists every fault found.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE_BYTES + 1)
        if len(content) > LARGEST_FILE_BYTES:
            raise ValueError(f"larger than {LARGEST_FILE_BYTES // 1024**2} MiB; is it the right file?")
        text = content.decode("utf-8-sig")
        base = path.resolve().parent
    except (OSError, ValueError) as error:
        raise SettingsError([_unreadable(error)], str(path)) from None
    return parse(text, base=base, source=str(path), environment=environment)


def parse(text: str, base: Path, source: str, environment: Mapping[str, str] | None = None) -> Settings:
    """Check the configuration given as YAML text; `base` is the folder that relative paths start from."""
    document = yaml_source.read(text)
    tree = {} if document.root is None and not document.problems else document.tree
    if not isinstance(tree, dict):
        shape = "must be a mapping of sections such as sip:, routes: and accounts:"
        raise SettingsError(document.problems or [shape], source)
    overrides = settings_environment.apply(tree, Settings, os.environ if environment is None else environment)
    settings, faults = _validated(overrides.tree)
    if settings is not None:
        settings, faults = _with_absolute_paths(settings, base)
    problems = document.problems + overrides.problems
    for line, (fault_path, text) in sorted(
        ((document.line_of(fault[0]) or 0, fault) for fault in faults), key=lambda placed: placed[0]
    ):
        variable = overrides.origin_of(fault_path)
        place = f"environment variable {variable}: " if variable else f"line {line}: " if line else ""
        problems.append(f"{place}{settings_schema.dotted(fault_path)}: {text}")
    if settings is None or problems:
        raise SettingsError(problems, source)
    return settings


def _validated(tree: dict[str, Any]) -> tuple[Settings | None, list[settings_schema.Fault]]:
    try:
        return Settings.model_validate(tree), []
    except ValidationError as error:
        faults = _faults(error)
    # One bad key keeps the checks across sections from running. Run them on what is sound, so that all comes at once.
    broken = frozenset(str(path[0]) for path, _ in faults)
    try:
        Settings.model_validate({key: tree[key] for key in tree.keys() - broken}, context={"broken": broken})
    except ValidationError as error:
        faults += [fault for fault in _faults(error) if fault not in faults]
    return None, faults


def _faults(error: ValidationError) -> list[settings_schema.Fault]:
    found = error.errors(include_url=False)
    # pydantic counts only the sound entries of a list: one whose entries are all bad is not too short.
    above = {one["loc"][:end] for one in found for end in range(len(one["loc"]))}
    real = (one for one in found if one["type"] != "too_short" or one["loc"] not in above)
    return [fault for one in real for fault in settings_schema.describe(one, Settings)]


def _with_absolute_paths(settings: Settings, base: Path) -> tuple[Settings | None, list[settings_schema.Fault]]:
    recording, library = settings.recording, settings.library
    faults: list[settings_schema.Fault] = []

    def absolute(path: Path, *where: str | int) -> Path:
        try:
            return base.absolute() / path.expanduser()
        except RuntimeError:
            faults.append((where, f"{path} begins with a home that is not known here; write it out"))
            return path

    recording = recording.model_copy(update={"folder": absolute(recording.folder, "recording", "folder")})
    if recording.signing_key_file is not None:
        key_file = absolute(recording.signing_key_file, "recording", "signing_key_file")
        recording = recording.model_copy(update={"signing_key_file": key_file})
    if recording.encryption.key_file is not None:
        key_file = absolute(recording.encryption.key_file, "recording", "encryption", "key_file")
        encryption = recording.encryption.model_copy(update={"key_file": key_file})
        recording = recording.model_copy(update={"encryption": encryption})
    if library.index is not None:
        library = library.model_copy(update={"index": absolute(library.index, "library", "index")})
    tls = settings.sip.tls
    named = {key: getattr(tls, key) for key in ("certificate", "private_key", "ca")}
    files = {key: absolute(path, "sip", "tls", key) for key, path in named.items() if path is not None}
    sip = settings.sip.model_copy(update={"tls": tls.model_copy(update=files)})
    trunks = []
    for position, trunk in enumerate(settings.trunks):
        credentials = trunk.credentials
        if credentials is not None and credentials.password_file is not None:
            where = ("trunks", position, "credentials", "password_file")
            file = absolute(credentials.password_file, *where)
            credentials = credentials.model_copy(update={"password_file": file})
        digest = trunk.digest
        if digest is not None and digest.password_file is not None:
            file = absolute(digest.password_file, "trunks", position, "digest", "password_file")
            digest = digest.model_copy(update={"password_file": file})
        trunks.append(trunk.model_copy(update={"credentials": credentials, "digest": digest}))
    if faults:
        return None, faults
    changed = {"sip": sip, "trunks": tuple(trunks), "recording": recording, "library": library}
    return settings.model_copy(update=changed), []


def _unreadable(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        line = error.object[: error.start].count(b"\n") + 1
        return f"line {line}: is not UTF-8 text (byte 0x{error.object[error.start]:02x}); save it as UTF-8"
    if isinstance(error, FileNotFoundError):
        return "is not there; check the path (config/recorder.yaml is an example to copy)"
    if isinstance(error, IsADirectoryError):
        return "is a folder, not a file"
    return f"cannot be read: {getattr(error, 'strerror', None) or error}"
