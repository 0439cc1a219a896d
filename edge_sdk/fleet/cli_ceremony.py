"""``edge-fleet keys``: own keys, and ceremonies that change who may sign what."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
from securesystemslib.exceptions import FormatError as UnserializableError
from securesystemslib.signer import Key

from edge_sdk.base import (
    FormatError,
    RefusedError,
    UsageError,
    check_segment,
    explain_os_error,
    whole_file,
)
from edge_sdk.base.command import PathArgument, json_option, note, print_json, print_table
from edge_sdk.fleet import ceremony as ceremonies
from edge_sdk.fleet.ceremony import Ceremony, Signers
from edge_sdk.fleet.ceremony_checks import shown_key
from edge_sdk.fleet.cli_keys import (
    ask_new_passphrase,
    ask_passphrase,
    chosen_folder,
    keys_option,
    named_namespace,
)
from edge_sdk.fleet.cli_keys import keys as keys  # noqa: PLC0414 - its door is here
from edge_sdk.fleet.key_folder import KeyFolder
from edge_sdk.fleet.repository import now
from edge_sdk.trust import (
    ASSIGNMENTS,
    NAMESPACE_PREFIX,
    ROOT,
    SNAPSHOT,
    TARGETS,
    TIMESTAMP,
    namespace_role,
)
from edge_sdk.trust import public_of as public_of_key_file

_DEBUG = click.option("--debug", is_flag=True, expose_value=False, hidden=True)
_OUT = click.option("-o", "--output", "out", type=PathArgument(), required=True, metavar="FOLDER")
_ONLINE = click.option(
    "--online", is_flag=True, help="Name the distributor's newest keys from now on."
)
_THRESHOLD = click.IntRange(min=1)
_PUBLIC_BYTES_MAX = 64 << 10
_SHOWN_TARGETS, _SHOWN_BYTES = 40, 2000


class _Role(click.types.StringParamType):
    """``root``, ``targets``, or a namespace by its name or its role (``ns_team``)."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in (ROOT, TARGETS):
            return str(value)
        name = check_segment(str(value), "namespace")
        # The role of a namespace is shown as ns_team, and means the same here.
        return namespace_role(name.removeprefix(NAMESPACE_PREFIX) or name)


_ROLE = click.argument("role", type=_Role())


# -- own keys ------------------------------------------------------------------------------------


@keys.command(
    epilog="""\b
Example:
  edge-fleet keys create team --keys ~/edge-keys

ROLE is root, targets, or a namespace (team, or ns_team as it is listed). Nobody believes
the key before a ceremony names it.
"""
)
@_ROLE
@click.option("--name", help="Of the key's file. [ROLE]")
@keys_option
@json_option
@_DEBUG
@click.pass_obj
def create(target: Any, role: str, name: str | None, folder: Path | None, as_json: bool) -> None:
    """Make a key in an encrypted file."""
    place = _folder(target, folder)
    exists = (place / "keys.json").exists()
    held = KeyFolder(place, ask_passphrase if exists else ask_new_passphrase)
    key = held.create(role, _free_name(place, name or role, chosen=name is not None))
    if as_json:
        print_json({"role": key.role, "key_id": key.key_id, "uri": key.uri})
        return
    note(f"key {key.key_id[:12]} of {role} is made; give its public half away with: keys export")


@keys.command(
    epilog="""\b
Example:
  edge-fleet keys add root --uri hsm:2?label=root --public root-hsm.json

The URI is one of securesystemslib: hsm:, awskms:, gcpkms:, azurekms:, gnupg:, tkey:, hv:,
or edge-key:/path/to/a/key/file. The key signs a trial before it is listed.
"""
)
@_ROLE
@click.option("--uri", required=True, help="Where the private half is.")
@click.option("--public", type=PathArgument(), required=True, help="Its public half, a file.")
@keys_option
@json_option
@_DEBUG
@click.pass_obj
def add(target: Any, /, role: str, folder: Path | None, as_json: bool, **where: Any) -> None:
    """List a key that is elsewhere: hardware, a cloud, another folder."""
    key = KeyFolder(_folder(target, folder), ask_passphrase).add(
        role, where["uri"], read_public(where["public"])
    )
    if as_json:
        print_json({"role": key.role, "key_id": key.key_id, "uri": key.uri})
        return
    note(f"key {key.key_id[:12]} of {role} is listed")


