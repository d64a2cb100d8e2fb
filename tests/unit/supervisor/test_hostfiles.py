"""/etc/hosts and /etc/resolv.conf of a pod."""

from slurmlet.supervisor.hostfiles import hosts, resolv_conf

NODE = "nameserver 10.0.0.1\nsearch lab\noptions ndots:1\n"


def test_aliases_follow_the_nodes_hosts() -> None:
    spec = {"hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}
    assert hosts(spec, node="127.0.0.1 localhost\n") == (
        "127.0.0.1 localhost\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"
    )
    assert hosts({}, node="127.0.0.1 localhost\n") == "127.0.0.1 localhost\n"


def test_the_nodes_resolver_is_completed() -> None:
    assert resolv_conf({}, node=NODE) == NODE
    config = {
        "nameservers": ["10.0.0.2", "10.0.0.1"],
        "searches": ["x"],
        "options": [{"name": "ndots", "value": "5"}, {"name": "edns0"}],
    }
    assert resolv_conf({"dnsConfig": config}, node=NODE) == (
        "nameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch lab x\noptions ndots:1 ndots:5 edns0\n"
    )


def test_none_of_the_nodes_resolver() -> None:
    spec = {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.0.0.2"]}}
    assert resolv_conf(spec, node=NODE) == "nameserver 10.0.0.2\n"
