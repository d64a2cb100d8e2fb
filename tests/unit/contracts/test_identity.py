import tomllib
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurmlet.contracts.identity import (
    Identity,
    IdentityError,
    IdentityMap,
    parse_identity_map,
    permitted,
)


def parse(text: str) -> IdentityMap:
    return parse_identity_map(tomllib.loads(text))


MAP = parse(
    """
    [namespaces.alice]
    user = "alice"
    accounts = ["phys"]
    partitions = ["cpu", "debug"]
    [namespaces."ml-*"]
    user = "mlsvc"
    sharedTrust = true
    [namespaces."ml-prod-*"]
    user = "mlprod"
    sharedTrust = true
    [namespaces.ml-prod-x]
    user = "x"
    """
)


@pytest.mark.parametrize(
    ("namespace", "user"),
    [
        ("alice", "alice"),
        ("ml-1", "mlsvc"),
        ("ml-", "mlsvc"),
        ("ml-prod-1", "mlprod"),
        ("ml-prod-x", "x"),
    ],
)
def test_the_exact_entry_then_the_longest_glob(namespace: str, user: str) -> None:
    assert MAP.lookup(namespace).user == user


@pytest.mark.parametrize("namespace", ["alice2", "Alice", "ml", "", "x-ml-1"])
def test_an_unlisted_namespace_is_denied_with_the_remedy(namespace: str) -> None:
    with pytest.raises(IdentityError, match="ask the administrator"):
        MAP.lookup(namespace)


def test_an_empty_map_denies_everything() -> None:
    with pytest.raises(IdentityError):
        parse("").lookup("alice")


def test_same_name_maps_what_is_a_user_name_and_nothing_else() -> None:
    same = parse('default = "same-name"\n[namespaces.bob]\nuser = "robert"')
    assert same.lookup("carol") == Identity(user="carol")
    assert same.lookup("bob").user == "robert"
    for namespace in ("0carol", "-x", "a" * 33):
        with pytest.raises(IdentityError):
            same.lookup(namespace)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('default = "allow"', 'default: \'allow\'; use "deny" or "same-name"'),
        ("[namespaces.a]", "namespaces.a.user: missing"),
        ('[namespaces.a]\nuser = "-root"', "'-root' is no Unix user name"),
        ('[namespaces.a]\nuser = ""', "is no Unix user name"),
        ('[namespaces.a]\nuser = "a\\nb"', "is no Unix user name"),
        ("[namespaces.a]\nuser = 1", "namespaces.a.user: expected str"),
        ('[namespaces.a]\nuser = "a"\nacounts = []', "acounts: unknown key"),
        ('[namespaces.a]\nuser = "a"\naccounts = "x"', "accounts: expected a list"),
        ('[namespaces."A"]\nuser = "a"', "'A' is no namespace or glob"),
        ('[namespaces."[a]"]\nuser = "a"', "is no namespace or glob"),
        ("minUid = true", "minUid: expected int"),
        ('[namespaces."a*"]\nuser = "a"\n[namespaces."*a"]\nuser = "b"', "equally long"),
        ('[namespaces."a?"]\nuser = "a"\n[namespaces."?b"]\nuser = "b"', "equally long"),
    ],
)
def test_a_mistake_is_named_at_load(text: str, said: str) -> None:
    with pytest.raises(IdentityError) as caught:
        parse(text)
    assert said in str(caught.value)


ALICE = '[namespaces.a]\nuser = "alice"\n'
SAME_NAME = 'default = "same-name"\n'


@pytest.mark.parametrize(
    ("text", "also"),
    [
        ('[namespaces."a-*"]\nuser = "alice"', "all namespaces that match"),
        ('[namespaces."a?"]\nuser = "alice"', "all namespaces that match"),
        (f'{ALICE}[namespaces.b]\nuser = "alice"\nsharedTrust = true', "namespaces 'b'"),
        (f'[namespaces.b]\nuser = "alice"\nsharedTrust = true\n{ALICE}', "namespaces 'b'"),
    ],
)
def test_who_shares_a_user_has_to_say_so(text: str, also: str) -> None:
    with pytest.raises(IdentityError) as caught:
        parse(text)
    assert f"'alice' is also the user of {also}; set sharedTrust = true" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f"{ALICE}sharedTrust = true\n[namespaces.b]\nuser = 'alice'\nsharedTrust = true",
        '[namespaces."a-*"]\nuser = "alice"\nsharedTrust = true',
    ],
)
def test_what_is_said_or_not_shared_loads(text: str) -> None:
    parse(text)


def test_same_name_gives_nobody_the_user_of_another_namespace() -> None:
    with pytest.raises(IdentityError, match="would run as the user of 'a'; ask the administrator"):
        parse(f"{SAME_NAME}{ALICE}").lookup("alice")
    assert parse(f"{SAME_NAME}{ALICE}sharedTrust = true").lookup("alice").user == "alice"


@given(
    st.dictionaries(
        st.text(alphabet="ab*", min_size=1, max_size=3),
        st.fixed_dictionaries({"user": st.sampled_from(["a", "b"]), "sharedTrust": st.booleans()}),
        max_size=4,
    ),
    st.sampled_from(["deny", "same-name"]),
)
def test_two_namespaces_of_one_user_have_said_so(
    namespaces: dict[str, dict[str, Any]], default: str
) -> None:
    try:
        loaded = parse_identity_map({"default": default, "namespaces": namespaces})
    except IdentityError:
        return
    names = ["a", "b", "aa", "ab", "ba", "bb"]
    seen: dict[str, str] = {}
    for name in names:
        try:
            user = loaded.lookup(name).user
        except IdentityError:
            continue
        first = seen.setdefault(user, name)
        entries = [item for item in loaded.namespaces.values() if item.user == user]
        assert first == name or (entries and all(item.sharedTrust for item in entries))


def test_globs_of_equal_length_that_never_meet_are_fine() -> None:
    shared = 'user = "{}"\nsharedTrust = true\n'
    both = parse(
        f'[namespaces."a-*"]\n{shared.format("a")}[namespaces."b-*"]\n{shared.format("b")}'
    )
    assert both.lookup("b-1").user == "b"


GLOBS = st.text(alphabet="ab-*?", min_size=1, max_size=5)


@given(
    st.dictionaries(GLOBS, st.just({"user": "u", "sharedTrust": True}), max_size=4),
    st.text(alphabet="ab-", min_size=1, max_size=6),
)
def test_a_map_that_loads_is_never_ambiguous(
    namespaces: dict[str, dict[str, Any]], namespace: str
) -> None:
    try:
        loaded = parse_identity_map({"namespaces": namespaces})
    except IdentityError:
        return
    try:
        loaded.lookup(namespace)
    except IdentityError as error:
        assert "is not mapped" in str(error)


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("account", "phys", True),
        ("account", "chem", False),
        ("account", "phys,chem", False),
        ("partition", "debug,cpu", True),
        ("partition", "cpu,gpu", False),
        ("partition", "", False),
        ("qos", "anything", True),
    ],
)
def test_what_the_map_lets_a_namespace_ask_for(
    option: Literal["account", "partition", "qos"], value: str, allowed: bool
) -> None:
    assert permitted(MAP.lookup("alice"), option, value) is allowed
