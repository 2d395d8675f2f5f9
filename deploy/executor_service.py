"""`make deploy-executor`: have the system start the executor with your session, and again should it end.

It runs from this checkout and its virtual environment, in the checkout's folder: `.env`, `executor.toml` and the
journal are looked for there, and nothing that only this terminal has set. Linux gets a systemd user unit, macOS a
launchd agent, Windows a scheduled task. An account with real money is named by --live among the flags, as on any
command line.
"""

from __future__ import annotations

import os
import plistlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as xml

import click

from common.errors import ConfigError
from executor.__main__ import run as executor
from executor.settings import ExecutorSettings, load_choices

ROOT = Path(__file__).resolve().parent.parent
NAME = "signal-executor"
_TASK = "http://schemas.microsoft.com/windows/2004/02/mit/task"


@dataclass(frozen=True)
class Job:
    """What is to be run: the command, in which directory, for whom (as Windows writes it; "" where it is not known)."""

    command: tuple[str, ...]
    directory: Path
    user: str = ""


@dataclass(frozen=True)
class Kind:
    """How one system keeps a program running: its file, and what a person does with it."""

    file: str  # below the home directory
    make: Callable[[Job, Path], bytes]
    start: tuple[str, ...]
    stop: tuple[str, ...]
    log: str


# --- the files --------------------------------------------------------------------------------------


def systemd_unit(job: Job, home: Path) -> bytes:
    """Return a systemd user unit."""
    return f"""# Written by `make deploy-executor`, which overwrites it; for your own changes: systemctl --user edit {NAME}
[Unit]
Description=Signal executor: fetches signals from the relay and trades them at TWS
StartLimitIntervalSec=0

[Service]
Type=exec
WorkingDirectory={_unit_word(str(job.directory), quote=False)}
ExecStart={" ".join(_unit_word(word) for word in job.command)}
# It says what is wrong with its settings and ends with 2: to start it again would change nothing.
Restart=always
RestartSec=5
RestartPreventExitStatus=2
TimeoutStopSec=30
UMask=0077
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes

[Install]
WantedBy=default.target
""".encode()


def _unit_word(text: str, quote: bool = True) -> str:
    """Return a word as systemd reads it back (source: systemd.service(5), command lines; systemd.unit(5), specifiers)."""
    text = text.replace("%", "%%")
    if not quote:
        return text
    text = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{text}"'


def launchd_agent(job: Job, home: Path) -> bytes:
    """Return a launchd agent's property list."""
    log = str(home / "Library" / "Logs" / f"{NAME}.log")
    return plistlib.dumps({
        "Label": NAME,
        "ProgramArguments": list(job.command),
        "WorkingDirectory": str(job.directory),
        "RunAtLoad": True,
        "KeepAlive": True,  # whatever it ended with
        "ThrottleInterval": 10,
        "ExitTimeOut": 30,
        "Umask": 0o077,
        "ProcessType": "Interactive",  # else macOS slows it down
        "StandardOutPath": log,
        "StandardErrorPath": log,
    })  # fmt: skip


def scheduled_task(job: Job, home: Path) -> bytes:
    """Return a Task Scheduler definition, schema 1.2: from log-on or registration on, without an end.

    It is asked for every minute, and ignored while it runs: so it starts again, however it ended. Only an
    administrator may register a log-on trigger that names no user (source: MS-TSCH, the table of permissions for
    triggers). The schema fixes the order of a trigger's parts. Priority 7, the default, is below normal.
    """
    xml.register_namespace("", _TASK)
    task = xml.Element(f"{{{_TASK}}}Task", version="1.2")
    again = {"Enabled": "true", "Repetition": {"Interval": "PT1M"}}
    user = {"UserId": job.user} if job.user else {}
    _fill(task, {
        "RegistrationInfo": {"Description": "Signal executor: fetches signals from the relay and trades them at TWS"},
        "Triggers": {"LogonTrigger": {**again, **user}, "RegistrationTrigger": again},
        "Principals": {"Principal": {**user, "LogonType": "InteractiveToken", "RunLevel": "LeastPrivilege"}},
        "Settings": {
            "MultipleInstancesPolicy": "IgnoreNew",
            "DisallowStartIfOnBatteries": "false",
            "StopIfGoingOnBatteries": "false",
            "StartWhenAvailable": "true",
            "ExecutionTimeLimit": "PT0S",
            "Priority": "5",
            "Enabled": "true",
        },
        "Actions": {"Exec": {
            "Command": job.command[0],
            "Arguments": subprocess.list2cmdline(job.command[1:]),
            "WorkingDirectory": str(job.directory),
        }},
    })  # fmt: skip
    principal = task.find(f".//{{{_TASK}}}Principal")
    actions = task.find(f"{{{_TASK}}}Actions")
    if principal is not None and actions is not None:
        principal.set("id", "Owner")
        actions.set("Context", "Owner")
    xml.indent(task)
    found: bytes = xml.tostring(task, encoding="utf-16", xml_declaration=True)
    return found