@keys.command("list", epilog="Example:  edge-fleet keys list --keys ~/edge-keys")
@keys_option
@json_option
@_DEBUG
@click.pass_obj
def list_keys(target: Any, folder: Path | None, as_json: bool) -> None:
    """Show the keys of a folder."""
    held = KeyFolder(_folder(target, folder), ask_passphrase).all()
    if as_json:
        listed = [{"role": one.role, "key_id": one.key_id, "uri": one.uri} for one in held]
        print_json({"keys": listed})
        return
    print_table(["role", "key id", "where"], [[one.role, one.key_id, one.uri] for one in held])


@keys.command(
    epilog="""\b
Example:
  edge-fleet keys export team --keys ~/edge-keys -o team.pub.json
"""
)
@_ROLE
@click.option("-o", "--output", "out", type=PathArgument(), required=True, metavar="FILE")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@keys_option
@json_option
@_DEBUG
@click.pass_obj
def export(
    target: Any, /, role: str, out: Path, folder: Path | None, as_json: bool, **how: Any
) -> None:
    """Write the public half of a role's newest key, for whoever drafts a ceremony."""
    found = KeyFolder(_folder(target, folder), ask_passphrase).public(role)
    if not found:
        raise UsageError(f"there is no key of {role} here: edge-fleet keys create {role}")
    with whole_file(out, replace=how["force"]) as stream:
        stream.write(json.dumps(_public_document(found[-1]), indent=2).encode() + b"\n")
    if as_json:
        print_json({"role": role, "key_id": found[-1].keyid, "file": str(out)})


# -- ceremonies ----------------------------------------------------------------------------------


@keys.group(
    epilog="Example:  edge-fleet keys draft targets --namespace vision=vision.json -o ceremony"
)
def draft() -> None:
    """Draft a ceremony: a folder of metadata for others to sign."""


def root_options(command: Any) -> Any:
    """Who signs roots and targets."""
    for option in (
        click.option(
            "--targets-threshold", type=_THRESHOLD, help="How many targets keys must sign."
        ),
        click.option(
            "--targets-key",
            "targets_keys",
            type=PathArgument(),
            multiple=True,
            metavar="PUBLIC",
            help="A key that signs targets; again for each.",
        ),
        click.option("--threshold", type=_THRESHOLD, help="How many root keys must sign."),
        click.option(
            "--root-key",
            "root_keys",
            type=PathArgument(),
            multiple=True,
            metavar="PUBLIC",
            help="A key that signs roots; again for each.",
        ),
    ):
        command = option(command)
    return command


_NAMESPACES = click.option(
    "--namespace",
    "namespaces",
    multiple=True,
    metavar="NAME=PUBLIC[,PUBLIC...][/THRESHOLD]",
    help="A namespace and the keys that sign for it; again for each.",
)


@draft.command(
    epilog="""\b
Example, two of three people hold the root:
  edge-fleet keys draft first --root-key a.json --root-key b.json --root-key c.json \\
      --threshold 2 --targets-key a.json --namespace team=team.json -o ceremony
"""
)
@root_options
@_NAMESPACES
@_OUT
@json_option
@_DEBUG
@click.pass_obj
def first(
    target: Any, /, namespaces: tuple[str, ...], out: Path, as_json: bool, **chosen: Any
) -> None:
    """The beginning: version 1 of everything."""
    root = _signers(chosen["root_keys"], chosen["threshold"])
    targets = _signers(chosen["targets_keys"], chosen["targets_threshold"])
    named = _parse_namespaces(namespaces)
    with target.open() as fleet:
        drafted = ceremonies.draft_first(
            fleet.metadata.newest_online(), root=root, targets=targets, namespaces=named, now=now()
        )
    _write(drafted, out, as_json)


