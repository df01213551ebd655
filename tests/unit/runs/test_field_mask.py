"""The members of a run that a caller receives, in fields and in `unmodeled_json`."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor
from hypothesis import example, given, settings
from hypothesis import strategies as st

from healthomics.v1.run_pb2 import Run, RunStatus
from healthomics_gateway.runs.field_mask import ALL, Selection, unknown_paths
from healthomics_gateway.upstream.translate import run_from_json

STRUCTURES = {  # their paths, with AWS's
    field.name: field.json_name
    for field in Run.DESCRIPTOR.fields
    if not field.is_repeated
    and field.message_type
    and field.message_type.file.package == "healthomics.v1"
}
OWN = ("unmodeled_json", "observe_time")  # the gateway's, not AWS's
STRANGE_NAME = '"logLocation.runLogStream"'  # of a top-level member with a dot in it


def leaves_of(message: Descriptor = Run.DESCRIPTOR) -> dict[str, str]:
    """Return each member of AWS's that isn't a structure: its path and AWS's path."""
    leaves = {}
    for field in message.fields:
        if field.name in STRUCTURES:
            for path, name in leaves_of(field.message_type).items():
                leaves[f"{field.name}.{path}"] = f"{field.json_name}.{name}"
        elif field.name not in OWN:
            leaves[field.name] = field.json_name
    return leaves


LEAVES = leaves_of()
KEPT_LEAVES = {name: path for path, name in LEAVES.items()}


def full_run() -> Run:
    """Return a run with the simplest value of its type in every field."""
    run = Run()
    for path in LEAVES:
        *outer, name = path.split(".")
        put(getattr(run, outer[0]) if outer else run, name)
    run.observe_time.seconds = 7
    return run


def put(message: Any, name: str) -> None:
    """Set a field; one with presence gets its default value, which is easily lost."""
    field = message.DESCRIPTOR.fields_by_name[name]
    kind = field.message_type.full_name if field.message_type else None
    if kind == "google.protobuf.Timestamp":
        getattr(message, name).SetInParent()
    elif kind == "google.protobuf.Value":
        getattr(message, name).null_value = 0
    elif kind:
        getattr(message, name)["key"] = ""
    elif field.is_repeated:
        getattr(message, name).append("")
    elif field.enum_type:
        setattr(message, name, 1)
    else:
        setattr(message, name, field.default_value)


def kept_run() -> Run:
    """Return a run with every member in `unmodeled_json`, under AWS's name."""
    run = Run(unmodeled_json=dict.fromkeys(KEPT_LEAVES, "1"))
    run.observe_time.seconds = 7
    return run


def typed_leaves(run: Run) -> set[str]:
    """Return the paths of the members that are in their fields."""
    leaves = set()
    for field, value in run.ListFields():
        if field.name in STRUCTURES:
            leaves |= {f"{field.name}.{each.name}" for each, _ in value.ListFields()}
        elif field.name not in OWN:
            leaves.add(field.name)
    return leaves


def kept_leaves(run: Run) -> set[str]:
    """Return the paths of the members that are in `unmodeled_json`."""
    return {KEPT_LEAVES[name] for name in run.unmodeled_json}


def masked(run: Run, *paths: str, withheld: Iterable[str] = ()) -> Run:
    """Return what a caller with a mask of `paths` receives; `None` for no mask."""
    return Selection(frozenset(paths) or None, frozenset(withheld)).of(run)


def chosen(paths: set[str]) -> set[str]:
    """Return the members that a mask selects: those of each path, or inside it."""
    return {
        leaf
        for leaf in LEAVES
        for path in paths
        if leaf == path or leaf.startswith(f"{path}.")
    }


masks = st.sets(st.sampled_from([*LEAVES, *STRUCTURES]), min_size=1)
members = st.sets(st.sampled_from([*LEAVES.values(), *STRUCTURES.values()]))
AWS_NAMES = {name: path for path, name in (LEAVES | STRUCTURES).items()}


