#!/bin/sh
# Runs inside the base as root: installs the packages of $1 and makes the accounts of a site.
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C

# Nothing is started by an installation: services belong to booted nodes.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d

apt-get -qq update
packages=$(sed -e 's/#.*//' "$1")
# shellcheck disable=SC2086  # one word per package
if ! apt-get install --simulate -y $packages >/tmp/simulate 2>&1; then
    grep -E '^E:|Depends:|Unable' /tmp/simulate | sed 's/^/lab-error: /'
    exit 3
fi
# shellcheck disable=SC2086
apt-get install -qq -y $packages

# Units start where the lab enables them, per node.
for unit in slurmctld slurmd slurmdbd mariadb munge docker-registry ssh nftables; do
    systemctl disable -q "$unit" 2>/dev/null || true
done
# The kernel and the devices are the host's: nothing in a node manages them.
systemctl mask -q systemd-sysctl.service systemd-binfmt.service systemd-modules-load.service \
    systemd-udevd.service systemd-udev-trigger.service systemd-random-seed.service \
    systemd-logind.service console-getty.service getty.target systemd-remount-fs.service \
    systemd-networkd.service systemd-resolved.service systemd-firstboot.service \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    systemd-update-utmp.service proc-sys-fs-binfmt_misc.automount sys-kernel-debug.mount \
    sys-kernel-tracing.mount dev-hugepages.mount kmod-static-nodes.service

groupadd --gid 990 slurmlet
useradd --uid 990 --gid 990 --no-create-home --home-dir /var/lib/slurmlet \
    --shell /usr/sbin/nologin slurmlet
: >/etc/subuid
: >/etc/subgid
while read -r name uid subid; do
    groupadd --gid "$uid" "$name"
    useradd --uid "$uid" --gid "$uid" --no-create-home --shell /bin/bash "$name"
    printf '%s:%s:65536\n' "$name" "$subid" | tee -a /etc/subuid >>/etc/subgid
done <"$2"

# slurmdbd reaches its database over the socket, as the system user it is: no password anywhere.
install -d -o mysql -g mysql /run/mysqld
mariadbd --user=mysql --bootstrap <<'EOF'
CREATE DATABASE slurm_acct_db;
FLUSH PRIVILEGES;
CREATE USER slurm@localhost IDENTIFIED VIA unix_socket;
GRANT ALL ON slurm_acct_db.* TO slurm@localhost;
EOF

mkdir -p /cg1/cpuset /cg1/memory /cg1/devices /cg1/freezer /cg1/cpu /cg1/cpuacct
rm -f /etc/ssh/ssh_host_* /etc/munge/munge.key /usr/sbin/policy-rc.d
: >/etc/machine-id
# shellcheck disable=SC2016  # dpkg-query's own variables
dpkg-query -W -f '${Package} ${Version}\n' systemd python3 slurmctld slurmd slurmdbd mariadb-server \
    munge crun apptainer skopeo umoci nftables docker-registry openssh-server