@draft.command(
    "root",
    epilog="""\b
Examples:
  edge-fleet keys draft root --root-key a.json --root-key b.json --threshold 2 -o ceremony
  edge-fleet keys draft root --online -o ceremony
  edge-fleet keys draft root -o ceremony

Keys that are named take the place of all that signed so far; without any, the root is only
signed for another year.
""",
)
@root_options
@_ONLINE
@keys_option
@_OUT
@json_option
@_DEBUG
@click.pass_obj
def draft_root(
    target: Any, /, folder: Path | None, out: Path, as_json: bool, **chosen: Any
) -> None:
    """The next root: other root keys, targets keys, or keys of the distributor."""
    held = KeyFolder(_folder(target, folder), ask_passphrase)
    root = _signers(chosen["root_keys"], chosen["threshold"])
    targets = _signers(chosen["targets_keys"], chosen["targets_threshold"])
    with target.open() as fleet:
        drafted = ceremonies.draft_root(
            fleet.metadata.repository(held, replacing_root=True),
            root=root,
            targets=targets,
            online=fleet.metadata.newest_online() if chosen["online"] else None,
            now=now(),
        )
    _write(drafted, out, as_json)


@draft.command(
    "targets",
    epilog="""\b
Examples:
  edge-fleet keys draft targets --namespace vision=vision.json -o ceremony
  edge-fleet keys draft targets --namespace team=new.json -o ceremony

The second gives a namespace to another key: its documents are in the ceremony as well, for
that key to sign, so that nothing of it is out of reach in between.
""",
)
@_NAMESPACES
@_ONLINE
@keys_option
@_OUT
@json_option
@_DEBUG
@click.pass_obj
def draft_targets(
    target: Any, /, folder: Path | None, out: Path, as_json: bool, **chosen: Any
) -> None:
    """The next targets: a new namespace, or other keys of one."""
    held = KeyFolder(_folder(target, folder), ask_passphrase)
    named = _parse_namespaces(chosen["namespaces"])
    with target.open() as fleet:
        drafted = ceremonies.draft_targets(
            fleet.metadata.repository(held),
            namespaces=named,
            online=fleet.metadata.newest_online() if chosen["online"] else None,
            now=now(),
        )
    _write(drafted, out, as_json)


@draft.command(
    "namespace", epilog="Example:  edge-fleet keys draft namespace team --keys ~/edge-keys -o again"
)
@click.argument("name")
@keys_option
@_OUT
@json_option
@_DEBUG
@click.pass_obj
def draft_namespace(target: Any, name: str, folder: Path | None, out: Path, as_json: bool) -> None:
    """The documents of a namespace as they are, to be signed for another year."""
    name = named_namespace(name)
    held = KeyFolder(_folder(target, folder), ask_passphrase)
    with target.open() as fleet:
        drafted = ceremonies.draft_namespace(fleet.metadata.repository(held), name, now=now())
    _write(drafted, out, as_json)


@keys.command(
    "sign",
    epilog="""\b
Example, on a machine without a network:
  edge-fleet keys sign ceremony --keys /media/usb/keys
""",
)
@click.argument("ceremony", type=PathArgument())
@click.option("--yes", is_flag=True, help="Sign without asking.")
@keys_option
@json_option
@_DEBUG
@click.pass_obj
def sign_ceremony(
    target: Any, ceremony: Path, yes: bool, folder: Path | None, as_json: bool
) -> None:
    """Show what a ceremony changes and sign it with whatever keys are wanted and are here."""
    drafted = ceremonies.open_folder(ceremony)
    held = KeyFolder(_folder(target, folder), ask_passphrase)
    drafted.check_wanted(held.public)
    if not (yes and as_json):
        _show(drafted)
    if not yes and not click.confirm("sign this?", err=True):
        raise RefusedError("nothing was signed")
    signed = drafted.signed_by(held)
    ceremonies.write(signed, ceremony, replace=True)
    _tell(signed, ceremony, as_json)


