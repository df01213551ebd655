"""Reloads rules, withheld members and the log level from the configuration file."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from healthomics_gateway.app.reload_change import Change, prepare
from healthomics_gateway.app.reload_state import MAX_FAULTS, Reloads
from healthomics_gateway.auth.policy import Rule
from healthomics_gateway.configuration_error import ConfigurationError
from healthomics_gateway.files import FileError, read_regular
from healthomics_gateway.settings.schema import Settings
from healthomics_gateway.threads import OneAtATime

CHECK_SECONDS = 2.0  # between two checks of the file
READ_SECONDS = 5.0  # to read the file
# To check the settings, and so to read the files that they name. 10,000 rules take less
# than a second of the CPU, which other work may need too.
LOAD_SECONDS = 20.0

_log = structlog.get_logger("reload")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The file of `--config`, which can be read again."""

    path: Path
    content: bytes  # as it was at the start
    # Returns the settings of all sources, with this content of the file. Raises
    # ConfigurationError with all faults. It blocks.
    load: Callable[[bytes], Settings]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """What the process gives its gateway, so that it can reload."""

    file: ConfigFile
    requested: asyncio.Event  # set by a signal
    set_log_level: Callable[[str], None]
    begun: Callable[[], None] = lambda: None  # reports that a reload begins
    ended: Callable[[], None] = lambda: None  # reports its end, well or not
    # Gets the content in effect, and when it was read, in seconds of `time.monotonic`:
    # all processes of a machine have the same.
    used: Callable[[bytes, float], None] = lambda _content, _read_at: None


@dataclass(frozen=True, slots=True, kw_only=True)
class Setters:
    """Set what can be reloaded, where its state is."""

    log_level: Callable[[str], None]
    withheld: Callable[[frozenset[str]], None]
    rules: Callable[[Sequence[Rule]], Awaitable[None]]
    # Awaited with the roles of all rules, before these rules are set.
    learn_accounts: Callable[[Sequence[str]], Awaitable[None]]


class Reloader:
    """Follows the configuration file, and reloads it when it changes.

    A new content must be read twice in a row, so that no half-written file is used. If
    it has a fault, all settings stay as they are, and it is tried again at each check,
    as the fault may be in a file that a setting names.
    """

    def __init__(
        self,
        reload: Reload,
        *,
        setters: Setters,
        reloads: Reloads,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        read_seconds: float = READ_SECONDS,
        load_seconds: float = LOAD_SECONDS,
    ) -> None:
        """Follow the file; `reloads` has the settings of the start."""
        self._file = reload.file
        self._requested = reload.requested
        self._begun, self._ended = reload.begun, reload.ended
        self._used = reload.used
        self._setters = setters
        self._reloads = reloads
        self._clock = clock
        self._sleep = sleep
        self._read_seconds = read_seconds
        self._load_seconds = load_seconds
        self._tried: bytes | str = self._file.content  # used, or refused
        self._seen: bytes | str = self._file.content  # at the last check
        self._read_at = clock()  # when that began
        # Reading a file may hang.
        self._reading = OneAtATime("configuration")
        self._loading = OneAtATime("settings")

    async def follow(self) -> None:
        """Check the file again and again, and whenever it is requested."""
        while True:
            is_requested = await self._pause()
            self._read_at = self._clock()
            found = await self._read()
            is_new = found != self._tried
            is_due = found == self._seen if is_new else not self._reloads.is_ok
            self._seen = found
            if is_requested or is_due:
                await self._reload(found, is_news=is_requested or is_new)
                self._tried = found

    async def _pause(self) -> bool:
        """Wait until the next check; return whether a reload is requested."""
        # The file is polled: file system events miss changes of mounted ConfigMaps.
        sleeping = asyncio.ensure_future(self._sleep(CHECK_SECONDS))  # or a signal
        requested = asyncio.create_task(self._requested.wait())
        try:
            await asyncio.wait(
                (sleeping, requested), return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            sleeping.cancel()
            requested.cancel()
        is_requested = self._requested.is_set()
        self._requested.clear()
        return is_requested

    async def _read(self) -> bytes | str:
        """Return the content of the file, or why it can't be read."""
        try:
            async with asyncio.timeout(self._read_seconds):
                return await self._reading.run(partial(read_regular, self._file.path))
        except TimeoutError:
            return f"--config {self._file.path}: it can't be read in time"
        except FileError as fault:
            return f"--config {self._file.path}: {fault}"

    async def _reload(self, found: bytes | str, *, is_news: bool) -> None:
        """Use what was found; report that a reload is under way if it is news."""
        if not is_news:
            await self._try(found, is_news=False)
            return
        self._begun()
        try:
            await self._try(found, is_news=True)
        finally:
            self._ended()

    async def _try(self, found: bytes | str, *, is_news: bool) -> None:
        """Use what was found, or report its faults, unless they are known."""
        try:
            change = await self._load(found)
        except ConfigurationError as error:
            if is_news or error.args[:MAX_FAULTS] != self._reloads.faults:
                self._reloads.failed(error.args)
                _log.error("configuration_fault", faults=self._reloads.faults)
        else:
            await self._use(change)

    async def _load(self, found: bytes | str) -> Change:
        """Return what to change; raise ConfigurationError with all faults."""
        if isinstance(found, str):
            raise ConfigurationError(found)
        late = (
            f"--config {self._file.path}: its settings can't be checked within"
            f" {self._load_seconds:g} s; a file that they name can't be read, or this"
            " machine is too busy for so many"
        )
        reloads = self._reloads
        work = partial(prepare, found, self._file.load, reloads.settings, reloads.start)
        try:
            async with asyncio.timeout(self._load_seconds):
                change = await self._loading.run(work)
        except TimeoutError:
            raise ConfigurationError(late) from None
        if change.content != found:  # of an earlier check that took long
            raise ConfigurationError(late)
        return change

    async def _use(self, change: Change) -> None:
        await self._setters.learn_accounts(change.roles)
        after = change.settings
        self._setters.log_level(after.log.level)
        self._setters.withheld(after.withhold)
        await self._setters.rules(change.rules)
        self._reloads.succeeded(after, pending=change.needs_restart)
        self._used(change.content, self._read_at)
        _log.info("configuration_reloaded", changed=change.changed)
        if change.needs_restart:
            _log.warning("restart_needed", settings=change.needs_restart)
        for warning in change.warnings:
            _log.warning("questionable_setting", why=warning)
