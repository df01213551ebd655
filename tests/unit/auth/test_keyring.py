"""The issuer's public keys: hostile sets, files that change, servers that fail."""

import asyncio
import contextlib
import gzip
import json
import os
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from healthomics_gateway.auth.jwks import KINDS, KeySet, KeySetError, read_keys
from healthomics_gateway.auth.jwks_fetch import file_reader, url_fault, url_reader
from healthomics_gateway.auth.keyring import (
    FILE_REFRESH_SECONDS,
    MAX_WAITING_OF_HOST,
    READ_SECONDS,
    URL_REFRESH_SECONDS,
    Keyring,
)
from healthomics_gateway.errors.exceptions import GatewayError
from healthomics_gateway.errors.reasons import Reason
from testkit.builders import http
from testkit.issuer import ABSENT, KIND_OF, KeyServer, Signer, jwks
from testkit.virtual_time import virtually

OLD = Signer("old", "P-256", "old")
NEW = Signer("new", "P-256", "new")
ELLIPTIC = {"x": "AA", "y": "AA"}  # no point of any curve
HALF = b'HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{"keys'


def kids_of(keys: KeySet) -> set[str | None]:
    """Return the kids of the usable keys."""
    return {key.kid for key in keys.keys}


class Clock:
    """A clock that the test sets, with sleeps that the test ends."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self._begun: asyncio.Queue[float] = asyncio.Queue()
        self._ended = asyncio.Semaphore(0)

    def __call__(self) -> float:
        """Return the seconds."""
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        """Sleep until the test ends it."""
        await self._begun.put(seconds)
        await self._ended.acquire()

    async def begun(self) -> float:
        """Wait until a task sleeps; return for how many seconds."""
        async with asyncio.timeout(5):
            return await self._begun.get()

    async def slept(self) -> float:
        """End the sleep of a task; return how many seconds it took."""
        seconds = await self.begun()
        self.end(seconds)
        return seconds

    def end(self, seconds: float) -> None:
        """Advance the clock, and end the sleeps."""
        self.seconds += seconds
        self._ended.release()


class Script:
    """A source that returns `said` as the set, or raises it."""

    def __init__(self, said: bytes | Exception) -> None:
        self.said = said
        self.reads = 0
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def __call__(self) -> bytes:
        """Counts one read."""
        self.reads += 1
        await self.flowing.wait()
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


class World:
    """A keyring with its clock and its source."""

    def __init__(self, *keys: Signer, refresh_seconds: float = 300.0) -> None:
        self.clock = Clock()
        self.script = Script(jwks(*keys) if keys else OSError("down"))
        self.ring = Keyring(
            self.script,
            refresh_seconds=refresh_seconds,
            clock=self.clock,
            sleep=self.clock.sleep,
        )

    def publish(self, *keys: Signer) -> None:
        """Return a set of these keys from now on."""
        self.script.said = jwks(*keys)

    async def knows(self, signer: Signer, *, host: str = "") -> bool:
        """Return whether there is a key for this signer's tokens."""
        return await knows(self.ring, signer, host=host)

    async def unavailable(self) -> float:
        """Check that no keys are available; return the retry delay in seconds."""
        return await unavailable(self.ring)


async def knows(ring: Keyring, signer: Signer, *, host: str = "") -> bool:
    """Return whether a keyring has a key for this signer's tokens."""
    async with asyncio.timeout(10):
        return await ring.key(signer.kid, "ES256", host=host) is not None


async def unavailable(ring: Keyring) -> float:
    """Check that a keyring has no keys; return the retry delay."""
    with pytest.raises(GatewayError) as caught:
        await knows(ring, OLD)
    assert Reason.AUTH_BACKEND_UNAVAILABLE is caught.value.reason
    return caught.value.retry_delay_seconds