@keys.command(epilog="Example:  edge-fleet keys show ceremony")
@click.argument("ceremony", type=PathArgument())
@json_option
@_DEBUG
def show(ceremony: Path, as_json: bool) -> None:
    """Show what a ceremony changes, and which signatures it lacks."""
    drafted = ceremonies.open_folder(ceremony)
    if as_json:
        print_json(
            {
                "documents": {name: _keys_in(one) for name, one in drafted.documents.items()},
                **_state(drafted),
            }
        )
        return
    _show(drafted)


@keys.command(
    epilog="""\b
Example:
  edge-fleet keys submit ceremony --keys ~/edge-keys
"""
)
@click.argument("ceremony", type=PathArgument())
@keys_option
@json_option
@_DEBUG
@click.pass_obj
def submit(target: Any, ceremony: Path, folder: Path | None, as_json: bool) -> None:
    """Put what a ceremony signed: all of it or nothing."""
    drafted = ceremonies.open_folder(ceremony)
    files = drafted.files()
    with target.open() as fleet:
        unsigned = fleet.metadata.put(files)
        fleet.metadata.took(files, drafted.roots)
    place = chosen_folder(target.settings, folder)
    root = next((data for name, data in files if name == "1.root.json"), None)
    if root is not None and place is not None:
        KeyFolder(place, ask_passphrase).trust_root(root)
    if as_json:
        print_json({"put": [name for name, _ in files], "unsigned_roles": list(unsigned)})
        return
    note(f"put {', '.join(name for name, _ in files)}")
    for role in unsigned:
        note(f"edge-fleet: nobody believes {role} until its new keys sign it: keys draft namespace")


def read_public(path: Path) -> Key:
    """A public key: of a key file, or as ``keys export`` writes it. Raises: FormatError."""
    try:
        with path.open("rb") as stream:
            data = stream.read(_PUBLIC_BYTES_MAX)
    except OSError as error:
        raise explain_os_error(error, path) from error
    try:
        said = json.loads(data)
        if "sealed" in said:
            return public_of_key_file(path)
        key = Key.from_dict(str(said.pop("keyid")), said)
        shown_key(key)
    except (
        *(ValueError, KeyError, TypeError, AttributeError, RecursionError),
        UnserializableError,
    ) as error:
        raise FormatError(f"{path} holds no public key: {error}") from None
    return key


def _public_document(key: Key) -> dict[str, Any]:
    return {"keyid": key.keyid, **key.to_dict()}


def _signers(paths: Iterable[Path], threshold: int | None) -> Signers:
    found = [read_public(path) for path in paths]
    return Signers(keys=found or None, threshold=threshold)


def _parse_namespaces(texts: Iterable[str]) -> Mapping[str, Signers]:
    """``team=a.json,b.json/2``. Raises: UsageError."""
    found = {}
    for text in texts:
        name, _, rest = text.partition("=")
        names, slash, threshold = rest.rpartition("/") if _ends_in_number(rest) else (rest, "", "")
        paths = [Path(one) for one in names.split(",") if one]
        number = int(threshold[:9]) if slash else None  # more than any number of keys
        if number == 0:
            raise UsageError(f"--namespace {text!r}: at least one key has to sign")
        found[named_namespace(name)] = _signers(paths, number)
    return found


def _ends_in_number(text: str) -> bool:
    _, slash, last = text.rpartition("/")
    return bool(slash) and last.isdigit()


def _folder(target: Any, flag: Path | None) -> Path:
    place = chosen_folder(target.settings, flag)
    if place is None:
        raise UsageError("which keys? name their folder with --keys, or set EDGE_FLEET_KEYS")
    return place


def _free_name(place: Path, name: str, *, chosen: bool) -> str:
    """The role's name, with a number where there is such a file already."""
    if chosen or not (place / f"{name}.key").exists():
        return name
    number = 2
    while (place / f"{name}-{number}.key").exists():
        number += 1
    return f"{name}-{number}"


