"""The command `recorder`. Exit 0 only on success; an error says on standard error what, where, and what to do."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from recorder import __version__
from recorder.errors import RecorderError
from recorder.file_format import ENCODINGS, FileFormat

_FORMATS = [FileFormat(encoding, channels).label for channels in (1, 2) for encoding in ENCODINGS]
_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


class _Group(click.Group):
    """A group whose commands end with one clear line and exit code 1 when they fail of a RecorderError."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except RecorderError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="recorder")
def main() -> None:
    """Record whole SIP calls: a back-to-back user agent between a trunk and a voice application."""


@main.command()
@click.option("--config", "path", type=_FILE, required=True, help="The configuration file, see config/recorder.yaml.")
def serve(path: Path) -> None:
    """Run the recorder until SIGTERM or Ctrl-C; running calls may end first (sip.drain_timeout_s)."""
    from recorder import app, settings

    app.run(settings.load(path))


@main.command("check-config")
@click.argument("path", type=_FILE, metavar="FILE")
def check_config(path: Path) -> None:
    """Check FILE and list every error in it, each with the path of its key. Warnings do not fail the check."""
    from recorder import settings, settings_files
    from recorder.errors import SettingsError

    loaded = settings.load(path)
    if problems := settings_files.problems(loaded):
        raise SettingsError(problems, str(path))
    for warning in settings.warnings(loaded) + settings_files.warnings(loaded):
        click.echo(f"warning: {warning}", err=True)
    click.echo(f"{path}: correct")


@main.command()
@click.option("--once", is_flag=True, help="Leave after the call instead of staying up to listen.")
@click.option("--keep", type=_FOLDER, help="Keep the recording in this folder.")
def demo(once: bool, keep: Path | None) -> None:
    """Place one real call through a recorder on this machine, and show what was recorded."""
    from recorder import demo as demonstration

    sys.exit(demonstration.run(demonstration.Options(once=once, keep=keep)))


@main.command()
@click.option("--calls", default=100, show_default=True, help="How many calls in all.")
@click.option("--rate", default=10.0, show_default=True, help="How many are set up a second.")
@click.option("--duration", "duration_s", default=30.0, show_default=True, help="How long each call lasts, in seconds.")
@click.option("--codec", type=click.Choice(["pcmu", "pcma"]), default="pcmu", show_default=True, help="Of both ends.")
@click.option("--format", "kept_as", type=click.Choice(_FORMATS), default=_FORMATS[0], show_default=True,
              help="What recordings are kept as.")  # fmt: skip
@click.option("--mute-every", default=0, show_default=True, help="Each so-manieth call has a sensitive step; 0: none.")
@click.option("--json", "json_path", type=_FILE, help="Write everything that was measured to this file.")
@click.option("--keep", type=_FOLDER, help="Leave recordings and logs in this folder.")
@click.option("--config", type=_FILE, help="Configuration for the recorder that is started; addresses are its own.")
@click.option("--target", metavar="HOST:PORT", help="Use the recorder that runs here instead of starting one.")
@click.option("--application-port", default=5070, show_default=True, help="With --target: where its calls lead to.")
@click.option("--recordings", type=_FOLDER, help="With --target: its folder of recordings.")
@click.option("--pid", type=int, help="With --target: its process, to be measured.")
@click.option("--floor/--no-floor", default=True, show_default=True, help="Measure a bare relay for comparison.")
@click.option("--spread", is_flag=True, help="Send packets evenly over the 20 ms instead of in bursts.")
@click.option("--strict", is_flag=True, help="Allow nothing for a jitter buffer.")
@click.option("--setup-phase/--no-setup-phase", default=True, show_default=True, help="Measure set-up apart.")
def loadtest(codec: str, kept_as: str, **given: Any) -> None:
    """Place many calls with SIPp, judge every recording by its content, and measure what it cost.

    With --duration longer than --calls / --rate all calls are up at once. Exit code 1 when a recording is missing or
    wrong.
    """
    from recorder import loadtest as load

    file_format = FileFormat.of_label(kept_as)
    sys.exit(load.run(load.Options(codec=load.Codec[codec.upper()], file_format=file_format, **given)))


@main.command()
@click.option("--calls", default=1000, show_default=True, help="How many calls in all, in three batches.")
@click.option("--rate", type=float, help="How many are begun a second; by default the highest that this machine holds.")
@click.option("--seed", default=1, show_default=True, help="Of the mix.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only calls of this kind; may be repeated.")
@click.option("--json", "json_path", type=_FILE, help="Write everything that was found to this file.")
@click.option("--keep", type=_FOLDER, help="Leave recordings and logs in this folder.")
def soak(**given: Any) -> None:
    """Place many calls of every kind, good and bad, and see that nothing is left of them but their records.

    Answered and hung up by either side, transferred, cancelled, turned down, unanswered, muted, without ACK, with an
    end that vanishes or sends no RTP. Exit code 1 when a call has not the one CDR and the recording that it should, or
    when a call, a port, a descriptor or memory is kept.
    """
    from recorder.loadtest import soak as test
    from recorder.loadtest.soak_results import SoakOptions

    sys.exit(test.run(SoakOptions(**given)))


@main.command()
@click.option("--calls", default=600, show_default=True, help="How many calls, each time.")
@click.option("--rate", default=20.0, show_default=True, help="How many are set up a second.")
@click.option("--json", "json_path", type=_FILE, help="Write everything that was measured to this file.")
def setupcost(**given: Any) -> None:
    """Measure the CPU that setting up and tearing down a call takes, by thread: not recorded, then recorded.

    The calls last 100 ms and have no audio. Exit code 1 when one of them fails.
    """
    from recorder.loadtest import setup_cost

    sys.exit(setup_cost.run(setup_cost.Options(**given)))


