#!/bin/sh
# The test program of Kubernetes on top of busybox, with the commands that its tests expect.
set -eu
# shellcheck source=tests/lab/images/closure.sh
. /run/images/closure.sh
apt-get -qq update
apt-get -qq -y install curl bind9-dnsutils iproute2 netcat-openbsd iperf3
cd /run/out
take usr/local/bin /usr/bin/curl /usr/bin/dig /usr/bin/nc.openbsd /usr/bin/iperf3 /usr/sbin/ip
install -m 0755 /run/programs/agnhost agnhost
ln -s agnhost agnhost-2
ln -s nc.openbsd usr/local/bin/nc
