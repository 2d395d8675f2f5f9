"""`make deploy-lambda`: the relay as a function on AWS, by the SAM command line.

The bundle holds the wheel's packages and exactly those libraries of the lock that the relay needs there, built for
the function's processor and Python whatever this machine is.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import click

from deploy.local import fresh_secrets
from deploy.vps.__main__ import ROOT, build_wheel

HERE = ROOT / "deploy" / "lambda"
# What the relay imports there, and what that needs in its turn; uvicorn is not among it, since Lambda is the server.
# A test keeps the list complete.
NEEDED = (
    "apig-wsgi", "blinker", "click", "flask", "itsdangerous", "jinja2", "markupsafe", "prometheus-client", "psycopg",
    "psycopg-binary", "psycopg-pool", "python-dotenv", "typing-extensions", "werkzeug",
)  # fmt: skip
PYTHON = "3.13"
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")
STACK = "signal-relay"


def part_of_lock(lock: str, names: Iterable[str]) -> str:
    """Return the entries of a lock, versions and hashes, of these libraries."""
    entries = re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]
    return "".join(each for each in entries if re.split(r"[=\[; ]", each)[0] in set(names))


def make_bundle(folder: Path) -> None:
    """Fill a folder with what the function is made of."""
    with tempfile.TemporaryDirectory() as scratch:
        lock = Path(scratch, "requirements.txt")
        lock.write_text(part_of_lock((ROOT / "requirements.txt").read_text("utf-8"), NEEDED), "utf-8")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--require-hashes", "-r", str(lock), "--target", str(folder), "--python-version", PYTHON]
        command += ["--implementation", "cp", "--only-binary", ":all:"]
        subprocess.run([*command, *(word for each in PLATFORMS for word in ("--platform", each))], check=True)
        build_wheel(Path(scratch))
        [wheel] = Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as file:
            file.extractall(folder, [name for name in file.namelist() if name.startswith(("common/", "relay/"))])
    shutil.copyfile(HERE / "handler.py", folder / "handler.py")


def write_secrets(file: Path) -> None:
    """Write new secrets in the form that Secrets Manager expects, readable by the owner only."""
    fresh = fresh_secrets()
    value = {"queue_url": "postgresql://USER:PASSWORD@HOST/DATABASE?sslmode=require"}
    value |= {key: fresh[f"RELAY_{key.upper()}"] for key in ("webhook_secrets", "signing_secrets", "executor_tokens")}
    value["sender_signing_secrets"] = fresh_secrets()["RELAY_SIGNING_SECRETS"]  # for scripts that sign what they send
    with open(file, "x", encoding="utf-8", opener=partial(os.open, mode=0o600)) as out:
        json.dump(value, out, indent=2)
    click.echo(f"{file}: put the database's address in queue_url, then:")
    click.echo(f"aws secretsmanager create-secret --name {STACK} --secret-string file://{file}")


def run_sam(folder: Path) -> str:
    """Deploy, and return the function's address."""
    sam = shutil.which("sam")
    if not sam:
        sys.exit(
            "make deploy-lambda needs the SAM command line: python -m pip install aws-sam-cli; then: aws configure"
        )
    stamp = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    subprocess.run(
        [sam, "deploy", "--template-file", str(folder / "template.yaml"), "--stack-name", STACK, "--resolve-s3",
         "--capabilities", "CAPABILITY_IAM", "--no-fail-on-empty-changeset", "--no-confirm-changeset",
         "--parameter-overrides", f"DeployedAt={stamp}"], check=True,
    )  # fmt: skip
    listing = [sam, "list", "stack-outputs", "--stack-name", STACK, "--output", "json"]
    outputs = json.loads(subprocess.run(listing, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return str(next(each["OutputValue"] for each in outputs if each["OutputKey"] == "Url")).rstrip("/")


def is_ready(url: str) -> bool:
    """True if the relay at an address accepts alerts; otherwise the reason is printed."""
    try:
        with urlopen(f"{url}/readyz", timeout=30) as answer:  # noqa: S310 - SAM's own answer
            return bool(answer.status == 200)
    except OSError as exc:
        click.echo(f"{url}/readyz: {exc}", err=True)
        return False


def deploy(folder: Path, *, upload: bool) -> str:
    """Fill a folder with bundle and template; upload them and return the function's address, or "" without."""
    (folder / "bundle").mkdir(parents=True)
    make_bundle(folder / "bundle")
    shutil.copyfile(HERE / "template.yaml", folder / "template.yaml")
    return run_sam(folder) if upload else ""


@click.command()
@click.option(
    "--build-only", type=click.Path(path_type=Path), help="Build the bundle and the template there; upload nothing."
)
@click.option(
    "--new-secrets", type=click.Path(path_type=Path), help="Write new secrets to this file, and do nothing else."
)
def main(build_only: Path | None, new_secrets: Path | None) -> None:
    """Build the function from this checkout, and deploy it with SAM."""
    try:
        if new_secrets:
            return write_secrets(new_secrets)
        with tempfile.TemporaryDirectory() as scratch:
            url = deploy(build_only or Path(scratch), upload=not build_only)
    except (subprocess.CalledProcessError, OSError) as exc:
        sys.exit(f"make deploy-lambda: {exc}"[:300])
    if build_only:
        return click.echo(f"{build_only}: bundle and template")
    if not is_ready(url):
        sys.exit(
            f"{url} is deployed but does not accept alerts: check its log (sam logs --stack-name {STACK}), then deploy again"
        )
    click.echo(f"The relay accepts alerts at {url}/webhook; executor: --relay-url {url}")


if __name__ == "__main__":
    main()