@asynccontextmanager
async def following(ring: Keyring) -> AsyncIterator[None]:
    """Keep a keyring up to date, as the gateway does."""
    task = asyncio.create_task(ring.follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        await ring.close()


async def background() -> None:
    """Run the other tasks until they wait."""
    for _ in range(20):
        await asyncio.sleep(0)


# ---- a set ----


@pytest.mark.parametrize(
    ("kind", "algorithms"),
    [
        pytest.param(each.crv or each.kty, each.algorithms, id=str(each))
        for each in KINDS
    ],
)
def test_key_verifies_the_algorithms_of_its_kind(
    kind: str, algorithms: tuple[str, ...]
) -> None:
    """A key without `alg` verifies each algorithm of its type and curve."""
    (key,) = read_keys(jwks(Signer("a", kind))).keys

    assert ("a", frozenset(algorithms)) == (key.kid, key.algorithms)
    assert set(algorithms) == {alg for alg, of in KIND_OF.items() if of == kind}


def test_key_verifies_only_the_algorithm_that_it_names() -> None:
    """A key with `alg` verifies only that algorithm."""
    keys = read_keys(jwks(Signer("a").jwk(alg="RS512")))

    assert keys.find("a", "RS512")
    assert keys.find("a", "RS256") is None


@pytest.mark.parametrize(
    ("jwk", "why"),
    [
        pytest.param(7, "kty and crv", id="no object"),
        pytest.param({"kid": "bad", "kty": "oct", "k": "c2VjcmV0"}, "kty", id="oct"),
        pytest.param({"kid": "bad", "kty": ["RSA"]}, "kty", id="kty of lists"),
        pytest.param(Signer("bad", "secp256k1").jwk(), "crv", id="secp256k1"),
        pytest.param(Signer("bad", "Ed448").jwk(), "crv", id="Ed448"),
        pytest.param(Signer("bad").jwk(crv="P-256"), "crv", id="RSA with a curve"),
        pytest.param(Signer("bad").jwk(kty=ABSENT), "kty", id="no kty"),
        pytest.param(Signer("bad").jwk(use="enc"), "use", id="of encryption"),
        pytest.param(Signer("bad").jwk(use=["sig"]), "use", id="use of lists"),
        pytest.param(Signer("bad").jwk(key_ops=["sign"]), "key_ops", id="signs"),
        pytest.param(Signer("bad").jwk(key_ops="verify"), "key_ops", id="key_ops text"),
        pytest.param(Signer("bad").jwk(d="AQAB"), "private", id="private"),
        pytest.param(Signer("bad", "P-256").jwk(d="AQAB"), "private", id="private EC"),
        pytest.param(Signer("bad").jwk(k="c2VjcmV0"), "private", id="a secret too"),
        pytest.param(Signer("bad").jwk(kid=7), "kid", id="kid of numbers"),
        pytest.param(Signer("bad").jwk(alg="HS256"), "alg", id="alg of secrets"),
        pytest.param(Signer("bad").jwk(alg="none"), "alg", id="alg none"),
        pytest.param(Signer("bad").jwk(alg="ES256"), "alg", id="alg of another type"),
        pytest.param(Signer("bad").jwk(alg=["RS256"]), "alg", id="alg of lists"),
        pytest.param(Signer("bad", "P-384").jwk(alg="ES256"), "alg", id="of P-256"),
        pytest.param(Signer("bad", "RSA-1024").jwk(), "2048 bits", id="short"),
        pytest.param(Signer("bad").jwk(n=7), "read", id="n of numbers"),
        pytest.param(Signer("bad").jwk(n=ABSENT), "read", id="no n"),
        pytest.param(Signer("bad").jwk(e="AA"), "read", id="exponent zero"),
        pytest.param(Signer("bad", "P-256").jwk(**ELLIPTIC), "read", id="no point"),
        pytest.param(Signer("bad", "Ed25519").jwk(x="AA"), "read", id="cut short"),
    ],
)
def test_unusable_key_is_left_out(jwk: Any, why: str) -> None:
    """An unusable key is reported by its kid, and the other keys are used."""
    keys = read_keys(jwks(OLD, jwk))

    assert {"old"} == kids_of(keys)
    kid = "bad" if isinstance(jwk, dict) and jwk.get("kid") == "bad" else ""
    ((left_out, reason),) = keys.left_out.items()
    assert kid == left_out
    assert why in reason


def test_kid_of_two_types_is_left_out() -> None:
    """If keys of two types have one kid, neither is used."""
    keys = read_keys(jwks(OLD, Signer("twice"), Signer("twice", "Ed25519")))

    assert {"old"} == kids_of(keys)
    assert {"twice": "another key has the same kid"} == keys.left_out


def test_kid_of_two_keys_for_an_algorithm_is_left_out() -> None:
    """If two keys of an algorithm have one kid, neither is used."""
    keys = read_keys(jwks(Signer("twice"), Signer("twice", "RSA", "other"), OLD))

    assert {"old"} == kids_of(keys)
    assert {"twice"} == set(keys.left_out)


def test_key_that_is_listed_twice_is_one() -> None:
    """A key may be in a set more than once, also for one algorithm each."""
    for_each = [Signer("a").jwk(alg="RS256"), Signer("a").jwk(alg="PS256")]
    keys = read_keys(jwks(OLD, OLD, *for_each))

    assert keys.find("old", "ES256")
    assert keys.find("a", "RS256")
    assert keys.find("a", "PS256")
    assert {} == keys.left_out


@pytest.mark.parametrize("nothing", [None, "", []], ids=repr)
def test_member_that_is_empty_counts_as_absent(nothing: Any) -> None:
    """Members without a value, which some libraries write, are ignored."""
    optional = ("d", "p", "oth", "k", "alg", "use", "key_ops", "x5t", "x5c", "crv")
    jwk = Signer("a").jwk() | dict.fromkeys(optional, nothing)

    keys = read_keys(jwks(jwk))

    assert {} == keys.left_out
    assert keys.find("a", "PS512")


def test_key_listed_with_several_certificates_is_one() -> None:
    """Members besides the key itself don't make it another key."""
    twice = [
        Signer("a").jwk(x5t="one", x5c=["one"]),
        Signer("a").jwk(x5t="two", use=ABSENT, key_ops=["verify"]),
        Signer("b", "Ed25519").jwk(x5t="one"),
        Signer("b", "Ed25519").jwk(x5t="two", alg="EdDSA"),
        Signer(None, "P-256").jwk(x5t="one"),
        Signer(None, "P-256").jwk(x5t="two"),
    ]

    keys = read_keys(jwks(*twice))

    assert {} == keys.left_out
    assert 3 == len(keys.keys)
    assert keys.find("a", "RS256")
    assert keys.find("b", "EdDSA")
    assert keys.find(None, "ES256")


def test_set_with_a_byte_order_mark_is_read() -> None:
    """A byte order mark before the text is skipped."""
    assert {"old"} == kids_of(read_keys(b"\xef\xbb\xbf" + jwks(OLD)))


def test_key_of_a_spiffe_bundle_verifies_tokens() -> None:
    """The keys of use `jwt-svid` are used; those for certificates are left out."""
    keys = read_keys(
        jwks(OLD.jwk(use="jwt-svid"), NEW.jwk(use="x509-svid", kid=ABSENT))
    )

    assert {"old"} == kids_of(keys)
    assert ["jwt-svid"] == [key.use for key in keys.keys]


def test_token_without_kid_needs_a_key_that_is_the_only_one() -> None:
    """Without a kid, exactly one key may fit the algorithm."""
    several = read_keys(jwks(OLD, NEW, Signer("rsa"), Signer(None, "Ed25519")))

    assert several.find(None, "ES256") is None
    assert several.find(None, "RS256") is several.find("rsa", "RS256")
    assert several.find(None, "EdDSA")
    assert several.find("", "EdDSA") is None
    assert several.find(None, "ES512") is None


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>", id="html"),
        pytest.param(b"[]", id="list"),
        pytest.param(b"{}", id="no keys"),
        pytest.param(b'{"keys": {}}', id="keys of an object"),
        pytest.param(jwks(OLD)[:-1], id="cut"),
        pytest.param(jwks(OLD).decode().encode("utf-16"), id="utf-16"),
        pytest.param(b'{"keys": ' + b"[" * 5000, id="deep"),
        pytest.param(json.dumps({"keys": [{}] * 101}).encode(), id="101 keys"),
        pytest.param(jwks(OLD) + b" " * 1024 * 1024, id="too long"),
        pytest.param(b'{"a":[%s1],%s' % (b"1," * 32_768, jwks(OLD)[1:]), id="values"),
    ],
)
def test_invalid_set_is_refused(raw: bytes) -> None:
    """Content that isn't a JWK set within the limits is an error."""
    with pytest.raises(KeySetError):
        read_keys(raw)


