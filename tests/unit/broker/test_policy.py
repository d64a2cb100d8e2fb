"""Who may run pods, and as whom."""

import dataclasses

import pytest

from slurmlet.broker.policy import Account, account_of, authorised_options
from slurmlet.contracts.brokerproto import RefusedError
from slurmlet.contracts.identity import Identity, IdentityMap

ALICE = Account(
    name="alice",
    uid=2001,
    gid=2001,
    groups=(2001,),
    home="/home/alice",
    shell="/bin/bash",
    known_as="alice",
)
MAP = IdentityMap(namespaces={"alice": Identity(user="alice")})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"uid": 0}, "uid 0, below"),
        ({"uid": 999}, "uid 999, below the least permitted 1000"),
        ({"shell": "/usr/sbin/nologin"}, "may not log in"),
        ({"shell": "/bin/false"}, "may not log in"),
        ({"groups": (2001, 0)}, "group root"),
        ({"gid": 0}, "group root"),
        ({"home": "home/alice"}, "unusable home"),
        ({"home": "/home/../etc"}, "unusable home"),
        ({"home": "/home/a\nb"}, "unusable home"),
        ({"home": "/home/a\\b"}, "unusable home"),
    ],
)
def test_accounts_that_may_not_run_pods(change: dict[str, object], words: str) -> None:
    account = dataclasses.replace(ALICE, **change)  # type: ignore[arg-type]
    with pytest.raises(RefusedError, match=words):
        account_of("alice", identities=MAP, find=lambda _: account)


def test_the_map_cannot_lower_the_least_uid_below_1000() -> None:
    account = dataclasses.replace(ALICE, uid=500)
    with pytest.raises(RefusedError, match="below the least permitted 1000"):
        account_of("alice", identities=dataclasses.replace(MAP, minUid=1), find=lambda _: account)


def test_a_user_that_does_not_exist() -> None:
    with pytest.raises(RefusedError, match=r"does not exist.*ask the administrator"):
        account_of("alice", identities=MAP, find=lambda _: None)


def test_a_second_name_of_a_uid_shares_it_only_if_that_is_said() -> None:
    account = dataclasses.replace(ALICE, known_as="bob")
    with pytest.raises(RefusedError, match="has the uid of 'bob' and sharedTrust is not set"):
        account_of("alice", identities=MAP, find=lambda _: account)
    said = IdentityMap(namespaces={"alice": Identity(user="alice", sharedTrust=True)})
    assert account_of("alice", identities=said, find=lambda _: account)[1] == account


def test_a_good_account_is_found() -> None:
    assert account_of("alice", identities=MAP, find=lambda _: ALICE)[1] == ALICE


def test_lists_restrict_and_complete() -> None:
    identity = Identity(user="alice", accounts=("phys", "chem"), qos=("normal",))
    options = authorised_options({"account": "chem"}, identity=identity, namespace="alice")
    assert options == {"account": "chem", "qos": "normal"}
    with pytest.raises(RefusedError, match="qos 'high' is not permitted"):
        authorised_options({"qos": "high"}, identity=identity, namespace="alice")
