#!/bin/sh
# What a person needs to look into a pod, a C compiler, and the clients of Slurm's MPI plugins.
set -eu
apt-get -qq update
apt-get -qq -y install curl bind9-dnsutils iperf3 sockperf strace gdb gcc libc6-dev \
    iproute2 iputils-ping netcat-openbsd procps python3-minimal nftables libpmi2-0-dev libpmix-dev