def test_set_of_a_hundred_keys_is_read() -> None:
    """A set may have 100 keys."""
    hundred = [Signer(str(number), "Ed25519") for number in range(100)]

    assert {str(number) for number in range(100)} == kids_of(read_keys(jwks(*hundred)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
MEMBERS = st.sampled_from(sorted({*Signer("a").jwk(), "crv", "x", "y", "alg", "k"}))


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["RSA", "P-256", "Ed25519"]),
    st.dictionaries(MEMBERS, JSON, min_size=1, max_size=3),
)
def test_key_with_any_members_is_used_or_left_out(
    kind: str, changes: dict[str, Any]
) -> None:
    """A key with any members is used or left out, and nothing fails."""
    try:
        keys = read_keys(jwks(Signer("a", kind).jwk(**changes), OLD))
    except KeySetError:
        return  # NaN isn't JSON

    assert len(keys.keys) + len(keys.left_out) == 2 or changes.get("kid") == "old"


# ---- the ring ----


async def test_keyring_reads_at_the_first_token() -> None:
    """The first token waits for the keys; the next ones find them."""
    world = World(OLD)
    assert 0 == world.script.reads

    assert await world.knows(OLD)
    assert await world.knows(OLD)
    assert 1 == world.script.reads


async def test_waiting_callers_share_one_read() -> None:
    """A hundred callers without keys share one read."""
    world = World(OLD)

    known = await asyncio.gather(*(world.knows(OLD) for _ in range(100)))

    assert (100, 1) == (sum(known), world.script.reads)


async def test_cancelled_caller_does_not_end_the_read() -> None:
    """The caller that caused a read is cancelled; the others get its result."""
    world = World(OLD)
    world.script.flowing.clear()
    first = asyncio.create_task(world.knows(OLD))
    second = asyncio.create_task(world.knows(OLD))
    await background()

    first.cancel()
    await background()
    world.script.flowing.set()

    assert await second
    assert first.cancelled()
    assert 1 == world.script.reads


