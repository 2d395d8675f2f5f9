"""`make run` as a newcomer meets it: real make, real processes, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Run, curl_body, interrupt_terminal

pytestmark = pytest.mark.skipif(os.name != "posix", reason="make: on Windows the README names the commands")
Start = Callable[..., Run]


def interrupt_make_alone(run: Run) -> None:
    run.make.send_signal(signal.SIGINT)


def terminate_make(run: Run) -> None:
    run.make.send_signal(signal.SIGTERM)


def kill_make(run: Run) -> None:
    run.make.kill()


slow = pytest.mark.slow


@pytest.mark.parametrize(
    "end",
    [
        interrupt_terminal,
        pytest.param(interrupt_make_alone, marks=slow),
        pytest.param(terminate_make, marks=slow),
        pytest.param(kill_make, marks=slow),
    ],
)
def test_every_way_to_end_it_leaves_no_process(make_run: Start, end: Callable[[Run], None]) -> None:
    run = make_run().wait_ready()
    assert len(run.note_processes()) >= 5  # make, the launcher, and the three
    end(run)
    run.ended()
    assert "Traceback" not in run.text


@slow
def test_in_the_background_of_a_shell_it_goes_on(make_run: Start) -> None:
    """There SIGINT is ignored from the start: that is no interruption."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run = make_run()
    finally:
        signal.signal(signal.SIGINT, before)
    run.wait_ready()
    time.sleep(0.5)  # it looks five times a second
    assert run.make.poll() is None
    terminate_make(run)
    run.ended()


def test_interrupted_while_starting_leaves_no_process(make_run: Start) -> None:
    run = make_run()
    run.wait_for(lambda: any("executor.paper" in arguments for arguments in run.command_lines().values()))
    interrupt_terminal(run)
    run.ended()
    assert "Traceback" not in run.text


def test_pasted_line_opens_a_trade_that_the_page_shows(make_run: Start) -> None:
    run = make_run().wait_ready()
    answer = json.loads(run.paste(run.line("curl ")))
    assert answer["status"] == "queued"
    run.wait_for(lambda: [t for t in run.status()["open_trades"] if t["state"] == "open"])
    (trade,) = run.status()["open_trades"]
    assert (trade["symbol"], trade["side"], trade["held"]) == ("EURUSD", "buy", "10000")
    assert {order["leg"] for order in trade["orders"]} == {"E", "T", "S"}
    assert [s["outcome"] for s in run.status()["signals"]] == ["entered"]
    run.wait_for(lambda: [p for p in run.status()["positions"] if p["symbol"] == "EURUSD"])
    again = run.paste(run.line(".venv/bin/python -m relay send"))  # the same alert, within 30 s
    assert answer["id"] in again and "duplicate" in again


def test_secrets_are_written_once_and_for_the_owner_only(make_run: Start, checkout: Path) -> None:
    run = make_run().wait_ready()
    before = (checkout / ".env").read_bytes()
    assert stat.S_IMODE((checkout / ".env").stat().st_mode) == 0o600
    interrupt_terminal(run)
    run.ended()
    again = make_run().wait_ready()
    assert (checkout / ".env").read_bytes() == before
    assert curl_body(again.line("curl "))["secret"] == curl_body(run.line("curl "))["secret"]


def test_it_connects_to_nothing_that_it_did_not_start(make_run: Start, checkout: Path, trap: socket.socket) -> None:
    """A `.env` for a real TWS, a real relay and alarm channels has no effect on `make run`."""
    make_run().wait_ready().kill()
    port = trap.getsockname()[1]
    with (checkout / ".env").open("a", encoding="utf-8") as env:
        env.write(
            f"EXECUTOR_RELAY_URL=http://127.0.0.1:{port}\nEXECUTOR_IB_PORT={port}\nEXECUTOR_ACCOUNT=U1234567\n"
            f"EXECUTOR_HEARTBEAT_URL=http://127.0.0.1:{port}/\nEXECUTOR_NOTIFY_URLS=json://127.0.0.1:{port}/\n"
            f"RELAY_QUEUE_URL=postgresql://127.0.0.1:{port}/x\nRELAY_ALARM_URLS=json://127.0.0.1:{port}/\n"
        )
    run = make_run().wait_ready()
    run.paste(run.line("curl "))
    run.wait_for(lambda: [t for t in run.status()["open_trades"] if t["state"] == "open"])
    trap.setblocking(False)
    with pytest.raises(BlockingIOError):
        trap.accept()


@pytest.fixture
def trap() -> Iterator[socket.socket]:
    """Something that must not be connected to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.mark.parametrize("name", ["RELAY_PORT", "EXECUTOR_FLASK_PORT"])
def test_taken_port_is_said_in_one_line_with_the_remedy(make_run: Start, trap: socket.socket, name: str) -> None:
    port = trap.getsockname()[1]
    run = make_run(**{name: str(port)})
    assert run.ended() != 0
    (line,) = [line for line in run.text.splitlines() if line.startswith("make run: ")]
    assert f"port {port}" in line
    assert f"make run {name}=" in line
    assert "Traceback" not in run.text


@pytest.mark.parametrize("same_ports", [False, True])
def test_second_run_in_one_folder_starts_nothing_and_leaves_the_first_alone(
    make_run: Start, checkout: Path, same_ports: bool
) -> None:
    first = make_run().wait_ready()
    before = {path: path.read_bytes() for path in (checkout / ".run" / "state.json", checkout / ".env")}
    curl = first.line("curl ")  # the second one's output takes the place of the first one's
    ports = {"RELAY_PORT": str(first.relay_port), "EXECUTOR_FLASK_PORT": str(first.page_port)}
    second = make_run(**(ports if same_ports else {}))
    assert second.ended() != 0
    (line,) = [line for line in second.text.splitlines() if line.startswith("make run: ")]
    assert "it is running in this folder already" in line and "process" in line
    assert before == {path: path.read_bytes() for path in before}
    assert json.loads(first.paste(curl))["status"] == "queued"
    interrupt_terminal(first)
    first.ended()
    make_run().wait_ready()


def test_part_that_dies_ends_all_and_is_named(make_run: Start) -> None:
    run = make_run().wait_ready()
    (victim,) = [process for process, arguments in run.command_lines().items() if "executor.paper" in arguments]
    victim.kill()
    assert run.ended() != 0
    assert "the paper TWS exited with code" in run.text


def test_incomplete_env_file_is_said_with_the_remedy(make_run: Start, checkout: Path) -> None:
    (checkout / ".env").write_text("RELAY_WEBHOOK_SECRETS=only-this-one\n", "utf-8")
    run = make_run()
    assert run.ended() != 0
    assert "lacks RELAY_SIGNING_SECRETS" in run.text
    assert (checkout / ".env").read_text("utf-8") == "RELAY_WEBHOOK_SECRETS=only-this-one\n"
