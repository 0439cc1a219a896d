"""``edge-fleet``: publish models, see devices, roll out; for operators and pipelines."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import click

from edge_sdk.base import UsageError, check_segment
from edge_sdk.base.command import (
    DEVICE,
    MODEL,
    VERSION,
    NameArgument,
    PathArgument,
    Settings,
    bytes_text,
    json_option,
    note,
    print_json,
    print_table,
    progress,
    run,
)
from edge_sdk.fleet.api import DEFAULT_ADDRESS, Fleet
from edge_sdk.fleet.bearer import Bearer
from edge_sdk.fleet.cli_ceremony import keys  # with its ceremonies
from edge_sdk.fleet.cli_identity import devices_commands, login
from edge_sdk.fleet.cli_keys import ask_passphrase, chosen_folder, keys_option, warn_of_readers
from edge_sdk.fleet.cli_operators import audit, operators
from edge_sdk.fleet.cli_rollout import rollout
from edge_sdk.fleet.cli_verify import verify
from edge_sdk.fleet.connection import default_operator
from edge_sdk.fleet.home import FleetHome
from edge_sdk.fleet.key_folder import KeyFolder
from edge_sdk.fleet.marks import TrustMarks
from edge_sdk.fleet.own_identity import OwnIdentity, default_folder
from edge_sdk.fleet.present import (
    document,
    labels_text,
    print_devices,
    print_explanation,
    print_models,
    print_storage,
)
from edge_sdk.fleet.publish import Draft, prepare, survey
from edge_sdk.fleet.requirements import KEYS
from edge_sdk.manifest import Tolerance
from edge_sdk.rpc import plaintext_for_tests

_PATH = PathArgument()
_VARIANT = NameArgument(lambda text: check_segment(text, "variant"))
_LABEL = NameArgument(lambda text: check_segment(text.partition("=")[0], "label"))


class Target:
    """Which distributor, as whom: settings that every sub-command opens its connection from."""

    def __init__(self, settings: Settings, values: dict[str, Any]) -> None:
        self.settings = settings
        folder = settings.get("identity", values["identity"], str(default_folder()))
        self.own = OwnIdentity(Path(folder))
        address = self.own.address() or DEFAULT_ADDRESS
        self._address = settings.get("distributor", values["distributor"], address)
        self.operator = settings.get("operator", values["operator"], default_operator())
        kept = FleetHome.default().trust_marks
        self._marks_folder = Path(settings.get("trust_marks", values["trust_marks"], str(kept)))
        settings.get("keys", None, "")  # asked for by the commands that sign
        bearer = settings.get("bearer_file", None, "")
        self.bearer = Bearer.load(Path(bearer)) if bearer else None
        if self.bearer is not None:
            settings.add_shown("distributor", self.bearer.address, f"token file {bearer}")
            warn_of_readers(Path(bearer))

    def open(self, keys: KeyFolder | None = None) -> Fleet:
        """As who is logged in here; to the distributor where that was, or the one named."""
        if self.bearer is not None:
            return Fleet(self.bearer.address, bearer=self.bearer, keys=keys, marks=self._marks())
        identity = None if plaintext_for_tests() else self.own.fresh()
        return Fleet(
            self._address,
            identity=identity,
            operator=self.operator,
            keys=keys,
            marks=self._marks(),
        )

    def _marks(self) -> TrustMarks:
        return TrustMarks(self._marks_folder, lambda words: note(f"edge-fleet: {words}"))

    def keys(self, flag: Path | None) -> KeyFolder | None:
        """The keys to sign with, where somebody said which."""
        folder = chosen_folder(self.settings, flag)
        return None if folder is None else KeyFolder(folder, ask_passphrase)

    def trusted_root(self) -> bytes | None:
        """The root that the keys named in the settings trust."""
        folder = chosen_folder(self.settings, None)
        return None if folder is None else KeyFolder(folder, ask_passphrase).root()


@click.group(
    epilog="""\b
Examples:
  edge-fleet publish digits.onnx --model team/digits --version 1.0.0 --variant fp32
  edge-fleet rollout create team/digits 1.0.0 --selector site=berlin

Settings come from flags, then EDGE_FLEET_DISTRIBUTOR, EDGE_FLEET_IDENTITY and
EDGE_FLEET_OPERATOR, then the table [fleet] of the TOML file of --config.
"""
)
@click.option(
    "--distributor", metavar="ADDRESS", help="Operators' listener: host:port or unix:/path."
)
@click.option("--identity", metavar="FOLDER", help="Where your key and certificate are.")
@click.option(
    "--trust-marks",
    type=_PATH,
    metavar="FOLDER",
    help="Where the newest signed metadata seen are kept: for pipelines, between their runs.",
)
@click.option("--operator", metavar="NAME", help="Who you are; your login name by default.")
@click.option(
    "--config", type=_PATH, envvar="EDGE_FLEET_CONFIG", help="TOML file with a table [fleet]."
)
@click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
@click.version_option(package_name="edge-model-sdk", prog_name="edge-fleet")
@click.pass_context
def cli(context: click.Context, /, config: Path | None, **values: Any) -> None:
    """Publish models, see devices and roll out versions to them."""
    settings = Settings("fleet", config)
    context.obj = Target(settings, values)
    for key in settings.unknown():
        note(f"edge-fleet: {config} has an unknown key {key!r} in [fleet]")


cli.add_command(rollout)
cli.add_command(keys)
cli.add_command(operators)
cli.add_command(audit)
cli.add_command(verify)
cli.add_command(login)


def debug_option(command: Any) -> Any:
    """Accepted by every sub-command too; ``run`` looks for it on the command line."""
    return click.option("--debug", is_flag=True, expose_value=False, hidden=True)(command)


@cli.command(
    epilog="""\b