def _write(drafted: Ceremony, out: Path, as_json: bool) -> None:
    ceremonies.write(drafted, out)
    if as_json:
        print_json({"ceremony": str(out), **_state(drafted)})
        return
    _show(drafted)
    note(f"{out} is drafted; each signs with: edge-fleet keys sign {out}")


def _tell(signed: Ceremony, folder: Path, as_json: bool) -> None:
    if as_json:
        print_json(_state(signed))
        return
    missing = sum(one.missing for one in signed.wanted())
    if missing:
        note(f"{missing} more signatures are needed; see: edge-fleet keys show {folder}")
    else:
        note(f"complete; put it with: edge-fleet keys submit {folder}")


def _state(drafted: Ceremony) -> dict[str, Any]:
    wanted = [
        {
            "file": one.name,
            "by": one.by,
            "threshold": one.threshold,
            "signed": list(one.signed),
            "unsigned": list(one.unsigned),
        }
        for one in drafted.wanted()
    ]
    return {"wanted": wanted, "missing": sum(one.missing for one in drafted.wanted())}


def _keys_in(document: Any) -> dict[str, Any]:
    """All that this document says: who may sign what, or which artifacts there are."""
    signed = document.signed
    found: dict[str, Any] = {"version": signed.version, "expires": signed.expires.isoformat()}
    if hasattr(signed, "roles"):
        return found | {"roles": _roles(signed.roles, signed.keys)}
    delegations = signed.delegations
    if delegations is not None and delegations.roles is not None:
        return found | {"roles": _roles(delegations.roles, delegations.keys)}
    if delegations is not None:
        bins = {"bins": delegations.succinct_roles}
        found["roles"] = _roles(bins, delegations.keys)
    found["targets"] = len(signed.targets)
    found["artifacts"] = {
        path: {"sha256": one.hashes.get("sha256", ""), **(one.custom or {})}
        for path, one in sorted(signed.targets.items())
    }
    if signed.unrecognized_fields:
        found["also"] = signed.unrecognized_fields
    return found


def _roles(roles: Mapping[str, Any], keys: Mapping[str, Key]) -> dict[str, Any]:
    return {
        name: {
            "keys": [shown_key(keys[one]) for one in role.keyids],
            "threshold": role.threshold,
        }
        for name, role in roles.items()
    }


def _show(drafted: Ceremony) -> None:
    for name, document in drafted.documents.items():
        said = _keys_in(document)
        until = f"until {said['expires'][:10]}"
        if "roles" in said:
            _show_roles(f"{name}, {until}", said["roles"])
        if "artifacts" in said:
            note(f"{name}: {said['targets']} targets, {until}")
            _show_artifacts(said["artifacts"])
        for field, value in said.get("also", {}).items():
            note(f"{name}: {field} {json.dumps(value, sort_keys=True)[:_SHOWN_BYTES]}")
    for one in drafted.wanted():
        note(f"{one.name}: {len(one.signed)} of {one.threshold} signatures that {one.by} demands")


def _show_roles(title: str, roles: Mapping[str, Any]) -> None:
    order = (ROOT, TARGETS, SNAPSHOT, TIMESTAMP, ASSIGNMENTS)
    rows = [
        [
            role,
            str(roles[role]["threshold"]),
            ", ".join(_short_key(one) for one in roles[role]["keys"]),
        ]
        for role in sorted(roles, key=lambda one: (one not in order, one))
    ]
    print_table(["role", "of", "keys"], rows, title=title)


def _short_key(shown: str) -> str:
    """So much of it that nobody finds another key that begins the same."""
    own, _, other = shown.partition(" ")
    return f"{own[:20]} {other}".rstrip()


def _show_artifacts(artifacts: Mapping[str, Any]) -> None:
    for path, said in list(artifacts.items())[:_SHOWN_TARGETS]:
        floor = f", floor {said['floor']}" if "floor" in said else ""
        note(f"  {path} {said['sha256'][:20]}{floor}")
    if len(artifacts) > _SHOWN_TARGETS:
        more = len(artifacts) - _SHOWN_TARGETS
        note(f"  and {more} more; all of them: edge-fleet keys show --json")
