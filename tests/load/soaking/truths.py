"""The runs of the upstream, which change from answer to answer."""

from __future__ import annotations

import json
from random import Random

from testkit.answers import answer, any_json
from testkit.lying_upstream import ARN

WALK = ("PENDING", "STARTING", "RUNNING", "STOPPING", "COMPLETED")
ANSWERS_A_STEP = 3  # statuses of a run, in order
NOVELTIES = ("queuePosition", "newMember", "energyUse", "region")
BIG_BYTES = (2_000, 8_000, 20_000, 60_000, 200_000)  # of parameters; beyond 16 KiB
# an answer of this size is parsed in a thread


def truth(random: Random, run_id: str, nth: int) -> str:
    """Return answer number n about a run, as the JSON text that is sent."""
    kind = random.random()
    if kind < 0.25:
        return _about(run_id, answer(random).decode())
    members = _walked(random, run_id, nth)
    text = json.dumps(members)
    if kind < 0.4:
        novel = (f"{json.dumps(each)}: {any_json(random)}" for each in NOVELTIES)
        return f"{text[:-1]}, {', '.join(novel)}}}"
    if kind < 0.45:
        members["parameters"] = _big(random)
        return json.dumps(members, ensure_ascii=False)
    return text


def _about(run_id: str, text: str) -> str:
    """Make any answer one about this run: of duplicate members the last counts."""
    return f'{text.rstrip()[:-1]}, "id": "{run_id}"}}'


def _walked(random: Random, run_id: str, nth: int) -> dict[str, object]:
    step = min(nth // ANSWERS_A_STEP, len(WALK) - 1)
    members: dict[str, object] = {
        "id": run_id,
        "arn": f"{ARN}/run/{run_id}",
        "uuid": f"0d5c1f6e-94a8-4a3b-8f55-{int(run_id):012}",
        "name": f"germline {run_id}, asked {nth} times",
        "status": WALK[step],
        "creationTime": "2026-01-02T03:04:05.678901Z",
        "priority": random.randint(0, 100_000),
        "storageCapacity": 1200,
        "tags": {"project": "trio", "asked": str(nth)},
        "parameters": {"sample": f"NA{random.randint(10_000, 99_999)}", "depth": 30.5},
    }
    if step >= WALK.index("RUNNING"):
        members["startTime"] = "2026-01-02T03:09:00Z"
        members["logLocation"] = {
            "engineLogStream": f"{ARN}:engine/{run_id}",
            "runLogStream": f"{ARN}:run/{run_id}",
        }
        members["vpcConfig"] = {"subnetIds": ["subnet-1", "subnet-2"]}
    if WALK[step] == "COMPLETED":
        members["stopTime"] = "2026-01-02T04:00:00.000000001Z"
    return members


def _big(random: Random) -> dict[str, object]:
    return {
        f"sample {at}": f"s3://bucket/{random.getrandbits(200):x}/Zoë.cram"
        for at in range(random.choice(BIG_BYTES) // 85)
    }