Examples:
  edge-fleet publish digits.onnx --model team/digits --version 2.0.0 \\
      --parent 1.0.0 --variant fp32 --golden inputs.npz
  edge-fleet publish model/ --model team/digits --version 2.0.0 --variant int8-x86 \\
      --entry model.onnx --require architecture=x86_64 --require memory=256MiB

The model itself says what it needs: engine, IR version, operator sets, and 4 times its
bytes of memory (two versions are loaded while one replaces the other). --require changes
that; its keys are accelerator, architecture, engine, ir_version, memory and opset.

The golden sample is what a device must answer before a version serves. --golden takes
inputs (NPZ or safetensors) and computes the outputs here; a sample that has output.* tensors
is taken as it is; without --golden inputs are made from a seed. Tolerances (atol, rtol) by
type of output: float64 1e-7, 1e-5; float32 1e-4, 1e-3; float16 0.01, 0.01; bfloat16 0.05,
0.05; others exact. In a quantised model: rtol 0.05 and atol 5 % of the largest expected
value; 8-bit outputs 2 steps. --tolerance says otherwise.
"""
)
@click.argument("path", type=_PATH)
@click.option("--model", type=MODEL, required=True, metavar="NAMESPACE/NAME")
@click.option(
    "--version",
    type=VERSION,
    required=True,
    metavar="VERSION",
    help="Semantic version, such as 1.4.0.",
)
@click.option(
    "--variant",
    type=_VARIANT,
    required=True,
    metavar="NAME",
    help="Which build: fp32, int8-x86, ...",
)
@click.option(
    "--parent", type=VERSION, metavar="VERSION", help="The version that this one was made from."
)
@click.option("--entry", metavar="FILE", help="Of a folder: the file that the engine is given.")
@click.option(
    "--serve", type=click.Choice(["inference", "none"]), help="none: files and events only."
)
@click.option(
    "--golden", type=_PATH, help="Inputs (.npz), or a whole golden sample (.safetensors)."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of inputs made here."
)
@click.option("--tolerance", multiple=True, metavar="OUTPUT=ATOL,RTOL", help="Of one output.")
@click.option(
    "--allow-code",
    is_flag=True,
    help="The model can run code (a pickle, a library), and is meant to.",
)
@click.option(
    "--evidence",
    type=_PATH,
    multiple=True,
    metavar="FILE",
    help="Signed statement about the model: a bundle of model_signing, SLSA provenance.",
)
@click.option("--require", multiple=True, metavar="KEY=VALUE", help=f"KEY: {', '.join(KEYS)}.")
@click.option(
    "--label",
    type=_LABEL,
    multiple=True,
    metavar="KEY=VALUE",
    help="Free text beside the artifact.",
)
@click.option(
    "--floor",
    type=VERSION,
    metavar="VERSION",
    help="Signed: no device goes back below this version any more.",
)
@keys_option
@json_option
@debug_option
@click.pass_obj
def publish(
    target: Target, /, path: Path, folder: Path | None, as_json: bool, **values: Any
) -> None:
    """Publish the model file or folder PATH as one variant of a version."""
    signing = target.keys(folder)
    labels = pairs(values.pop("label"), "--label")
    tolerances = {
        name: _tolerance(name, text)
        for name, text in pairs(values.pop("tolerance"), "--tolerance").items()
    }
    draft = Draft(labels=labels, tolerances=tolerances, **values)
    to_prove_bytes = survey(path)
    with target.open(signing) as fleet:
        fleet.check_publish(draft)
        with progress("proving", to_prove_bytes) as advance:
            prepared = prepare(path, draft, advance=advance, look=partial(fleet.published, draft))
        for line in prepared.notes:
            note(f"edge-fleet: {line}")
        total = sum(entry.size_bytes for entry in prepared.manifest.files)
        with progress("uploading", total) as advance:
            published = fleet.upload(prepared, advance=advance)
        if signing is None and fleet.metadata.is_signing():
            note("edge-fleet: uploaded but not signed, so it cannot be rolled out: give --keys")
    if as_json:
        print_json({**document(published), "notes": list(prepared.notes)})
        return
    how = "published" if published.created else "was there already"
    how += " and is signed" if published.signed and not published.created else ""
    click.echo(
        f"{published.model} {published.version} {published.variant} {how}: artifact "
        f"{published.artifact}, {bytes_text(published.size_bytes)}, "
        f"{bytes_text(published.sent_bytes)} sent"
    )
    for one in published.evidence:
        click.echo(f"evidence holds: {one.kind} {one.digest}, signed by {one.signer}")


def pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """``KEY=VALUE`` texts as a mapping. Raises: UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key or key in found:
            raise UsageError(f"{option} {text!r} is not KEY=VALUE, or names its key twice")
        found[key] = value
    return found


