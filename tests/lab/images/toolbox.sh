#!/bin/sh
# What a person needs to look into a pod, and a C compiler.
set -eu
apt-get -qq update
apt-get -qq -y install curl bind9-dnsutils iperf3 sockperf strace gdb gcc libc6-dev \
    iproute2 iputils-ping netcat-openbsd procps
