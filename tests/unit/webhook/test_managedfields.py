from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.webhook.decision import add, remove
from slurmlet.webhook.managedfields import ITEMS, overriding, without

PORT = 'k:{"port":80,"protocol":"TCP"}'


def entry(fields: dict[str, Any], manager: str = "helm") -> dict[str, Any]:
    return {"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields}


def test_a_field_is_taken_from_all_managers() -> None:
    entries = [
        entry({"f:spec": {"f:type": {}, "f:selector": {}}}),
        entry({"f:spec": {"f:type": {}, "f:ports": {}}}, "kubectl"),
    ]
    assert without(entries, [("spec", "type")]) == [
        entry({"f:spec": {"f:selector": {}}}),
        entry({"f:spec": {"f:ports": {}}}, "kubectl"),
    ]


def test_who_owned_nothing_else_is_gone_and_no_parent_is_owned_instead() -> None:
    entries = [entry({"f:spec": {"f:type": {}}}), entry({"f:metadata": {"f:labels": {"f:a": {}}}})]
    assert without(entries, [("spec", "type")]) == entries[1:]


def test_a_field_of_every_item() -> None:
    fields: dict[str, Any] = {"f:ports": {".": {}, PORT: {".": {}, "f:port": {}, "f:nodePort": {}}}}
    (left,) = without([entry({"f:spec": fields})], [("spec", "ports", ITEMS, "nodePort")])
    assert left["fieldsV1"]["f:spec"]["f:ports"] == {".": {}, PORT: {".": {}, "f:port": {}}}


def test_a_field_that_is_owned_as_a_whole_stays() -> None:
    entries = [entry({"f:spec": {"f:ports": {}}})]
    assert without(entries, [("spec", "ports", ITEMS, "nodePort")]) == entries


@pytest.mark.parametrize("fields", [{}, None])
def test_an_entry_that_owns_nothing_stays_as_it_is(fields: Any) -> None:
    entries = [entry(fields), {"manager": "old"}]
    assert without(entries, [("spec", "type")]) == entries


def test_a_patch_takes_what_it_writes() -> None:
    ports: dict[str, Any] = {PORT: {".": {}, "f:nodePort": {}, "f:port": {}}}
    fields = {
        "f:metadata": {"f:annotations": {"f:a/b~c": {}, "f:kept": {}}},
        "f:spec": {"f:ports": ports, "f:type": {}},
    }
    patch = [
        add("spec", "type", value="x"),
        remove("spec", "ports", "0", "nodePort"),
        add("metadata", "annotations", "a/b~c", value="x"),
    ]
    *ops, last = overriding({"metadata": {"managedFields": [entry(fields)]}}, patch)
    assert ops == patch
    assert last["path"] == "/metadata/managedFields"
    assert last["value"] == [
        entry(
            {
                "f:metadata": {"f:annotations": {"f:kept": {}}},
                "f:spec": {"f:ports": {PORT: {".": {}, "f:port": {}}}},
            }
        )
    ]


@pytest.mark.parametrize("item", [{}, {"metadata": {"managedFields": [entry({"f:spec": {}})]}}])
def test_nothing_to_take_is_no_further_operation(item: dict[str, Any]) -> None:
    patch = [add("spec", "type", value="x")]
    assert overriding(item, patch) == tuple(patch)


FIELDS: st.SearchStrategy[Any] = st.recursive(
    st.just({}),
    lambda inner: st.dictionaries(
        st.sampled_from(["f:spec", "f:type", "f:ports", PORT, ".", "f:nodePort", 'v:"x"']), inner
    ),
    max_leaves=12,
)
PATHS = st.lists(
    st.sampled_from([("spec", "type"), ("spec", "ports", ITEMS, "nodePort"), ("spec",)]), max_size=3
)


def leaves(fields: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    if not fields:
        return {path} if path else set()
    return {leaf for key, inner in fields.items() for leaf in leaves(inner, (*path, key))}


@given(FIELDS, PATHS)
def test_nothing_is_owned_that_was_not_owned_before(
    fields: dict[str, Any], paths: list[tuple[str, ...]]
) -> None:
    before = [entry(fields)]
    after = without(before, paths)
    owned = {leaf for left in after for leaf in leaves(left["fieldsV1"])}
    assert owned <= leaves(fields)
    assert without(after, paths) == after