@pytest.mark.guarantee("field-mask")
@settings(max_examples=200, deadline=None, derandomize=True)
@given(paths=masks)
def test_mask_selects_typed_and_kept_members_alike(paths: set[str]) -> None:
    """A mask selects its members in fields and in `unmodeled_json` alike."""
    assert chosen(paths) == typed_leaves(masked(full_run(), *paths))
    assert chosen(paths) == kept_leaves(masked(kept_run(), *paths))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(names=members)
def test_withheld_members_are_left_out_of_fields_and_unmodeled_json(
    names: set[str],
) -> None:
    """Members withheld by AWS's names are in neither place; the others stay."""
    expected = LEAVES.keys() - chosen({AWS_NAMES[name] for name in names})

    assert expected == typed_leaves(masked(full_run(), withheld=names))
    assert expected == kept_leaves(masked(kept_run(), withheld=names))


@pytest.mark.guarantee("withheld-members")
@settings(max_examples=200, deadline=None, derandomize=True)
@given(paths=masks, names=members)
def test_mask_does_not_select_withheld_members(
    paths: set[str], names: set[str]
) -> None:
    """A mask selects its members without the withheld ones."""
    expected = chosen(paths) - chosen({AWS_NAMES[name] for name in names})

    assert expected == typed_leaves(masked(full_run(), *paths, withheld=names))
    assert expected == kept_leaves(masked(kept_run(), *paths, withheld=names))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(paths=masks, names=members)
def test_selection_never_changes_the_shared_run(
    paths: set[str], names: set[str]
) -> None:
    """The run that a source returned is the same after any selection."""
    for run, before in ((full_run(), full_run()), (kept_run(), kept_run())):
        masked(run, *paths, withheld=names).Clear()
        masked(run, *paths).Clear()
        masked(run, withheld={*names, "name"}).Clear()
        assert before == run


@settings(max_examples=50, deadline=None, derandomize=True)
@given(paths=masks, names=members)
def test_observe_time_is_always_returned(paths: set[str], names: set[str]) -> None:
    """No mask and no withheld name removes `observe_time`."""
    withheld = {*names, "observeTime"}

    assert 7 == masked(full_run(), *paths, withheld=withheld).observe_time.seconds
    assert 7 == masked(full_run(), withheld=withheld).observe_time.seconds


def test_selection_of_everything_is_the_run_itself() -> None:
    """Without a mask and without withheld names, nothing is copied."""
    run = full_run()

    assert run is Selection().of(run)


def test_mask_of_every_member_changes_no_value() -> None:
    """A mask of all members changes nothing, not even a zero or an empty text."""
    assert full_run() == masked(full_run(), *LEAVES)


@pytest.mark.parametrize("path", sorted(LEAVES))
def test_mask_adds_no_member(path: str) -> None:
    """A member that AWS didn't send stays absent if a mask names it."""
    assert Run(observe_time={"seconds": 7}) == masked(
        Run(observe_time={"seconds": 7}), path
    )


def test_mask_of_observe_time_selects_nothing_else() -> None:
    """The path `observe_time` selects no member."""
    assert [] == unknown_paths(["observe_time"])
    assert Run(observe_time={"seconds": 7}) == masked(full_run(), "observe_time")


def test_mask_of_unmodeled_json_selects_all_of_it() -> None:
    """The path `unmodeled_json` selects all of it, and no field."""
    run = full_run()
    run.unmodeled_json["newMember"] = "1"
    run.unmodeled_json["logLocation.newStream"] = "2"

    assert [] == unknown_paths(["unmodeled_json"])
    assert Run(
        unmodeled_json={"newMember": "1", "logLocation.newStream": "2"},
        observe_time={"seconds": 7},
    ) == masked(run, "unmodeled_json")


def test_mask_of_unmodeled_json_and_a_member_selects_both() -> None:
    """Paths add up: all of `unmodeled_json`, and the field of one member."""
    run = Run(name="mine", arn="arn", unmodeled_json={"newMember": "1"})

    assert ("mine", "", {"newMember": "1"}) == (
        (both := masked(run, "unmodeled_json", "name")).name,
        both.arn,
        dict(both.unmodeled_json),
    )