async def test_failing_source_is_asked_no_more_than_its_pause_allows() -> None:
    """During the pause callers fail at once with a retry delay, and cause no read."""
    world = World()

    delays = [await world.unavailable() for _ in range(1000)]
    assert {5.0} == set(delays)
    assert 1 == world.script.reads

    world.clock.seconds += 3
    assert 2.0 == await world.unavailable()
    world.clock.seconds += 2
    assert 10.0 == await world.unavailable()
    assert 2 == world.script.reads


async def test_source_that_comes_up_ends_the_failure() -> None:
    """Once the source works, the next read finds the keys."""
    world = World()
    wait_seconds = await world.unavailable()
    world.publish(OLD)

    assert wait_seconds == await world.unavailable()
    world.clock.seconds += wait_seconds
    assert await world.knows(OLD)


async def test_follower_waits_longer_after_each_failure() -> None:
    """Repeated failures are 5 to 60 s apart; a success resets the pause."""
    world = World()
    async with following(world.ring):
        pauses = [await world.clock.slept() for _ in range(6)]
        world.publish(OLD)
        pauses += [await world.clock.slept() for _ in range(2)]
        world.script.said = OSError("down")
        pauses += [await world.clock.slept(), await world.clock.begun()]

    assert [5, 10, 20, 40, 60, 60, 300, 300, 5, 10] == pauses


async def test_follower_reads_before_the_first_caller() -> None:
    """The keys are there when the first caller needs them."""
    world = World(OLD)
    async with following(world.ring):
        await world.clock.begun()
        assert 1 == world.script.reads

        assert await world.knows(OLD)
    assert 1 == world.script.reads


async def test_follower_counts_the_reads_of_callers() -> None:
    """A read that a caller causes delays the follower's next one."""
    world = World(OLD)
    async with following(world.ring):
        assert 300 == await world.clock.begun()
        world.clock.seconds += 200
        assert not await world.knows(NEW)
        assert 2 == world.script.reads
        world.clock.end(100)

        assert 200 == await world.clock.begun()
    assert 2 == world.script.reads


async def test_read_that_fails_keeps_the_keys() -> None:
    """Keys are kept after any number of failures, and used without a wait."""
    world = World(OLD)
    async with following(world.ring):
        await world.clock.slept()
        world.script.said = OSError("down")
        for _ in range(20):
            await world.clock.slept()

        assert await world.knows(OLD)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"<html>", id="not JSON"),
        pytest.param(b"", id="empty"),
        pytest.param(RuntimeError("anything"), id="a bug"),
    ],
)
async def test_invalid_content_keeps_the_keys(said: bytes | Exception) -> None:
    """Content that isn't a JWK set doesn't replace the keys."""
    world = World(OLD)
    async with following(world.ring):
        await world.clock.slept()
        world.script.said = said

        assert 5 == await world.clock.slept()
        assert 10 == await world.clock.begun()
        assert await world.knows(OLD)


async def test_empty_set_withdraws_all_keys() -> None:
    """A set without keys withdraws all keys."""
    world = World(OLD)
    async with following(world.ring):
        await world.clock.slept()
        world.publish()
        await world.clock.begun()

        assert not await world.knows(OLD)


async def test_invalid_content_at_first_is_a_failure() -> None:
    """An empty file doesn't count as a set."""
    world = World()
    world.script.said = b""

    assert 5 == await world.unavailable()
    assert 5 == await world.unavailable()


async def test_rotation_replaces_the_keys() -> None:
    """The follower adds new keys, and removes withdrawn ones."""
    world = World(OLD)
    old = await world.ring.key("old", "ES256")
    assert old
    assert world.ring.holds(old)
    world.publish(NEW)
    async with following(world.ring):
        await world.clock.slept()
        await world.clock.begun()

        assert await world.knows(NEW)
        assert not world.ring.holds(old)
    assert 2 == world.script.reads


async def test_set_that_stays_the_same_keeps_its_keys() -> None:
    """A read of an unchanged set creates no new keys."""
    world = World(OLD)
    old = await world.ring.key("old", "ES256")
    async with following(world.ring):
        await world.clock.slept()
        await world.clock.begun()

    assert 2 == world.script.reads
    assert old
    assert world.ring.holds(old)


async def test_unknown_kids_cause_one_read() -> None:
    """A thousand unknown kids, one after another, cause one read in 30 s."""
    world = World(OLD)
    assert await world.knows(OLD)
    unknown = [Signer(f"unknown {number}") for number in range(1000)]

    assert not any([await world.knows(each) for each in unknown])
    assert 1 + 1 == world.script.reads

    world.clock.seconds += 29
    assert not await world.knows(unknown[0])
    assert 1 + 1 == world.script.reads
    world.clock.seconds += 1
    assert not any([await world.knows(each) for each in unknown])
    assert 1 + 2 == world.script.reads


@pytest.mark.guarantee("slow-rejections")
async def test_concurrent_unknown_kids_cause_one_read() -> None:
    """Many concurrent unknown kids wait for the same read, the first one too."""
    world = World(OLD)
    unknown = [Signer(f"unknown {number}") for number in range(MAX_WAITING_OF_HOST)]

    assert not any(await asyncio.gather(*map(world.knows, unknown)))
    assert 1 == world.script.reads
    assert not any(await asyncio.gather(*map(world.knows, unknown)))
    assert 1 + 1 == world.script.reads


