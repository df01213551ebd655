"""Reloads of the configuration file, checked when the test says so."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from healthomics_gateway.app.reload import (
    ConfigFile,
    Reload,
    Reloader,
    Setters,
)
from healthomics_gateway.app.reload_state import MAX_FAULTS, MAX_NAMES, Reloads
from healthomics_gateway.auth.policy import Rule
from healthomics_gateway.settings.load import load
from healthomics_gateway.settings.schema import Settings
from testkit.authorities import Steps
from testkit.callers import rule, settings_of_tokens

NOW = 1_800_000_000.0
BEFORE, AFTER = rule("before"), rule("after")
MANY = (  # of settings that need a restart, in the order of the schema
    *("max_in_flight", "upstream.max_attempts", "upstream.max_concurrent"),
    *("quota.tps", "quota.burst", "watch.max_open"),
)
ROLE = "arn:aws:iam::123456789012:role/reader"


class World:
    """A reloader, its file, and what it sets."""

    def __init__(
        self, folder: Path, file: Path, *, load_seconds: float, **environ: str
    ) -> None:
        """Read the file as at the start; `environ` has further settings."""
        self.file = file
        self.environ = settings_of_tokens(folder) | environ
        self.now = NOW
        self.steps = Steps()
        self.requested = asyncio.Event()
        self.rules: list[list[str]] = []  # the identities, at each reload
        self.withheld: list[frozenset[str]] = []
        self.levels: list[str] = []
        self.labels: list[str] = []  # of the rules
        self.used: list[tuple[bytes, float]] = []  # and when it was read
        self.learned: list[Sequence[str]] = []
        self.bug: Exception | None = None  # raised once
        self.load_waits_for = threading.Event()
        self.load_waits_for.set()
        content = file.read_bytes()
        self.reloads = Reloads(self._load(content), now=lambda: self.now)
        config = ConfigFile(file, content, self._load)
        self.reloader = Reloader(
            Reload(
                file=config,
                requested=self.requested,
                set_log_level=self.levels.append,
                used=lambda *what: self.used.append(what),
            ),
            setters=Setters(
                log_level=self.levels.append,
                withheld=self.withheld.append,
                rules=self._set_rules,
                learn_accounts=self._learn_accounts,
            ),
            reloads=self.reloads,
            clock=lambda: self.now,
            sleep=self.steps,
            load_seconds=load_seconds,
        )

    def _load(self, content: bytes) -> Settings:
        self.load_waits_for.wait()
        return load(
            flags={}, environ=self.environ, config_file=self.file, content=content
        ).settings

    async def _set_rules(self, rules: Sequence[Rule]) -> None:
        if bug := self.bug:
            self.bug = None
            raise bug
        self.rules.append([each.identity for each in rules])
        self.labels = [each.label for each in rules]

    async def _learn_accounts(self, roles: Sequence[str]) -> None:
        self.learned.append(roles)

    async def write(self, toml: str, *, checks: int = 2) -> None:
        """Write the file, and let it be checked."""
        self.file.write_text(toml)
        await self.check(checks)

    async def check(self, times: int = 1) -> None:
        """Let the file be checked."""
        for _ in range(times):
            await self.steps.step()

    async def request(self) -> None:
        """Request a reload, and wait until it is done."""
        self.requested.set()
        await self.steps.begun()


@asynccontextmanager
async def following(
    folder: Path, toml: str = BEFORE, *, load_seconds: float = 20.0, **environ: str
) -> AsyncIterator[World]:
    """Follow a file that has this content at the start."""
    file = folder / "gateway.toml"
    if not file.exists():
        file.write_text(toml)
    world = World(folder, file, load_seconds=load_seconds, **environ)
    task = asyncio.create_task(world.reloader.follow())
    await world.steps.begun()
    try:
        yield world
    finally:
        task.cancel()


@pytest.mark.guarantee("reload-faults")
async def test_content_must_be_read_twice(tmp_path: Path) -> None:
    """A half-written file isn't used, even if it is valid."""
    async with following(tmp_path) as world:
        await world.write("", checks=1)
        await world.write(AFTER, checks=1)
        half = list(world.rules)
        await world.check()
        await world.check(2)

    assert [] == half
    assert [["after"]] == world.rules


async def test_content_in_use_is_reported_with_the_time_of_its_read(
    tmp_path: Path,
) -> None:
    """Other workers may have read a newer one since."""
    async with following(tmp_path) as world:
        await world.write(AFTER, checks=1)
        world.now += 60
        await world.check()
        world.now += 60
        await world.check()

    assert [(AFTER.encode(), NOW + 60)] == world.used