def _fill(parent: xml.Element, children: Mapping[str, object]) -> None:
    for name, value in children.items():
        child = xml.SubElement(parent, f"{{{_TASK}}}{name}")
        if isinstance(value, Mapping):
            _fill(child, value)
        else:
            child.text = str(value)


KINDS: dict[str, Kind] = {
    "systemd": Kind(
        f".config/systemd/user/{NAME}.service", systemd_unit,
        ("systemctl --user daemon-reload", f"systemctl --user enable {NAME}", f"systemctl --user restart {NAME}"),
        (f"systemctl --user disable --now {NAME}",), f"journalctl --user -u {NAME} -f",
    ),
    "launchd": Kind(
        f"Library/LaunchAgents/{NAME}.plist", launchd_agent,
        ('launchctl bootstrap gui/$(id -u) "{file}"',),
        (f"launchctl bootout gui/$(id -u)/{NAME}",), f"tail -f ~/Library/Logs/{NAME}.log",
    ),
    "windows": Kind(
        f"{NAME}.xml", scheduled_task,
        (f'schtasks /Create /TN {NAME} /XML "{{file}}" /F',),
        (f"schtasks /End /TN {NAME}", f"schtasks /Delete /TN {NAME} /F"), "its console window",
    ),
}  # fmt: skip


# --- the command ------------------------------------------------------------------------------------


def this_system() -> str:
    """Return the kind of service of the system this runs on."""
    return {"win32": "windows", "darwin": "launchd"}.get(sys.platform, "systemd")


def this_user() -> str:
    """Return who is logged on, as Task Scheduler takes it; "" where that is not Windows."""
    known = os.environ if sys.platform == "win32" else {}
    return "\\".join(filter(None, (known.get("USERDOMAIN"), known.get("USERNAME"))))


def mistakes(flags: Sequence[str]) -> list[str]:
    """Return what is wrong with the settings that the service will have: its flags and its folder's `.env`."""
    try:
        given = executor.make_context("executor", list(flags)).params
        load_choices(ExecutorSettings.load(given, {}, ROOT), ROOT)
    except click.UsageError as exc:
        return [exc.format_message()]
    except ConfigError as exc:
        return list(exc.problems)
    return []


def start_by_systemd() -> bool:
    """Have the user's systemd run it; False if there is none, or if it refuses and has printed why."""
    if not shutil.which("systemctl") or not os.environ.get("XDG_RUNTIME_DIR"):
        return False
    for words in (["daemon-reload"], ["enable", "--quiet", NAME], ["restart", NAME]):
        if subprocess.run(["systemctl", "--user", *words], check=False).returncode:
            return False
    return True


def tell(what: str, commands: Iterable[str]) -> None:
    """Print commands below each other: not every shell joins them with `&&`."""
    for number, command in enumerate(commands):
        click.echo(f"{'' if number else what:14}{command}")


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--for", "system", type=click.Choice(list(KINDS)), help="A system other than this one: the file is only written."
)
@click.option("--to", type=click.Path(path_type=Path), help="Write the file there, and start nothing.")
@click.argument("flags", nargs=-1, type=click.UNPROCESSED)
def main(system: str | None, to: Path | None, flags: tuple[str, ...]) -> None:
    """Keep the executor running, with FLAGS as in `python -m executor FLAGS`."""
    if not system and (problems := mistakes(flags)):
        tell("Wrong:", [*problems, f"Nothing was written. Only {ROOT / '.env'} and the flags count."])
        sys.exit(2)
    chosen = system or this_system()
    kind, home = KINDS[chosen], Path.home()
    job = Job((sys.executable, "-m", "executor", *flags), ROOT, this_user())
    file = to or (home / kind.file)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(kind.make(job, home))
    click.echo(f"Written: {file}")
    if chosen == "systemd" and not system and not to and start_by_systemd():
        click.echo("It is running. To start it before you log in: loginctl enable-linger")
    else:
        tell("To start it:", (line.format(file=file) for line in kind.start))
    tell("To stop it:", kind.stop)
    click.echo(f"Its log:      {kind.log}")
    click.echo(f"To check it:  {sys.executable} -m executor doctor {subprocess.list2cmdline(flags)}".rstrip())


if __name__ == "__main__":
    main()