async def test_calls_that_wait_for_a_read_are_bounded() -> None:
    """Calls beyond a host's limit are refused; those of other hosts wait."""
    world = World(OLD)
    assert await world.knows(OLD)
    world.script.flowing.clear()
    unknown = Signer("unknown")
    waiting = [
        asyncio.create_task(world.knows(unknown)) for _ in range(MAX_WAITING_OF_HOST)
    ]
    await background()
    with pytest.raises(GatewayError) as caught:
        await world.knows(unknown)
    other = asyncio.create_task(world.knows(unknown, host="another host"))
    await background()
    assert not other.done()
    world.script.flowing.set()

    assert Reason.AUTH_BACKEND_UNAVAILABLE is caught.value.reason
    assert READ_SECONDS == caught.value.retry_delay_seconds
    assert not any(await asyncio.gather(*waiting, other))
    assert await world.knows(OLD)


async def test_caller_with_a_new_key_waits_for_the_read_under_way() -> None:
    """A new key is found by all callers that wait for the read."""
    world = World(OLD)
    assert await world.knows(OLD)
    world.publish(OLD, NEW)
    world.script.flowing.clear()
    calls = [asyncio.create_task(world.knows(NEW)) for _ in range(3)]
    await background()
    calls += [asyncio.create_task(world.knows(NEW)) for _ in range(3)]
    await background()

    assert await world.knows(OLD), "a known key needs no wait"
    world.script.flowing.set()

    assert [True] * 6 == await asyncio.gather(*calls)
    assert 1 + 1 == world.script.reads


async def test_unknown_kids_leave_a_failing_source_alone() -> None:
    """After a failure unknown kids cause no read before the next one is due."""
    world = World(OLD)
    assert await world.knows(OLD)
    world.script.said = OSError("down")

    assert not await world.knows(NEW)
    assert 1 + 1 == world.script.reads
    async with following(world.ring):
        for _ in range(4):
            await world.clock.slept()
        await world.clock.begun()
        reads = world.script.reads
        world.clock.seconds += 31
        assert not await world.knows(NEW)
        assert reads == world.script.reads


@pytest.mark.parametrize(
    ("kid", "alg"),
    [
        pytest.param("old", "RS256", id="known kid, other type"),
        pytest.param("short", "RS256", id="kid of a key that is no good"),
        pytest.param(None, "ES256", id="no kid, two keys"),
    ],
)
async def test_read_that_would_not_help_is_not_made(kid: str | None, alg: str) -> None:
    """Only a key that may be new causes a read."""
    world = World(OLD, NEW, Signer("short", "RSA-1024"))
    assert await world.knows(OLD)

    assert await world.ring.key(kid, alg) is None
    assert 1 == world.script.reads


async def test_token_without_kid_looks_for_a_key_of_its_algorithm() -> None:
    """A read is made if no key has the token's algorithm."""
    world = World(OLD)
    assert await world.knows(OLD)
    world.publish(OLD, Signer("rsa"))

    assert await world.ring.key(None, "RS256")
    assert 1 + 1 == world.script.reads


def test_caller_waits_five_seconds_at_most() -> None:
    """A read that stalls times out, and its callers get a retry delay."""

    async def work() -> tuple[float, float, float]:
        loop = asyncio.get_running_loop()
        source = Script(jwks(OLD))
        source.flowing.clear()
        ring = Keyring(source, refresh_seconds=300.0, clock=loop.time)
        delay = await unavailable(ring)
        at = loop.time()
        await asyncio.sleep(1)
        return delay, at, await unavailable(ring)

    assert (5, 1005, 4) == virtually(work)


def test_caller_that_comes_late_waits_no_longer_than_the_read() -> None:
    """A caller that joins a stalled read fails together with the others."""

    async def work() -> float:
        loop = asyncio.get_running_loop()
        source = Script(jwks(OLD))
        source.flowing.clear()
        ring = Keyring(source, refresh_seconds=300.0, clock=loop.time)
        first = asyncio.create_task(unavailable(ring))
        await asyncio.sleep(3)
        await asyncio.gather(first, unavailable(ring))
        return loop.time()

    assert 1005 == virtually(work)


def test_caller_waits_no_longer_for_a_read_that_does_not_end() -> None:
    """A caller waits at most 5 s, even if the read can't be cancelled."""

    async def work() -> tuple[float, float]:
        loop = asyncio.get_running_loop()

        async def stubborn() -> bytes:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            await asyncio.sleep(60)
            return jwks(OLD)

        ring = Keyring(stubborn, refresh_seconds=300.0, clock=loop.time)
        return await unavailable(ring), loop.time()

    assert (5, 1005) == virtually(work)