def test_withheld_member_is_not_in_unmodeled_json() -> None:
    """A withheld member isn't in `unmodeled_json`, even if a mask selects all of it."""
    run = Run(unmodeled_json={"newMember": "1", "sessionPolicy": "2", "other": "3"})
    selected = masked(run, "unmodeled_json", withheld={"sessionPolicy", "newMember"})

    assert {"other": "3"} == dict(selected.unmodeled_json)


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        pytest.param(
            "log_location",
            {"logLocation.newStream", "logLocation.runLogStream"},
            id="structure",
        ),
        pytest.param(
            "log_location.run_log_stream", {"logLocation.runLogStream"}, id="member"
        ),
        pytest.param("log_level", set(), id="a-neighbour"),
        pytest.param("tags", {"tags"}, id="map"),
    ],
)
def test_mask_selects_no_member_with_a_similar_name(path: str, keys: set[str]) -> None:
    """A path selects its member in `unmodeled_json`, and none with a similar name."""
    run = Run(
        unmodeled_json={
            "logLocation.newStream": "1",
            "logLocation.runLogStream": "2",
            "logLocations": "3",
            "tags": "4",
            "tagsToo": "5",
            STRANGE_NAME: "6",
        }
    )

    assert keys == masked(run, path).unmodeled_json.keys()


def test_mask_into_a_structure_selects_it_if_it_is_unmodeled() -> None:
    """A structure that AWS sent as another type is selected by paths inside it."""
    run = Run(unmodeled_json={"logLocation": '"text"', "vpcConfig": "[]"})

    assert {"logLocation": '"text"'} == dict(
        masked(run, "log_location.run_log_stream").unmodeled_json
    )


@pytest.mark.parametrize(
    ("name", "left"),
    [
        pytest.param("newMember", {"newMembers", "logLocation.a"}, id="unknown"),
        pytest.param("logLocation.a", {"newMember", "newMembers"}, id="nested"),
        pytest.param("logLocation", {"newMember", "newMembers"}, id="structure"),
        pytest.param(
            "nothing", {"newMember", "newMembers", "logLocation.a"}, id="absent"
        ),
    ],
)
def test_withheld_member_outside_the_contract_is_left_out(
    name: str, left: set[str]
) -> None:
    """A member newer than the contract is withheld by its name, and no other is."""
    run = Run(
        unmodeled_json={"newMember": "1", "newMembers": "2", "logLocation.a": "3"}
    )

    assert left == masked(run, withheld={name}).unmodeled_json.keys()


def test_withheld_member_of_a_structure_keeps_the_others() -> None:
    """`logLocation.runLogStream` is withheld, the engine's stream stays."""
    run = Run(log_location={"run_log_stream": "run", "engine_log_stream": "engine"})

    assert Run(log_location={"engine_log_stream": "engine"}, observe_time={}) == masked(
        run, withheld={"logLocation.runLogStream"}
    )


def test_withheld_member_of_an_absent_structure_adds_nothing() -> None:
    """An absent structure stays absent if a member of it is withheld."""
    assert Run(observe_time={}) == masked(Run(), withheld={"logLocation.runLogStream"})


@pytest.mark.parametrize("structure", STRUCTURES)
def test_structure_without_members_is_absent(structure: str) -> None:
    """A mask and a withheld member leave no empty structure."""
    inside, outside = [path for path in LEAVES if path.startswith(f"{structure}.")][:2]
    run = Run()
    put(getattr(run, structure), outside.partition(".")[2])

    assert not masked(run, inside).HasField(structure)
    withholding = Selection(withheld=frozenset({LEAVES[outside]}))
    assert not withholding.of(run).HasField(structure)


@pytest.mark.parametrize("name", ["logLocation.runLogStream", "logLocation"])
def test_withheld_path_withholds_a_member_of_this_name_too(name: str) -> None:
    """A top-level member whose name looks like a withheld path is withheld too."""
    run = Run(unmodeled_json={STRANGE_NAME: "1", '"logLocations.x"': "2"})

    assert {'"logLocations.x"': "2"} == dict(
        masked(run, withheld={name}).unmodeled_json
    )