@main.command()
def doctor() -> None:
    """Print versions and limits, and what is missing on this machine."""
    from recorder import doctor as examination

    checks = examination.report()
    click.echo(examination.render(checks))
    sys.exit(0 if all(check.ok for check in checks) else 1)


@main.command()
@click.option("--name", default="operator", show_default=True, help="Whose token it is; stands in logs and the ledger.")
@click.option(
    "--role",
    type=click.Choice(["viewer", "developer", "maintainer", "owner"]),
    default="viewer",
    show_default=True,
    help="What it may do.",
)
@click.option("--may", multiple=True, type=click.Choice(["control"]), help="A right that no role brings along.")
def token(name: str, role: str, may: tuple[str, ...]) -> None:
    """Make an API token: shown once here; only its hash goes into the configuration."""
    from recorder.web.tokens import new_token

    secret, digest = new_token()
    click.echo(secret)
    click.echo("Add to http.tokens in the configuration:", err=True)
    rights = f", may: [{', '.join(may)}]" if may else ""
    click.echo(f"  - {{name: {name}, role: {role}{rights}, sha256: {digest}}}", err=True)


@main.command()
@click.option("--config", "path", type=_FILE, required=True, help="The configuration file of the recorder.")
def recover(path: Path) -> None:
    """Repair the recordings that a crash left unfinished, and index what the index does not know.

    The recorder does the same at every start; run this while it is stopped. An index that is lost is made anew from the
    manifests: move what is left of it away first.
    """
    from recorder import app, command_audit, settings

    shown_at = time.monotonic()

    def show(doing: str, done: int, of: int) -> None:
        """Not for what takes no time."""
        nonlocal shown_at
        if time.monotonic() - shown_at >= 1:
            shown_at = time.monotonic()
            click.echo(f"{doing} {done} of {of} ({100 * done // max(1, of)} %)", err=True)

    loaded = settings.load(path)
    found = app.recover(loaded, progress=show)
    command_audit.enter(loaded, "recover", found.summary, failed="problems" if found.failed else "")
    click.echo(found.summary)
    for line in found.failed:
        click.echo(line, err=True)
    sys.exit(1 if found.failed else 0)


@main.command()
@click.argument("names", nargs=-1, metavar="[NAME|DIALOG_ID]...")
@click.option("--config", "config", type=_FILE, help="The configuration file of the recorder.")
@click.option("--folder", type=_FOLDER, help="The recordings' folder, where there is no configuration.")
@click.option("--public-key", "public_keys", type=_FILE, multiple=True, help="What to check signatures with.")
@click.option("--head", metavar="LINE:SHA256", help="A last line of the ledger that an earlier run printed.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def verify(names: tuple[str, ...], **given: Any) -> None:
    """Check recordings against their manifests, the ledger and the index: all of them, or those that are named.

    It may run beside the recorder, and anywhere with a copy of the folder and the public key. Exit code 0 only if all
    is right.
    """
    from recorder import verify_command

    sys.exit(verify_command.run(verify_command.Options(names=names, **given)))


@main.group()
def keys() -> None:
    """Make keys and change them."""


@keys.command("new-signing")
@click.argument("path", type=_FILE, metavar="FILE")
def new_signing(path: Path) -> None:
    """Make a key pair for signatures: the private key in FILE, the public one in FILE.pub.

    Name FILE in recording.signing_key_file, and take FILE.pub to where recordings are to be verified.
    """
    from recorder.signing import make_pair

    public_path, key_id = make_pair(path)
    click.echo(f"{path}: private key; {public_path}: public key, to check what the private one signs; id {key_id}")


@keys.command("new-encryption")
@click.argument("path", type=_FILE, metavar="FILE")
@click.option("--id", "key_id", metavar="ID", help="The key's id; by default today's date.")
def new_encryption(path: Path, key_id: str | None) -> None:
    """Put a new key for encryption at rest first in FILE, which is made when it is not there.

    Name FILE in recording.encryption.key_file. Whoever loses its keys loses the recordings: keep a copy elsewhere.
    """
    from recorder.keyring import add_key

    key_id = key_id or time.strftime("%Y-%m-%d", time.gmtime())
    add_key(path, key_id)
    click.echo(f"{path}: key {key_id} is first now, and encrypts what is recorded from the next start on")


@keys.command()
@click.option("--config", "path", type=_FILE, required=True, help="The configuration file of the recorder.")
def rotate(path: Path) -> None:
    """Wrap the keys of all encrypted recordings anew, by the first key that is configured; no audio is rewritten.

    It may run beside the recorder, and again after it was interrupted. Recordings that are being made keep their key
    until the next time. When it ends with exit code 0 and none of those is left, older keys may be taken away.
    """
    from recorder import rotation, settings

    sys.exit(rotation.run(settings.load(path)))


@main.command()
@click.argument("name", metavar="NAME")
@click.option("--config", "config", type=_FILE, required=True, help="The configuration file of the recorder.")
@click.option("--to", "target", type=_FILE, required=True, help="Where to write the plain audio; never replaced.")
def decrypt(name: str, config: Path, target: Path) -> None:
    """Write the plain audio of the recording whose file is called NAME to a file."""
    from recorder import rotation, settings

    rotation.decrypt(settings.load(config), name, target)