def test_close_ends_a_read_under_way() -> None:
    """No task is left after `close`."""

    async def work() -> tuple[float, int]:
        world = World(OLD)
        world.script.flowing.clear()
        call = asyncio.create_task(world.knows(OLD))
        await background()

        await world.ring.close()
        with pytest.raises(GatewayError):
            await call
        return asyncio.get_running_loop().time(), len(asyncio.all_tasks())

    assert (1000, 1) == virtually(work)


async def test_close_before_the_first_read_does_nothing() -> None:
    """A keyring without a read can be closed."""
    world = World(OLD)

    await world.ring.close()

    assert 0 == world.script.reads


# ---- what is logged ----


async def test_unusable_keys_are_logged_once() -> None:
    """A set whose unusable keys stay the same isn't logged again."""
    world = World(OLD)
    bad = Signer("bad", "RSA-1024")
    with capture_logs() as events:
        async with following(world.ring):
            for keys in ([OLD, bad], [OLD, bad], [OLD, NEW, bad]):
                world.publish(*keys)
                await world.clock.slept()
            await world.clock.begun()

    logged = [event for event in events if event["event"] == "key_left_out"]
    assert [("bad", "it is shorter than 2048 bits")] == [
        (event["kid"], event["why"]) for event in logged
    ]
    read = [event["kids"] for event in events if event["event"] == "keys_read"]
    assert [["old"], ["new", "old"]] == read


async def test_failure_is_logged_once_until_it_changes() -> None:
    """A fault is logged once, and another fault again."""
    world = World(OLD)
    with capture_logs() as events:
        async with following(world.ring):
            await world.clock.slept()
            for said in (b"{", b"{", OSError("gone"), OSError("gone")):
                world.script.said = said
                await world.clock.slept()
            await world.clock.begun()

    logged = [
        (event["error"], event["kept"])
        for event in events
        if event["event"] == "keys_unavailable"
    ]
    assert [("it isn't JSON", 1), ("OSError", 1)] == logged


# ---- a file ----


@asynccontextmanager
async def of_file(file: Path) -> AsyncIterator[tuple[Keyring, Clock]]:
    """Create a keyring of a file, and follow it."""
    clock = Clock()
    ring = Keyring(
        file_reader(file),
        refresh_seconds=FILE_REFRESH_SECONDS,
        clock=clock,
        sleep=clock.sleep,
    )
    async with following(ring):
        yield ring, clock


async def test_file_is_read_every_five_seconds(tmp_path: Path) -> None:
    """New keys in the file replace the former ones."""
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(OLD))
    async with of_file(file) as (ring, clock):
        assert 5 == await clock.slept()
        assert 5 == await clock.begun()
        assert await knows(ring, OLD)
        file.write_bytes(jwks(NEW))
        clock.end(5)
        await clock.begun()

        assert await knows(ring, NEW)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda file: file.write_bytes(b'{"keys":'), id="half written"),
        pytest.param(lambda file: file.unlink(), id="gone"),
        pytest.param(lambda file: (file.unlink(), os.mkfifo(file)), id="fifo"),
        pytest.param(
            lambda file: file.write_bytes(b" " * 2**20 + b"{}"), id="too long"
        ),
    ],
)
async def test_file_that_becomes_invalid_keeps_the_keys(
    tmp_path: Path, spoil: Callable[[Path], Any]
) -> None:
    """An invalid file is read again soon; the keys are kept meanwhile."""
    file = tmp_path / "jwks.json"
    file.write_bytes(jwks(OLD))
    async with of_file(file) as (ring, clock):
        await clock.begun()
        spoil(file)
        clock.end(5)

        assert [5, 5, 5] == [await clock.slept() for _ in range(3)]
        assert await knows(ring, OLD)


def test_file_that_hangs_uses_one_thread(tmp_path: Path) -> None:
    """A file that hangs, as on a network file system, uses one thread."""
    pipe = tmp_path / "jwks.json"
    os.mkfifo(pipe)

    async def work() -> list[str]:
        clock = asyncio.get_running_loop().time
        reader = file_reader(pipe, read=Path.read_bytes)  # which waits for a writer
        ring = Keyring(reader, refresh_seconds=5.0, clock=clock)
        async with following(ring):
            await asyncio.sleep(200)
        names = [each.name for each in threading.enumerate()]
        writer = os.open(pipe, os.O_WRONLY)  # waits for what reads
        pipe.unlink()
        os.close(writer)  # ends what reads
        return names

    names = virtually(work)

    assert 1 == names.count("jwks-file")
    assert [] == [name for name in names if name.startswith("asyncio_")]


# ---- a URL ----


@asynccontextmanager
async def of_url(
    server: KeyServer, ca_file: Path | None = None
) -> AsyncIterator[tuple[Keyring, Clock]]:
    """Create a keyring of a URL."""
    clock = Clock()
    ring = Keyring(
        url_reader(server.url, ca_file=ca_file),
        refresh_seconds=URL_REFRESH_SECONDS,
        clock=clock,
        sleep=clock.sleep,
    )
    try:
        yield ring, clock
    finally:
        await ring.close()