async def test_unchanged_file_is_not_reloaded(tmp_path: Path) -> None:
    """Without a change nothing is set or counted."""
    async with following(tmp_path) as world:
        await world.check(3)
        await world.write(AFTER, checks=1)
        await world.write(BEFORE)

    assert [] == world.rules
    assert {"ok": 0, "error": 0} == world.reloads.outcomes
    assert (True, NOW) == (world.reloads.is_ok, world.reloads.last_at)


async def test_request_reloads_at_once(tmp_path: Path) -> None:
    """A signal reads the file without a second check, even if it is unchanged."""
    async with following(tmp_path) as world:
        world.file.write_text(AFTER)
        world.now += 60
        await world.request()
        await world.request()
        await world.check(2)

    assert [["after"]] * 2 == world.rules
    assert {"ok": 2, "error": 0} == world.reloads.outcomes
    assert NOW + 60 == world.reloads.last_at


@pytest.mark.guarantee("reload-faults")
@pytest.mark.parametrize(
    ("toml", "named"),
    [
        pytest.param(f"{AFTER}methods = 1", "callers[0].methods", id="type"),
        pytest.param("callers = [", "--config", id="no-toml"),
        pytest.param('[[callers]]\nname = "x"', "callers[0].identity", id="key"),
        pytest.param("max_in_flight = 0", "max_in_flight", id="other-setting"),
        pytest.param("", "callers", id="no-rules"),
    ],
)
async def test_faulty_file_changes_nothing(
    tmp_path: Path, toml: str, named: str
) -> None:
    """All settings stay as they are, and the faults are logged and counted once."""
    async with following(tmp_path) as world:
        world.now += 60
        with capture_logs() as log:
            await world.write(toml, checks=4)
        fault = world.reloads.fault
        failed = dict(world.reloads.outcomes)
        await world.write(AFTER)

    (event,) = log
    assert ("configuration_fault", "error") == (event["event"], event["log_level"])
    assert fault.startswith("faults in ")
    assert named in fault
    assert {"ok": 0, "error": 1} == failed
    assert NOW + 60 == world.reloads.last_at
    assert ([["after"]], True, "") == (
        world.rules,
        world.reloads.is_ok,
        world.reloads.fault,
    )


async def test_summary_of_faults_is_short_and_names_no_caller(tmp_path: Path) -> None:
    """It has the first settings; the log has the faults, up to a number."""
    rules = "".join(rule(f"secret-{at}", methods=at) for at in range(99))
    async with following(tmp_path) as world:
        await world.write(rules)
        fault, faults = world.reloads.fault, world.reloads.faults

    assert MAX_NAMES == fault.count("callers[")
    assert "secret" not in fault
    assert MAX_FAULTS == len(faults)


async def test_file_that_is_missing_or_no_file_is_a_fault(tmp_path: Path) -> None:
    """The rules stay until the file is back, whatever is in its place."""
    async with following(tmp_path) as world:
        world.file.unlink()
        await world.check()
        first = world.reloads.is_ok
        await world.check(2)
        missing = world.reloads.faults
        world.file.mkdir()
        await world.check(2)
        folder = world.reloads.faults
        world.file.rmdir()
        await world.write(AFTER)

    assert first
    assert (f"--config {world.file}: no file can be read at this path",) == missing
    assert "isn't a regular file" in folder[0]
    assert {"ok": 1, "error": 2} == world.reloads.outcomes
    assert [["after"]] == world.rules


async def test_fault_of_another_file_is_checked_again(tmp_path: Path) -> None:
    """When the file that a setting names can be read, the reload succeeds."""
    async with following(tmp_path) as world:
        keys = tmp_path / "jwks.json"
        keys.rename(tmp_path / "elsewhere")
        await world.write(AFTER, checks=3)
        missing = world.reloads.faults
        keys.mkdir()
        await world.check(2)
        folder = world.reloads.faults
        keys.rmdir()
        (tmp_path / "elsewhere").rename(keys)
        await world.check()

    assert "GATEWAY_JWT__JWKS_FILE" in missing[0]
    assert missing != folder
    assert {"ok": 1, "error": 2} == world.reloads.outcomes
    assert [["after"]] == world.rules


async def test_swapped_directory_is_followed(tmp_path: Path) -> None:
    """Kubernetes replaces the link to a folder: the file at the same path is new."""
    for name, toml in ("first", BEFORE), ("second", AFTER):
        (tmp_path / name).mkdir()
        (tmp_path / name / "gateway.toml").write_text(toml)
    data = tmp_path / "data"
    data.symlink_to("first")
    (tmp_path / "gateway.toml").symlink_to("data/gateway.toml")
    async with following(tmp_path) as world:
        (tmp_path / "next").symlink_to("second")
        (tmp_path / "next").rename(data)
        await world.check(2)

    assert [["after"]] == world.rules


