"""``edge-distributor``: init, serve, config show."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from distributor.cli_ca import ca
from distributor.cli_keys import keys
from distributor.config import (
    AUDIT_HEAD_S,
    CERTIFICATE_DAYS,
    CHECK_IN_S,
    CONNECTION_AGE_S,
    DEVICE_ADDRESS,
    ENROLMENT_ADDRESS,
    FACTORY_PENDING_MAX,
    FETCHES_MAX,
    OPERATOR_ADDRESS,
    PENDING_MAX,
    PLAN_WAIT_S,
    RECONNECT_CAP_S,
    RENEWAL_GRACE_DAYS,
    DistributorConfig,
    default_build_workers,
)
from edge_sdk.base.command import (
    EXIT_INTERRUPTED,
    PathArgument,
    Settings,
    json_option,
    note,
    print_json,
    print_table,
    run,
)

_DEBUG = click.option("--debug", is_flag=True, expose_value=False, help="Show tracebacks.")
_DATA = click.option("--data", type=PathArgument(), help="Folder with catalog and blobs.")
_DATABASE = click.option("--database", help="URL of a catalog in PostgreSQL. [SQLite in --data]")
_FILE = click.option(
    "--config",
    "file",
    type=PathArgument(),
    envvar="EDGE_CONFIG",
    help="TOML file; its table [distributor] holds settings.",
)


@click.group()
@click.version_option(version("edge-model-sdk"), prog_name="edge-distributor")
@_DEBUG
def cli() -> None:
    """Keeps models, builds deltas, and tells devices what to run.

    \b
    Example:
      edge-distributor init --data ./distributor-data
      edge-distributor serve --data ./distributor-data
    """


cli.add_command(keys)
cli.add_command(ca)


def settings_options(command: Any) -> Any:
    """The options of ``serve``, which ``config show`` explains."""
    for option in reversed(
        [
            _DATA,
            _DATABASE,
            click.option("--device-address", help=f"For devices. [{DEVICE_ADDRESS}]"),
            click.option("--operator-address", help=f"For operators. [{OPERATOR_ADDRESS}]"),
            click.option("--enrolment-address", help=f"To enrol. [{ENROLMENT_ADDRESS}]"),
            click.option("--token-address", help="For pipelines with a token. [none]"),
            click.option("--names", help="Of this machine, with commas; the first is in tokens."),
            click.option("--certificate-days", type=float, help="Of devices. [30]"),
            click.option(
                "--renewal-grace-days", type=float, help="For expired certificates. [365]"
            ),
            click.option("--connection-age-s", type=float, help="Then it is made anew. [1800]"),
            click.option("--listener-certificate", help="PEM file of an outside authority."),
            click.option("--listener-key", help="PEM file of its key."),
            click.option("--client-authorities", help="PEM file: believed beside our own."),
            click.option("--factory-authorities", help="PEM file: of manufacturers (802.1AR)."),
            click.option("--pending-max", type=int, help=f"May wait for approval. [{PENDING_MAX}]"),
            click.option(
                "--factory-pending-max",
                type=int,
                help=f"Names that wait, of one factory certificate. [{FACTORY_PENDING_MAX}]",
            ),
            click.option("--build-workers", type=int, help="Processes that build deltas."),
            click.option("--check-in-s", type=float, help="Seconds between check-ins."),
            click.option("--plan-wait-s", type=float, help="Seconds a device waits for a build."),
            click.option("--fetches-max", type=int, help="Downloads at a time."),
            click.option(
                "--delta-storage-bytes",
                type=int,
                help="Bytes for stored deltas; the least useful go first. [0: no limit]",
            ),
            click.option("--reconnect-cap-s", type=float, help="Spread of returning watches."),
            click.option(
                "--code-namespaces",
                help="May publish models that can run code, with commas; * for all. [none]",
            ),
            click.option("--evidence-policy", help="TOML file: evidence to require. [none]"),
            click.option("--audit-key", help="URI of its key: edge-key:FILE, hsm:... [a file]"),
            click.option("--audit-public", help="PEM file of that key's public half."),
            click.option("--audit-head-s", type=float, help="Seconds between signed heads."),
            _FILE,
        ]
    ):
        command = option(command)
    return command


@cli.command()
@_DATA
@_DATABASE
@_FILE
@json_option
@_DEBUG
def init(data: Path | None, database: str | None, file: Path | None, as_json: bool) -> None:
    """Make the data folder, or bring an existing one to this release.

    \b
    Example:
      edge-distributor init --data ./distributor-data
    """
    from distributor.audit import audit_signer
    from distributor.identity import IdentityFolder
    from distributor.signing import OnlineKeys
    from distributor.storage import DataFolder, initialise

    config = _config(Settings("distributor", file), data=data, database=database)
    created = initialise(config.data, config.database)
    folder = DataFolder(config.data)
    OnlineKeys(folder.keys).create()
    audit_signer(folder.audit_key, uri=config.audit_key, public=config.audit_public)
    IdentityFolder(config.data).create()
    if as_json:
        print_json({"data": str(config.data), "created": created})
    else:
        done = "made" if created else "is there already and up to date"
        start = ["edge-distributor", "serve", "--data", str(config.data)]
        start += ["--database", database] if database else []
        start += ["--config", str(file)] if file else []
        note(f"{config.data} {done}; start it with: {shlex.join(start)}")


@cli.command()
@settings_options
@json_option
@_DEBUG
def serve(file: Path | None, as_json: bool, **flags: Any) -> None:
    """Serve devices and operators until Ctrl-C or SIGTERM.

    A port of 0 takes a free one. An address in use ends with exit code 7.

    \b
    Example:
      edge-distributor serve --data ./distributor-data --build-workers 2
    """
    from distributor import server

    config = _config(Settings("distributor", file), **flags)

    def ready(serving: server.Serving) -> None:
        if as_json:
            print_json(
                {
                    "device_address": serving.device_address,
                    "operator_address": serving.operator_address,
                    "enrolment_address": serving.enrolment_address,
                    "operator_token": serving.operator_token,
                    "pid": serving.pid,
                }
            )
            sys.stdout.flush()
        note(
            f"serving devices on {serving.device_address}, operators on {serving.operator_address}"
        )
        if serving.operator_token:
            note(f"nobody operates this fleet yet; the first one's token: {serving.operator_token}")

    if asyncio.run(server.serve(config, ready)) == signal.SIGINT:
        raise click.exceptions.Exit(EXIT_INTERRUPTED)


@cli.group("config", epilog="Example:  edge-distributor config show --config edge.toml")
def config_group() -> None:
    """The configuration."""


@config_group.command()
@settings_options
@json_option
@_DEBUG
def show(file: Path | None, as_json: bool, **flags: Any) -> None:
    """Show each setting and where it came from: flag, environment, file or default.

    \b
    Example:
      edge-distributor config show --config edge.toml
    """
    settings = Settings("distributor", file)
    _config(settings, **flags)
    if as_json:
        print_json({"settings": settings.shown(), "unknown": settings.unknown()})
        return
    print_table(
        ["setting", "value", "from"],
        [[key, str(one["value"]), one["from"]] for key, one in settings.shown().items()],
    )
    for key in settings.unknown():
        note(f"edge-distributor: the file has {key}, which is no setting")


def _config(settings: Settings, **flags: Any) -> DistributorConfig:
    defaults: dict[str, Any] = {
        "database": "",
        "device_address": DEVICE_ADDRESS,
        "operator_address": OPERATOR_ADDRESS,
        "enrolment_address": ENROLMENT_ADDRESS,
        "token_address": "",
        "names": "",
        "certificate_days": CERTIFICATE_DAYS,
        "renewal_grace_days": RENEWAL_GRACE_DAYS,
        "connection_age_s": CONNECTION_AGE_S,
        "listener_certificate": "",
        "listener_key": "",
        "client_authorities": "",
        "factory_authorities": "",
        "pending_max": PENDING_MAX,
        "factory_pending_max": FACTORY_PENDING_MAX,
        "build_workers": default_build_workers(),
        "check_in_s": CHECK_IN_S,
        "plan_wait_s": PLAN_WAIT_S,
        "fetches_max": FETCHES_MAX,
        "delta_storage_bytes": 0,
        "reconnect_cap_s": RECONNECT_CAP_S,
        "code_namespaces": "",
        "evidence_policy": "",
        "audit_key": "",
        "audit_public": "",
        "audit_head_s": AUDIT_HEAD_S,
    }
    data = settings.get("data", flags.get("data"), "distributor-data")
    values = {key: settings.get(key, flags.get(key), one) for key, one in defaults.items()}
    return DistributorConfig(data=Path(data), **values)


def main() -> None:
    """The program ``edge-distributor``."""
    run(cli, "edge-distributor")


if __name__ == "__main__":
    main()