async def test_url_is_asked_once_for_all_callers() -> None:
    """The server gets one request for any number of callers."""
    async with KeyServer(OLD) as server, of_url(server) as (ring, _):
        known = await asyncio.gather(*(knows(ring, OLD) for _ in range(50)))

    assert (50, 1) == (sum(known), server.asked)


async def test_url_that_comes_up_late_ends_the_failure() -> None:
    """The keys are found at the next read after the server works."""
    async with KeyServer() as server, of_url(server) as (ring, clock):
        server.answer(http(status=503, keep=False))
        assert 5 == await unavailable(ring)
        server.publish(OLD)
        assert 5 == await unavailable(ring)
        clock.seconds += 5

        assert await knows(ring, OLD)
    assert 2 == server.asked


async def test_url_of_https_needs_an_authority_that_is_trusted(tmp_path: Path) -> None:
    """A certificate of the trusted authority is accepted, and no other one."""
    authority, file = trustme.CA(), tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(file)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with KeyServer(OLD, tls=tls) as server:
        async with of_url(server, file) as (ring, _):
            assert await knows(ring, OLD)
        async with of_url(server) as (ring, _):
            await unavailable(ring)
    assert 1 == server.asked


async def test_authorities_that_are_replaced_are_trusted(tmp_path: Path) -> None:
    """The file of authorities is read again for each fetch."""
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    async with KeyServer(OLD, tls=tls) as server:
        read = url_reader(server.url, ca_file=file)
        with pytest.raises(KeySetError):
            await read()
        authority.cert_pem.write_to_path(file)
        assert jwks(OLD) == await read()
        file.write_text("no certificate")
        with pytest.raises(KeySetError, match=r"jwt\.ca_file: no certificates"):
            await read()


async def test_url_that_redirects_is_not_followed() -> None:
    """No server but the one in the settings is asked."""
    async with KeyServer(OLD) as other, KeyServer() as server:
        for status in (301, 302, 303, 307, 308):
            server.answer(http(status=status, keep=False, location=other.url))
            async with of_url(server) as (ring, _):
                await unavailable(ring)

    assert (0, 5) == (other.asked, server.asked)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(http(jwks(OLD), status=404, keep=False), id="404"),
        pytest.param(http(jwks(OLD), status=204, keep=False), id="204"),
        pytest.param(http("<html>", keep=False), id="html"),
        pytest.param(http(jwks(OLD) + b" " * 2**20, keep=False), id="too large"),
        pytest.param(
            http(gzip.compress(jwks(OLD)), keep=False, content_encoding="gzip"),
            id="compressed",
        ),
        pytest.param(HALF, id="cut"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="not HTTP"),
        pytest.param(b"", id="hung up"),
    ],
)
async def test_url_with_an_invalid_answer_is_asked_once(answer: bytes) -> None:
    """An invalid answer is a failure, and the request isn't repeated."""
    async with KeyServer() as server, of_url(server) as (ring, _):
        server.answer(answer)

        assert 5 == await unavailable(ring)
    assert 1 == server.asked


async def test_endless_body_of_a_url_is_read_up_to_the_limit() -> None:
    """An endless body is read up to the limit."""
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n"
    async with KeyServer() as server, of_url(server) as (ring, _):
        server.answer(head + b" " * 2 * 2**20)
        with capture_logs() as events:
            await unavailable(ring)

    assert ["it is longer than 1 MiB"] == [event["error"] for event in events]


async def test_url_without_a_server_is_a_failure() -> None:
    """If nothing listens at the URL, there are no keys."""
    async with KeyServer(OLD) as server:
        pass
    async with of_url(server) as (ring, _):
        assert 5 == await unavailable(ring)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        pytest.param(
            http("no", status=401, keep=False, content_type="text/plain"),
            "status 401, content type text/plain; if the keys aren't public, set"
            " jwt.jwks_token_file",
            id="401",
        ),
        pytest.param(
            http("", status=301, keep=False, content_type="text/html"),
            "status 301, content type text/html; redirects aren't followed: set"
            " jwt.jwks_url to the final URL",
            id="301",
        ),
        pytest.param(
            http("<html>", keep=False, content_type="text/html; charset=utf-8"),
            "it isn't a JSON object; content type text/html; charset=utf-8",
            id="html",
        ),
        pytest.param(
            http("", keep=False, content_type="a\x1b[2J/b"),
            "it isn't a JSON object; content type unknown",
            id="nothing",
        ),
    ],
)
async def test_failure_of_a_url_names_its_answer(answer: bytes, fault: str) -> None:
    """The log and readiness say what the server answered instead of keys."""
    async with KeyServer() as server, of_url(server) as (ring, _):
        server.answer(answer)
        with capture_logs() as events:
            await unavailable(ring)

    assert [fault] == [event["error"] for event in events]
    assert fault == ring.fault()


