"""What root does to the network for pods: interfaces, rules on the host's side, addresses."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.e2e import nodes
from tests.e2e.conftest import Lab
from tests.e2e.pods import until

pytestmark = pytest.mark.disruptive
JOBS = "/run/slurmlet/jobs"
RESTING = "/run/slurmlet/resting"
LEASES = "/run/slurmlet/cni/slurmlet"
CONFIG = "/etc/slurmlet/slurmlet.toml"
PROGRAM = "/opt/slurmlet/current/bin/python -I -m slurmlet.spank"
DENIED = "10.77.0.250"
"""A second address of c2 that pods may not reach."""
PORT = 7777

LISTENER = f"""
import selectors, socket, sys
sel = selectors.DefaultSelector()
for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
    s = socket.socket(socket.AF_INET6, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("::", {PORT}))
    if kind == socket.SOCK_STREAM:
        s.listen()
    sel.register(s, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _ in sel.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            peer, who = key.fileobj.accept()
            print("tcp", who[0].removeprefix("::ffff:"), who[1], flush=True)
            peer.close()
        else:
            data, who = key.fileobj.recvfrom(100)
            print("udp", data.decode(), who[0].removeprefix("::ffff:"), who[1], flush=True)
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A job of a user on a node with a sandbox that has a network of its own."""

    lab: Lab
    id: str
    node: str
    user: str

    @property
    def root(self) -> str:
        return f"{JOBS}/{self.id}"

    def record(self) -> dict[str, Any]:
        text = self.lab.run(self.node, ["cat", f"{self.root}/record.json"]).stdout
        data: dict[str, Any] = json.loads(text)
        return data

    @property
    def ip(self) -> str:
        return str(self.record()["podIP"])

    @property
    def interface(self) -> str:
        return str(self.record()["interface"]["name"])

    @property
    def nsenter(self) -> str:
        return f"nsenter --user={self.root}/ns/user --net={self.root}/ns/net"

    def inside(self, script: str, *, check: bool = True) -> str:
        """Output of a script that the user runs as root of the sandbox."""
        argv = [*self.nsenter.split(), "bash", "-c", script]
        done = self.lab.run(self.node, argv, user=self.user, check=check, timeout=90)
        return done.stdout

    def send(
        self, to: str, *, word: str, source: str = "", port: int = 0, kind: str = "udp"
    ) -> None:
        """Send a datagram, or try to connect for a second; whether it arrives is not asked here."""
        family = "AF_INET6" if ":" in to else "AF_INET"
        target = f"socket.getaddrinfo({to!r}, {PORT})[0][4]"
        self.inside(
            "python3 -c '"
            + f"""
import socket
s = socket.socket(socket.{family}, socket.{"SOCK_DGRAM" if kind == "udp" else "SOCK_STREAM"})
s.settimeout(1)
if {bool(source or port)}:
    s.bind(("{source}", {port}))
try:
    s.connect({target.replace("'", '"')})
    s.send(b"{word}")
except OSError:
    pass
""".strip()
            + "'"
        )

    def cancel(self) -> None:
        self.lab.run("ctl", ["scancel", self.id])
        until(
            lambda: self.lab.run(self.node, ["ls", JOBS]).stdout.split(),
            lambda found: self.id not in found,
            seconds=60,
            what=f"the end of job {self.id}'s sandbox",
        )


@pytest.fixture(scope="module")
def site(lab: Lab) -> Iterator[Lab]:
    """Any user may ask for a network; one address of c2 is denied to pods."""
    edit = (
        f"cp {CONFIG} /root/kept.toml && "
        r"sed -i 's/^\[sandbox\]$/[sandbox]\nusers = \"all\"/; "
        f"s/^deny = .*/deny = [\"{DENIED}\\/32\"]/' {CONFIG} && grep -q '{DENIED}' {CONFIG}"
    )
    for node in ("c1", "c2"):
        lab.run(node, ["sh", "-c", edit.replace('\\"', '"')])
    lab.run("c2", ["ip", "address", "replace", f"{DENIED}/32", "dev", "eth0"])
    yield lab
    lab.run("c2", ["ip", "address", "del", f"{DENIED}/32", "dev", "eth0"])
    for node in ("c1", "c2"):
        lab.run(node, ["mv", "/root/kept.toml", CONFIG])


@pytest.fixture(scope="module")
def submit(site: Lab) -> Iterator[Callable[..., Job]]:
    made = []

    def submit_(node: str = "c1", user: str = "alice", mode: str = "net") -> Job:
        words = ["-w", node, f"--k8s-sandbox={mode}", "-o", "/dev/null", "--wrap", "sleep 900"]
        argv = ["timeout", "60", "sbatch", "--parsable", "--mem=64", *words]
        job = Job(site, site.run("ctl", argv, user=user).stdout.strip(), node, user)
        made.append(job)
        until(
            lambda: site.run(node, ["cat", f"{job.root}/record.json"], check=False).returncode,
            lambda code: code == 0,
            seconds=60,
            what=f"the sandbox of job {job.id}",
        )
        return job

    yield submit_
    site.run("ctl", ["scancel", *(job.id for job in made)], check=False)


@pytest.fixture(scope="module")
def job(submit: Callable[..., Job]) -> Job:
    return submit("c1")


@dataclass(frozen=True, slots=True)
class Heard:
    """What a server on a node's own network has heard."""

    lab: Lab
    node: str

    def lines(self) -> list[str]:
        return self.lab.run(self.node, ["cat", "/run/heard"]).stdout.splitlines()

    def await_(self, word: str) -> str:
        """The line of a message that arrives."""
        found = until(
            self.lines,
            lambda lines: any(word in line.split() for line in lines),
            seconds=30,
            what=f"{word} on {self.node}",
        )
        return next(line for line in found if word in line.split())


@pytest.fixture(scope="module")
def heard(site: Lab) -> Iterator[dict[str, Heard]]:
    for node in ("c1", "c2"):
        site.run(node, ["sh", "-c", "cat >/run/listener.py"], input=LISTENER)
        site.run(
            node,
            ["systemd-run", "--unit=heard", "-p", "StandardOutput=truncate:/run/heard", "python3",
             "/run/listener.py"],
        )  # fmt: skip
    ears = {node: Heard(site, node) for node in ("c1", "c2")}
    for ear in ears.values():
        ear.await_("ready")
    yield ears
    for node in ears:
        site.run(node, ["systemctl", "stop", "heard"])


@pytest.mark.claim("N1")
def test_a_sandbox_has_an_interface_an_address_and_a_route(
    site: Lab, job: Job, submit: Callable[..., Job], heard: dict[str, Heard]
) -> None:
    links = json.loads(job.inside("ip -json address"))
    assert [link["ifname"] for link in links] == ["lo", "eth0"]
    assert "127.0.0.1" in [info["local"] for info in links[0]["addr_info"]]
    (own,) = [info["local"] for info in links[1]["addr_info"] if info["family"] == "inet"]
    assert own == job.ip
    egress = json.loads(site.run("c1", ["ip", "-json", "link", "show", "eth0"]).stdout)
    assert links[1]["mtu"] == egress[0]["mtu"]
    assert "default via" in job.inside("ip route")
    job.send("10.77.0.12", word="hello")
    assert heard["c2"].await_("hello").split()[2] == own
    # Slurm's side of it: the credential that the agent decodes has the address.
    signed = site.run("c1", ["cat", f"{job.root}/record.munge"]).stdout
    as_agent = ["setpriv", "--reuid=slurmlet", "--clear-groups", "unmunge"]
    assert f'"podIP": "{own}"' in site.run("ctl", as_agent, input=signed).stdout
    # Another on the same node has its own, and the same port.
    other = submit("c1", user="bob")
    serve = "timeout 40 python3 -m http.server 80 --bind 0.0.0.0 >/dev/null 2>&1 & sleep 0.3; "
    ask = "python3 -c 'import urllib.request as u; print(u.urlopen(\"http://{}:80/\").status)'"
    retry = "for i in $(seq 50); do {} 2>/dev/null && exit; sleep 0.2; done; exit 1"
    until_up = retry.format(ask.format(other.ip))
    one = job.inside(serve + retry.format(ask.format("127.0.0.1")))
    assert one == "200\n"
    site.run(
        "c1",
        [
            "bash",
            "-c",
            f"{other.nsenter} setsid timeout 40 python3 -m http.server 80 &>/dev/null &",
        ],
        user="bob",
    )
    assert job.inside(until_up) == "200\n"
    other.cancel()


@pytest.mark.claim("N2")
def test_what_a_pod_must_not_send_reaches_nobody(
    site: Lab, job: Job, heard: dict[str, Heard]
) -> None:
    """Each attempt is followed by one that arrives: what was dropped would have come before it."""
    forged = "10.78.1.200"
    job.inside(f"ip address add {forged}/32 dev eth0")
    gateway = json.loads(site.run("c1", ["ip", "-json", "address", "show", job.interface]).stdout)
    local = next(i["local"] for i in gateway[0]["addr_info"] if i["family"] == "inet6")
    for node, address in (("c2", "10.77.0.12"), ("c1", "10.77.0.11")):
        job.send(address, word=f"forged-{node}", source=forged)
        job.send(address, word=f"port-{node}", source=job.ip, port=700)
        job.send(address, word=f"port-{node}", source=job.ip, port=701, kind="tcp")
        job.send(DENIED, word=f"denied-{node}")
        job.send(DENIED, word=f"denied-{node}", kind="tcp")
        job.send(f"{local}%eth0", word=f"six-{node}")
        job.send(address, word=f"tcp-{node}", source=job.ip, port=2001, kind="tcp")
        job.send(address, word=f"good-{node}", source=job.ip, port=2000)
    for node, ear in heard.items():
        assert ear.await_(f"good-{node}").split()[2:] == [job.ip, "2000"]
        text = "\n".join(ear.lines())
        assert f"tcp {job.ip} 2001" in text
        for word in ("forged", "port", "denied", "six"):
            assert word not in text, text
        assert " 700" not in text
        assert " 701" not in text
    job.inside(f"ip address del {forged}/32 dev eth0")


@pytest.mark.claim("N2")
def test_a_forged_arp_claim_leads_nowhere(site: Lab, job: Job, heard: dict[str, Heard]) -> None:
    """Neither c2's address nor a thousand others get into the host's table of neighbours."""
    script = """
import socket, struct
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0x0806))
mac = s.getsockname()[4]
mine = socket.inet_aton("GATEWAY")
def claim(ip, op):
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, op) + mac + ip + b"\\xff" * 6 + mine
    s.send(b"\\xff" * 6 + mac + b"\\x08\\x06" + body)
for op in (1, 2):
    claim(socket.inet_aton("10.77.0.12"), op)
    for i in range(200):
        claim(socket.inet_aton(f"10.9.0.{i}"), op)
"""
    route = json.loads(job.inside("ip -json route show default"))
    job.inside("cat >$HOME/arp.py <<'X'" + script.replace("GATEWAY", route[0]["gateway"]) + "X")
    job.inside("python3 $HOME/arp.py; rm $HOME/arp.py")
    found = json.loads(site.run("c1", ["ip", "-json", "neigh", "show"]).stdout)
    here = [entry["dst"] for entry in found if entry["dev"] == job.interface]
    assert set(here) <= {job.ip}
    job.send("10.77.0.12", word="after-arp")
    heard["c2"].await_("after-arp")
    assert not [entry for entry in found if entry["dst"].startswith("10.9.0.")]


@pytest.mark.claim("N3")
def test_an_interface_ends_with_its_job_wherever_it_was_moved(
    site: Lab, submit: Callable[..., Job]
) -> None:
    job = submit("c1", user="bob")
    interface = job.interface
    # A namespace of bob's own that no job of his ends.
    script = (
        f"{job.nsenter} sh -c '"
        "setsid unshare --net sleep 300 >/dev/null 2>&1 & p=$!; "
        "own=$(readlink /proc/self/ns/net); for i in $(seq 50); do "
        '[ "$(readlink /proc/$p/ns/net)" != "$own" ]'
        " && break; sleep 0.1; done; ip link set eth0 netns $p && echo $p; ip -br link'"
    )
    pid, *rest = site.run("c1", ["sh", "-c", script], user="bob").stdout.splitlines()
    assert not any("eth0" in line for line in rest)
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-br", "link"]
    try:
        assert "eth0" in site.run("c1", inside).stdout
        assert interface in site.run("c1", ["ip", "-br", "link"]).stdout
        job.cancel()
        assert "eth0" not in site.run("c1", inside).stdout
    finally:
        site.run("c1", ["kill", pid])
    assert interface not in site.run("c1", ["ip", "-br", "link"]).stdout
    assert interface not in site.run("c1", ["nft", "list", "ruleset"]).stdout
    assert job.root not in site.run("c1", ["cat", "/proc/mounts"]).stdout


@pytest.mark.claim("N4")
def test_an_address_rests_and_is_then_free(site: Lab, submit: Callable[..., Job]) -> None:
    job = submit("c1")
    address = job.ip
    job.cancel()
    site.run("c1", ["sh", "-c", f"{PROGRAM} garbage; test -e {LEASES}/{address}"])
    file = site.run("c1", ["sh", "-c", f"ls {RESTING}/{job.id}-*.json"]).stdout.strip()
    state = json.loads(site.run("c1", ["cat", file]).stdout)
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert 0 < state["notBefore"] - up <= 60
    # As if the minute were over.
    site.run("c1", ["tee", file], input=json.dumps(state | {"notBefore": up}))
    after = submit("c1")
    assert after.ip != address
    after.cancel()
    listed = site.run("c1", ["sh", "-c", f"ls {LEASES} {RESTING}"]).stdout.split()
    assert address not in listed
    assert file.rpartition("/")[2] not in listed


MAKE = (
    'printf \'{"version":1,"uid":2001,"podUID":"u","mode":"net"}\' | munge >/run/credential; '
    f"make() {{ {PROGRAM} make --job=$1 --uid=2001 --gid=2001 </run/credential; }}; "
)


@pytest.mark.claim("N4")
def test_what_is_exhausted_is_told(site: Lab) -> None:
    """Two addresses: the third pod is told; so is one whose address would not have rested."""
    conf = {
        "cniVersion": "1.0.0", "name": "two",
        "plugins": [{"type": "ptp", "ipam": {
            "type": "host-local", "dataDir": "/run/slurmlet/cni",
            "ranges": [[{"subnet": "10.78.1.0/24", "rangeStart": "10.78.1.240",
                         "rangeEnd": "10.78.1.241"}]]}}],
    }  # fmt: skip
    script = (
        MAKE
        + f"""
        mkdir -p /run/two; cat >/run/two/1.conflist
        cp {CONFIG} /root/kept2; sed -i 's#^conf_dir = .*#conf_dir = "/run/two"#' {CONFIG}
        for job in 1 2 3; do make 400000000$job || echo failed; done
        {PROGRAM} remove --job=4000000001
        make 4000000004
        grep -ho '"podIP": "[^"]*"\\|"error": .*' {JOBS}/400000000?/record.json
        for job in 2 3 4; do {PROGRAM} remove --job=400000000$job; done
        mv /root/kept2 {CONFIG}; rm -r /run/two /run/credential
    """
    )
    lines = site.run("c1", ["bash", "-c", script], input=json.dumps(conf)).stdout.splitlines()
    # In the order of jobs; the first is gone by now.
    second, *refused = lines
    assert second in [f'"podIP": "10.78.1.{n}"' for n in (240, 241)]
    assert refused[0::2] == ['"podIP": ""'] * 2
    for error in refused[1::2]:
        assert "no address left for another pod (one that ended frees its address after" in error
    assert len(refused) == 4


@pytest.mark.claim("N5")
def test_a_killed_program_is_repaired_by_the_next_job(site: Lab) -> None:
    """make and remove die at moments all over their run."""
    script = (
        MAKE
        + f"""
        before=$(ls /sys/class/net); rounds=0
        for ms in 040 060 070 080 090 100 110 120 140 160 180 220; do
            ( timeout -s KILL 0.$ms $0 -c '{PROGRAM} make --job=4000000005 --uid=2001 --gid=2001 \
              </run/credential' ) 2>/dev/null && made=1 || made=0
            make 4000000006; {PROGRAM} remove --job=4000000006
            # Finished or killed after its record: then the job is there, and its epilog comes.
            ( timeout -s KILL 0.$ms {PROGRAM} remove --job=4000000005 ) 2>/dev/null
            {PROGRAM} remove --job=4000000005
            [ -z "$(ls {JOBS} | grep 400000000)" ] || {{ echo left; ls {JOBS}; exit 1; }}
            [ "$before" = "$(ls /sys/class/net)" ] || {{ ls /sys/class/net; exit 1; }}
            ! grep 400000000 /proc/mounts || exit 1
            rounds=$((rounds + 1))
        done
        # Every lease that is left rests.
        for lease in $(grep -l '^400000000[56]-' {LEASES}/10.*); do
            test -e {RESTING}/$(head -1 $lease | tr -d '\\r').json || {{ echo $lease; exit 1; }}
        done
        rm /run/credential; echo $rounds
    """
    )
    assert site.run("c1", ["bash", "-c", script], timeout=110).stdout == "12\n"


@pytest.mark.claim("S4")
def test_a_network_is_made_once_and_not_asked_for_where_there_is_none(site: Lab) -> None:
    script = (
        MAKE
        + f"""
        set -e; record={JOBS}/4000000007/record.json
        make 4000000007; one=$(md5sum $record); make 4000000007; test "$one" = "$(md5sum $record)"
        {PROGRAM} remove --job=4000000007; {PROGRAM} remove --job=4000000007
        cp {CONFIG} /root/kept2; sed -i 's#^conf_dir = .*#conf_dir = ""#' {CONFIG}
        make 4000000007; mv /root/kept2 {CONFIG}
        cat $record; {PROGRAM} remove --job=4000000007; rm /run/credential
    """
    )
    record = json.loads(site.run("c1", ["bash", "-c", script]).stdout)
    assert record["mode"] == "host"
    assert "net" not in record["namespaces"]
    assert "error" not in record


@pytest.mark.claim("S5")
def test_a_broken_network_is_in_the_record_and_no_node_is_drained(
    site: Lab, submit: Callable[..., Job]
) -> None:
    directory = "/run/broken"
    script = f"""mkdir -p {directory}; echo '{{"cniVersion": "1.0.0", "name": "x",
        "plugins": [{{"type": "no-such-plugin"}}]}}' >{directory}/1.conflist
        cp {CONFIG} /root/kept2; sed -i 's#^conf_dir = .*#conf_dir = "{directory}"#' {CONFIG}"""
    site.run("c1", ["sh", "-c", script])
    try:
        job = submit("c1")
        error = job.record()["error"]
    finally:
        site.run("c1", ["sh", "-c", f"mv /root/kept2 {CONFIG}; rm -r {directory}"])
    assert error.startswith("CNI plugin no-such-plugin is in none of /usr/lib/cni")
    assert job.record()["namespaces"] == {}
    job.cancel()
    assert nodes.usable(site)


@pytest.mark.claim("S6")
def test_rules_come_back_and_a_node_forwards_for_pods_only(site: Lab, job: Job) -> None:
    """After somebody's flush: with the next pod, and when slurmd starts."""
    flush = "nft delete table inet slurmlet; nft delete table arp slurmlet"
    site.run("c1", ["sh", "-c", f"{flush}; {PROGRAM} garbage"])
    rules = site.run("c1", ["nft", "list", "table", "inet", "slurmlet"]).stdout
    assert f'"{job.interface}" . {job.ip}' in rules
    # ctl sends by way of c1 to c2, which is neither from nor to a pod.
    counted = "nft list chain inet slurmlet forward | grep -o 'packets [0-9]*'"
    site.run("ctl", ["ip", "route", "add", f"{DENIED}/32", "via", "10.77.0.11"])
    try:
        ping = ["ping", "-c", "1", "-W", "2", DENIED]
        assert site.run("ctl", ping, check=False).returncode != 0
    finally:
        site.run("ctl", ["ip", "route", "del", f"{DENIED}/32"])
    assert site.run("c1", ["sh", "-c", counted]).stdout != "packets 0\n"
