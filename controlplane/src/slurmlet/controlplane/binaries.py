"""What can be built, and from which of the pinned Go modules."""

from dataclasses import dataclass

KUBERNETES_VERSION = "v1.36.3"
_VERSION_PACKAGES = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """One program: its Go package, the module (directory under go/) that pins it, its size."""

    name: str
    module: str
    package: str
    size_mib: int
    is_test: bool = False


_BINARIES = (
    Binary(
        name="kube-apiserver",
        module="kubernetes",
        package="k8s.io/kubernetes/cmd/kube-apiserver",
        size_mib=105,
    ),
    Binary(
        name="kube-controller-manager",
        module="kubernetes",
        package="k8s.io/kubernetes/cmd/kube-controller-manager",
        size_mib=95,
    ),
    Binary(
        name="kubectl", module="kubernetes", package="k8s.io/kubernetes/cmd/kubectl", size_mib=60
    ),
    Binary(
        name="kube-scheduler",
        module="kubernetes",
        package="k8s.io/kubernetes/cmd/kube-scheduler",
        size_mib=73,
    ),
    Binary(
        name="agnhost",
        module="kubernetes",
        package="k8s.io/kubernetes/test/images/agnhost",
        size_mib=64,
    ),
    Binary(
        name="e2e.test",
        module="kubernetes",
        package="k8s.io/kubernetes/test/e2e",
        size_mib=110,
        is_test=True,
    ),
    Binary(
        name="ginkgo", module="kubernetes", package="github.com/onsi/ginkgo/v2/ginkgo", size_mib=13
    ),
    Binary(name="etcd", module="etcd", package="go.etcd.io/etcd/server/v3", size_mib=27),
    Binary(name="coredns", module="coredns", package="slurmlet/controlplane/coredns", size_mib=50),
)
BINARIES = {binary.name: binary for binary in _BINARIES}

CONTROL_PLANE = ("kube-apiserver", "kube-controller-manager", "kubectl", "etcd")
"""What it takes to run the control plane."""

DEFAULT_SET = (*CONTROL_PLANE, "coredns")
"""What is rolled out. Everything else is built only when asked for."""


def linker_flags(module: str) -> str:
    """-ldflags of a module. Without stamps Kubernetes would call itself v0.0.0-master."""
    if module != "kubernetes":
        return "-s -w"
    major, minor, _ = KUBERNETES_VERSION.removeprefix("v").split(".")
    stamps = {
        "gitVersion": KUBERNETES_VERSION,
        "gitMajor": major,
        "gitMinor": minor,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
    }
    stamped = " ".join(
        f"-X {package}.{key}={value}"
        for package in _VERSION_PACKAGES
        for key, value in stamps.items()
    )
    return f"-s -w {stamped}"