async def test_url_gets_the_token_of_a_file(tmp_path: Path) -> None:
    """The token is read again for each fetch, without its newline."""
    file = tmp_path / "token"
    file.write_text("first.to-ken~=\n")
    async with KeyServer(OLD) as server:
        read = url_reader(server.url, token_file=file)
        await read()
        file.write_text(" second ")
        await read()
        asked = list(server.heads)
        for bad in ("", "\n", "two words", "t\u00f6ken", "a\r\nHost: b", "a\0"):
            file.write_text(bad)
            with pytest.raises(KeySetError, match="jwks_token_file"):
                await read()
        file.write_text("t" * 2**20 + "t")
        with pytest.raises(KeySetError, match="jwks_token_file: it is larger than 1"):
            await read()
        file.unlink()
        with pytest.raises(KeySetError, match="jwks_token_file: no file can be read"):
            await read()

    assert [b"Bearer first.to-ken~=", b"Bearer second"] == [
        line.partition(b": ")[2]
        for head in asked
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"authorization")
    ]
    assert 2 == server.asked


async def test_url_that_redirects_gets_no_token_elsewhere(tmp_path: Path) -> None:
    """The bearer token is sent only to the URL in the settings."""
    file = tmp_path / "token"
    file.write_text("secret")
    async with KeyServer(OLD) as other, KeyServer() as server:
        server.answer(http(status=302, keep=False, location=other.url))
        with pytest.raises(KeySetError, match="302"):
            await url_reader(server.url, token_file=file)()

    assert (1, 0) == (server.asked, other.asked)


async def test_url_is_read_while_threads_of_the_loop_hang() -> None:
    """The host is resolved in its own thread, as all threads of asyncio may be busy."""
    ends = threading.Event()
    loop = asyncio.get_running_loop()
    hung = [loop.run_in_executor(None, ends.wait, 10) for _ in range(64)]
    try:
        async with KeyServer(OLD) as server, asyncio.timeout(5):
            raw = await url_reader(server.url.replace("127.0.0.1", "localhost"))()
    finally:
        ends.set()
        await asyncio.gather(*hung)

    assert {OLD.kid} == kids_of(read_keys(raw))


def test_url_that_stalls_times_out() -> None:
    """A server that doesn't answer fails the read after 5 s."""

    async def work() -> tuple[float, int]:
        async with KeyServer(OLD) as server, of_url(server) as (ring, _):
            server.stall()
            await unavailable(ring)
            return asyncio.get_running_loop().time(), server.asked

    assert (1005, 1) == virtually(work)


@pytest.mark.parametrize(
    "url",
    [
        "https://issuer.test/jwks.json",
        "HTTPS://issuer.test:8443/?set=1",
        "https://127.0.0.1/",
        "http://127.0.0.1:8080/jwks",
        "http://127.9.9.9/",
        "http://[::1]:8080/",
        "http://localhost/jwks",
    ],
)
def test_url_that_is_safe_has_no_fault(url: str) -> None:
    """Keys may be read over https, or from a loopback host."""
    assert url_fault(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        "issuer.test/jwks",
        "/jwks",
        "https://",
        "https:///jwks",
        "http://issuer.test/jwks",
        "http://127.0.0.1.issuer.test/",
        "http://localhost.issuer.test/",
        "http://localhost@issuer.test/",
        "http://0.0.0.0/",
        "http://10.0.0.1/",
        "http://[::]/",
        "https://user@issuer.test/",
        "https://:password@issuer.test/",
        "https://issuer.test/#keys",
        "https://issuer.test:port/",
        "https://issuer.test:99999/",
        "https://[::1/",
        "ftp://localhost/",
        "file:///etc/jwks",
        "unix://localhost/",
        f"https://{'a' * 64}.test/",
        "https://xn--/",
        "https://a b/",
        "https://%zz/",
        "https://issuer.test:0/",
    ],
)
def test_unsafe_url_has_a_fault(url: str) -> None:
    """Keys can't be read in plaintext from other hosts."""
    assert url_fault(url)


async def test_keys_are_new_until_they_should_be_read_again() -> None:
    """Without keys there is no such time; a failed read doesn't put it off."""
    world = World(OLD, refresh_seconds=300.0)
    before = world.ring.new_seconds
    await world.knows(OLD)
    after = world.ring.new_seconds
    world.script.said = OSError("down")
    world.clock.seconds += 400.0
    await world.knows(NEW)

    assert (None, 300.0, -100.0) == (before, after, world.ring.new_seconds)


async def test_keyring_says_how_old_its_keys_are() -> None:
    """It knows the number and the age of its keys, and when it reads again."""
    world = World(OLD, NEW)
    before = (world.ring.keys, world.ring.age_seconds, world.ring.due_seconds)
    await world.knows(OLD)
    world.clock.seconds += 100

    assert (None, None, 0.0) == before
    assert world.ring.keys
    assert (2, 100.0, 200.0) == (
        len(world.ring.keys.keys),
        world.ring.age_seconds,
        world.ring.due_seconds,
    )