def _tolerance(name: str, text: str) -> Tolerance:
    atol, comma, rtol = text.partition(",")
    if not comma:
        raise UsageError(f"--tolerance {name}={text} is not OUTPUT=ATOL,RTOL")
    return Tolerance(atol=atol.strip(), rtol=rtol.strip())


@cli.command(
    epilog="""\b
Examples:
  edge-fleet models team/digits --json
  edge-fleet models --storage
"""
)
@click.argument("model", type=MODEL, required=False)
@click.option(
    "--storage", is_flag=True, help="What versions and deltas take, and why each is kept."
)
@json_option
@debug_option
@click.pass_obj
def models(target: Target, model: str | None, storage: bool, as_json: bool) -> None:
    """List what is published, or the versions and variants of MODEL.

    With --storage: what is stored for it, deltas with the least useful first. Files of
    versions are always kept; a delta that goes is built again when it is needed.
    """
    if storage:
        _models_storage(target, model, as_json=as_json)
        return
    with target.open() as fleet:
        artifacts = fleet.models(model)
    if as_json:
        print_json({"artifacts": [document(one) for one in artifacts]})
    else:
        print_models(artifacts)


def _models_storage(target: Target, model: str | None, *, as_json: bool) -> None:
    with target.open() as fleet:
        stored = fleet.storage(model)
    if as_json:
        print_json(document(stored))
    else:
        print_storage(stored)


@cli.group(
    invoke_without_command=True, epilog="Example:  edge-fleet devices list --selector site=berlin"
)
@json_option
@debug_option
@click.pass_context
def devices(context: click.Context, as_json: bool) -> None:
    """List devices, or set their labels."""
    if context.invoked_subcommand is None:
        context.invoke(devices_list, selector="", as_json=as_json)


for command in devices_commands:
    devices.add_command(command)


@devices.command(
    "list", epilog="Example:  edge-fleet devices list --selector 'site=berlin,tier!=test'"
)
@click.option(
    "--selector", default="", metavar="TERMS", help="Labels, such as site=berlin,tier!=test."
)
@json_option
@debug_option
@click.pass_obj
def devices_list(target: Target, selector: str, as_json: bool) -> None:
    """List devices with what they should run and what they run."""
    with target.open() as fleet:
        found = fleet.devices(selector)
    if as_json:
        print_json({"devices": [document(one) for one in found]})
    else:
        print_devices(found)


@devices.command(
    "label", epilog="Example:  edge-fleet devices label gate-7 site=berlin --remove tier"
)
@click.argument("device", type=DEVICE)
@click.argument("labels", type=_LABEL, nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--remove", type=_LABEL, multiple=True, metavar="KEY", help="Take a label away.")
@json_option
@debug_option
@click.pass_obj
def devices_label(
    target: Target, device: str, labels: tuple[str, ...], remove: tuple[str, ...], as_json: bool
) -> None:
    """Set or remove labels of DEVICE."""
    wanted = pairs(labels, "label")
    if not wanted and not remove:
        raise UsageError("nothing to change: give KEY=VALUE to set or --remove KEY")
    with target.open() as fleet:
        changed = fleet.label(device, wanted, remove=remove)
    if as_json:
        print_json(document(changed))
    else:
        click.echo(f"{changed.device}: {labels_text(changed.labels)}")


@cli.command(epilog="Example:  edge-fleet explain gate-7 --model team/digits --version 2.0.0")
@click.argument("device", type=DEVICE)
@click.option("--model", type=MODEL, metavar="NAMESPACE/NAME", help="Only this model.")
@click.option(
    "--version", type=VERSION, metavar="VERSION", help="As if this version were assigned."
)
@json_option
@debug_option
@click.pass_obj
def explain(
    target: Target, device: str, model: str | None, version: str | None, as_json: bool
) -> None:
    """Say which variants fit DEVICE, which it gets, and why not the others."""
    with target.open() as fleet:
        explanation = fleet.explain(device, model, version)
    if as_json:
        print_json(document(explanation))
    else:
        print_explanation(explanation)


@cli.group(epilog="Example:  edge-fleet config show --json")
@debug_option
def config() -> None:
    """See the settings."""


@config.command("show", epilog="Example:  edge-fleet --config fleet.toml config show")
@json_option
@debug_option
@click.pass_obj
def config_show(target: Target, as_json: bool) -> None:
    """Print each setting and where its value came from."""
    shown = target.settings.shown()
    if as_json:
        print_json({"fleet": shown})
    else:
        rows = [[key, str(one["value"]), one["from"]] for key, one in shown.items()]
        print_table(["SETTING", "VALUE", "FROM"], rows)


def main() -> None:
    run(cli, "edge-fleet")


if __name__ == "__main__":
    main()