CANARY = "canary"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["a", "vpcId"]), inner, max_size=2)
    ),
    max_leaves=4,
)
BEARING = st.recursive(  # JSON that has the canary somewhere, in a text or a name
    st.sampled_from([CANARY, {CANARY: 1}, f"vpcId={CANARY}"]),
    lambda inner: (
        st.builds(lambda one, other: [other, one], inner, JSON)
        | st.builds(lambda one, name: {name: one}, inner, st.sampled_from("ab"))
    ),
    max_leaves=3,
)


@pytest.mark.guarantee("withheld-members")
@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(
        [*AWS_NAMES, "vpcConfig.new", "new.secret", "parameters.secret", "tags.secret"]
    ),
    bearing=BEARING,
    shape=st.sampled_from(["member", "array", "whole", "dotted", "inner"]),
    others=st.dictionaries(st.sampled_from([*AWS_NAMES, "newer"]), JSON, max_size=3),
    paths=st.none() | masks | st.just({"unmodeled_json"}),
)
@example("parameters.secret", CANARY, "member", {}, None)
@example("tags.secret", CANARY, "member", {}, None)
def test_withheld_member_is_left_out_whatever_its_type(
    name: str, bearing: Any, shape: str, others: dict[str, Any], paths: set[str] | None
) -> None:
    """No value is returned for it, even if AWS sends it as another type."""
    outer, _, inner = name.partition(".")
    value: Any = {inner: bearing} if inner else bearing
    sent: dict[str, Any] = {
        "member": {outer: value},
        "array": {outer: [value]},
        "whole": {outer: bearing},
        "dotted": {name: bearing},
        "inner": {outer: {inner: bearing, "neighbour": 1} if inner else {"x": bearing}},
    }[shape]
    if shape == "whole" and outer in AWS_NAMES and inner and type(bearing) is dict:
        sent = {outer: {inner: bearing}}  # else it is another member of the structure
    body = json.dumps(others | {"id": "7"} | sent)
    if "id" in sent:
        return  # an answer about another run
    answered = Selection(
        None if paths is None else frozenset(paths), frozenset({name})
    ).of(run_from_json(body.encode(), run_id="7"))

    assert CANARY not in str(answered)


def test_value_outside_its_enum_is_selected_with_the_field() -> None:
    """A status outside the contract is selected by the path `status`."""
    run = Run(name="mine", unmodeled_json={"status": '"PAUSED"'})
    selected = masked(run, "status")

    assert {"status": '"PAUSED"'} == dict(selected.unmodeled_json)
    assert RunStatus.RUN_STATUS_UNSPECIFIED == selected.status


def test_paths_of_every_field_are_known() -> None:
    """Every field of Run and of its structures, and `*`, may be in a mask."""
    paths = [*LEAVES, *STRUCTURES, *OWN, ALL]

    assert [] == unknown_paths(paths)


@pytest.mark.parametrize(
    "path",
    [
        pytest.param("", id="empty"),
        pytest.param("nothing", id="unknown"),
        pytest.param("startTime", id="camel-case"),
        pytest.param("log_location.runLogStream", id="camel-case-inside"),
        pytest.param("logLocation.run_log_stream", id="camel-case-outside"),
        pytest.param("log_location.nothing", id="unknown-inside"),
        pytest.param("run_log_stream", id="without-its-structure"),
        pytest.param("log_location.", id="dot-at-the-end"),
        pytest.param(".status", id="dot-at-the-start"),
        pytest.param("status.", id="dot-behind-a-value"),
        pytest.param("tags.mine", id="key-of-a-map"),
        pytest.param("parameters.struct_value", id="inside-a-document"),
        pytest.param("start_time.seconds", id="inside-a-timestamp"),
        pytest.param("log_location.*", id="star-inside"),
        pytest.param("**", id="two-stars"),
        pytest.param(" status", id="space"),
        pytest.param("STATUS", id="upper-case"),
        pytest.param("status,name", id="two-in-one"),
    ],
)
def test_path_of_no_field_is_unknown(path: str) -> None:
    """A path must be a field's name as it is written in the contract."""
    assert [1] == unknown_paths(["status", path, "name"])