async def test_other_settings_need_a_restart(tmp_path: Path) -> None:
    """They are named in a warning, and what can be reloaded is."""
    toml = f'max_in_flight = 5\nwithhold = ["nmae"]\n[log]\nlevel = "error"\n{AFTER}'
    async with following(tmp_path) as world:
        with capture_logs() as log:
            await world.write(toml)
        pending, is_ok = world.reloads.fault, world.reloads.is_ok

    reloaded, restart, questionable = log
    assert ["withhold", "log.level", "callers"] == reloaded["changed"]
    assert ("restart_needed", ["max_in_flight"]) == (
        restart["event"],
        restart["settings"],
    )
    assert "did you mean name?" in questionable["why"]
    assert ([{"nmae"}], ["error"], [["after"]]) == (
        world.withheld,
        world.levels,
        world.rules,
    )
    assert ("restart needed for max_in_flight", True) == (pending, is_ok)


async def test_settings_that_need_a_restart_are_shown_until_they_are_as_before(
    tmp_path: Path,
) -> None:
    """They are shown with the faults too, and not once the old values are back."""
    found = []
    async with following(tmp_path) as world:
        for toml in (
            f"max_in_flight = 5\n{AFTER}",
            f'max_in_flight = 5\nwithhold = ["x"]\n{rule("before")}',
            "callers = [",
            BEFORE,
            rule("before", methods=["GetRun", "Channelz"]),
            rule("after", methods=["GetRun", "Channelz"]),
            "".join(f"{name} = 1\n" for name in MANY) + AFTER,
        ):
            await world.write(toml)
            found.append(world.reloads.fault)

    needed = "restart needed for"
    faults = "faults in --config; the settings stay as they were"
    assert [
        f"{needed} max_in_flight",
        f"{needed} max_in_flight",
        f"{faults}; {needed} max_in_flight; see the log",
        "",
        f"{needed} callers[0].methods",
        f"{needed} callers[0].methods",
        f"{needed} {', '.join(MANY[:MAX_NAMES])}, ...",
    ] == found


async def test_environment_keeps_its_precedence(tmp_path: Path) -> None:
    """A variable overrides the file at each reload too."""
    environ = {"GATEWAY_WITHHOLD": "name", "GATEWAY_LOG__LEVEL": "warning"}
    async with following(tmp_path, **environ) as world:
        await world.write(f'withhold = ["arn"]\n[log]\nlevel = "debug"\n{AFTER}')

    assert ([{"name"}], ["warning"]) == (world.withheld, world.levels)


async def test_accounts_of_roles_are_learned(tmp_path: Path) -> None:
    """The roles of the rules are passed on, so that those of no rule are dropped."""
    async with following(tmp_path) as world:
        for toml in rule("after", aws_role=ROLE), AFTER:
            await world.write(toml)

    assert [[ROLE], []] == world.learned


async def test_rules_are_labelled_with_position_and_identity(tmp_path: Path) -> None:
    """The label shows which rule of the settings it is, also if two are alike."""
    async with following(tmp_path) as world:
        await world.write(f"{BEFORE}\n{AFTER}")

    assert ["1:before", "2:after"] == world.labels


@pytest.mark.guarantee("status-page")
async def test_rules_are_labelled_with_the_position_alone(tmp_path: Path) -> None:
    """Without `statusz.identities` no label has an identity, after a reload either."""
    async with following(tmp_path, GATEWAY_STATUSZ__IDENTITIES="false") as world:
        await world.write(f"{BEFORE}\n{AFTER}")

    assert ["1", "2"] == world.labels


async def test_load_that_hangs_is_a_fault_and_ends_later(tmp_path: Path) -> None:
    """A file on a server that is gone delays nothing, and its old result isn't used."""
    async with following(tmp_path, load_seconds=0.05) as world:
        world.load_waits_for.clear()
        await world.write(AFTER)
        late = world.reloads.faults
        world.file.write_text(rule("newest"))
        await world.check()
        world.load_waits_for.set()
        while not world.rules:
            await world.check()

    (fault,) = late
    assert fault.startswith(
        f"--config {world.file}: its settings can't be checked with"
    )
    assert ["newest"] == world.rules[-1]


async def test_failure_of_a_setter_is_tried_again(tmp_path: Path) -> None:
    """After a bug the content isn't taken for used: the next task tries it again."""
    async with following(tmp_path) as world:
        world.bug = RuntimeError("a bug")
        world.file.write_text(AFTER)
        world.requested.set()
        again = asyncio.create_task(world.reloader.follow())
        await world.steps.begun()
        await world.check(2)
        again.cancel()

    assert [["after"]] == world.rules
