"""What happens in a run: trading days of a few busy spells, drawn from the seed; hours in which nothing happens are left out."""

from __future__ import annotations

from collections.abc import Callable

from tests.simulate import calm
from tests.simulate.occasions import OCCASIONS
from tests.simulate.owner import BUTTONS, HANDS, close_by_hand, press, reduce_by_hand
from tests.simulate.senders import SENDING, move, reach
from tests.simulate.troubles import KNOWABLE, TROUBLES, heal
from tests.simulate.world import REST_SECONDS, Result, World, run

CALM_EVERY = 8  # one seed in so many has no fault and no owner: it must end without a hold
BROUGHT_ABOUT = 0.8  # of the troubles that wait for something, so many are given it
GENTLE = 4  # so many seeds behind each calm one comes one after whose troubles everything can be known: no hold either
Act = Callable[[World], object]


# ---- days ----


def play_seed(days: int, seed: int) -> Result:
    """Play one seed; for a worker's process."""
    return run(seed, days, play)


async def play(world: World, days: int) -> None:
    """Play so many trading days."""
    acts = menu(world)
    world.begin()
    for number in range(days):
        world.say(f"day {number + 1}")
        held = sum(world.figures.holds.values())
        await day(world, acts)
        world.figures.days += 1
        world.figures.calm_days += is_calm(world.seed)
        world.figures.gentle_days += is_gentle(world.seed)
        world.figures.hold_days += sum(world.figures.holds.values()) > held
        world.skip_to(9, 30, days=1)
    await rest(world)


def is_calm(seed: int) -> bool:
    return seed % CALM_EVERY == 0


def is_gentle(seed: int) -> bool:
    return seed % CALM_EVERY == GENTLE


def menu(world: World) -> list[tuple[int, str, Act]]:
    """Return what may happen in this run, with weights: each seed has its own half of all troubles."""
    acts = [(weight, "", act) for weight, act in SENDING]
    if is_calm(world.seed):
        return acts
    for table in (KNOWABLE,) if is_gentle(world.seed) else (TROUBLES, HANDS, BUTTONS):
        for name in sorted(table):
            if world.chance.random() < 0.5:
                weight, act = table[name]
                acts.append((weight, name, act))
    return acts


async def day(world: World, acts: list[tuple[int, str, Act]]) -> None:
    """One trading day: busy spells, and the rest between them; now and then one of them goes on over midnight."""
    chance = world.chance
    for _ in range(chance.randint(2, 3)):
        await spell(world, acts)
        await rest(world)
        world.skip(chance.uniform(60, 7000))
    if chance.random() < 0.15 and not is_gentle(world.seed) and not is_calm(world.seed):
        await night(world)
    elif chance.random() < 0.3 and not is_gentle(world.seed):  # what a midnight hides cannot be known
        world.skip_to(23, 59, 60 - chance.randint(3, 25))
        await spell(world, acts)
        await rest(world)


async def night(world: World) -> None:
    """The executor is down until after midnight; meanwhile exits fill, and the owner trades by hand."""
    if not world.bot.alive:
        return
    world.say("happens: a night without the executor")
    world.figures.faults["night without the executor"] += 1
    world.figures.met["night without the executor"] += 1
    world.bot.kill()
    for act in world.chance.sample((close_by_hand, reduce_by_hand, reach, move), 2):
        act(world)
        await world.wait(1.0)
    world.skip_to(23, 59, 50)
    await world.wait(12.0)
    world.begin()
    await rest(world)


async def spell(world: World, acts: list[tuple[int, str, Act]]) -> None:
    """A busy spell: a dozen things, close together."""
    weights = [weight for weight, _, _ in acts]
    for _ in range(world.chance.randint(6, 16)):
        _, name, act = world.chance.choices(acts, weights)[0]
        if name:
            world.say(f"happens: {name}")
            world.figures.faults[name] += 1
        world.prepare(name)
        if act(world) is True:
            world.met()
        await world.wait(min(world.chance.expovariate(1.2), 6.0))
        await bring_about(world, name)


async def bring_about(world: World, name: str) -> None:
    """Most often, do what a trouble waits for."""
    if name in OCCASIONS and world.chance.random() < BROUGHT_ABOUT:
        for act in OCCASIONS[name]:
            if act(world) is True:
                world.met()
            await world.wait(world.chance.uniform(0.1, 2.5))


async def rest(world: World) -> None:
    """End all troubles, wait until nothing is under way, let the owner decide what has to be decided; then judge."""
    heal(world)
    until = world.clock.monotonic() + REST_SECONDS
    calm_since = None
    while (why := unrest(world)) or calm_since is None or world.clock.monotonic() - calm_since < 3:
        if why and world.clock.monotonic() > until:
            world.checker.say("rest", why)
            world.look()
        now = world.clock.monotonic()
        calm_since = None if why else now if calm_since is None else calm_since
        if world.bot.alive and not is_calm(world.seed) and world.chance.random() < 0.1:
            press(world, decide=True)
        await world.wait(1.0)
    world.checker.rest(world.relay.accepted)
    rules = (calm.quiet, calm.unfounded) if is_calm(world.seed) else (calm.knowable,) if is_gentle(world.seed) else ()
    for rule in rules:
        for text in rule(world.checker.journal):
            world.checker.say(rule.__name__, text)
    world.look()


def unrest(world: World) -> str:
    """Say what is still under way, "" where nothing is."""
    journal = world.checker.journal
    if not world.bot.alive:
        return "the executor is down"
    if world.bot.desk.ready_since is None or not world.bot.desk.can_send:
        return f"the executor is not ready: {world.bot.desk.gate.mode_text} {sorted(world.bot.desk.gate.causes)}"
    if waiting := world.relay.waiting():
        return f"{waiting} signals wait at the relay"
    held = [row["symbol"] for row in journal.rows("SELECT symbol FROM trades WHERE state = 'hold'")]
    for row in journal.rows("SELECT symbol, action, state, reason FROM inbox WHERE state <> 'done'"):
        if row["symbol"] not in held:
            return f"{row['action']} {row['symbol']} is {row['state']}: {row['reason']}"
    for row in journal.rows("SELECT id, symbol, state FROM trades WHERE closed = 0 AND state NOT IN ('open', 'hold')"):
        return f"trade {row['id']} in {row['symbol']} is {row['state']}"
    for row in journal.rows("SELECT id, symbol, shrink_to FROM trades WHERE closed = 0 AND shrink_to IS NOT NULL"):
        return f"trade {row['id']} in {row['symbol']} is to come down to {row['shrink_to']}"
    return world.checker.pending
