#include "root.h"
#include "cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Milliseconds for unshare(2) on a busy node; a network namespace alone may wait for RCU. */
enum { PATIENCE = 10000 };

static int keep_one_capability(int capability)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

    if (syscall(SYS_capget, &header, data) < 0)
        return -errno;
    data[0].effective = 1U << capability;
    data[1].effective = 0;
    return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

/* The effective uid becomes the owner of the namespaces. CAP_SYS_ADMIN stays effective: Debian's
 * unprivileged_userns_clone=0 and AppArmor's restriction of user namespaces ask for it. */
static int become_owner(const struct slurmlet_making *making)
{
    int flags = 0, rc;

    for (int kind = 0; kind < SLURMLET_KINDS; kind++)
        flags |= making->kinds & (1U << kind) ? slurmlet_kind_flag(kind) : 0;
    if (setgroups(0, NULL) < 0 || setresgid((gid_t)-1, making->gid, (gid_t)-1) < 0 ||
        setresuid((uid_t)-1, making->uid, (uid_t)-1) < 0)
        return -errno;
    /* Its owner has all capabilities over what stands in the new user namespace, and may trace it
     * unless it cannot be dumped; fs.suid_dumpable decides what setresuid(2) makes of that. */
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
        return -errno;
    rc = keep_one_capability(CAP_SYS_ADMIN);
    if (rc < 0)
        return rc;
    return unshare(flags) < 0 ? -errno : 0;
}

static _Noreturn void hold(const struct slurmlet_making *making, int ready, int release)
{
    char byte;
    int rc;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    rc = become_owner(making);
    if (write(ready, &rc, sizeof(rc)) == sizeof(rc) && rc == 0)
        (void)!read(release, &byte, 1);
    _exit(0);
}

/* The kernel takes a map in one write(2) and no second one. */
static int write_once(pid_t pid, const char *name, const char *text)
{
    char path[64];
    cleanup_fd fd = -1;

    (void)snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    return write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -errno;
}

static int write_maps(pid_t pid, const struct slurmlet_making *making)
{
    int rc = making->deny_setgroups ? write_once(pid, "setgroups", "deny") : 0;

    if (rc == 0)
        rc = write_once(pid, "uid_map", making->uid_map);
    return rc == 0 ? write_once(pid, "gid_map", making->gid_map) : rc;
}

static int pin(pid_t pid, int kind, const char *directory, struct slurmlet_pin *ret_pin)
{
    char from[64], to[SLURMLET_PATH_MAX];
    struct stat status;

    (void)snprintf(from, sizeof(from), "/proc/%d/ns/%s", pid, slurmlet_kind_name(kind));
    if (snprintf(to, sizeof(to), "%s/%s", directory, slurmlet_kind_name(kind)) >= (int)sizeof(to))
        return -ENAMETOOLONG;
    if (mount(from, to, NULL, MS_BIND, NULL) < 0 || stat(to, &status) < 0)
        return -errno;
    *ret_pin =
        (struct slurmlet_pin){.present = true, .device = status.st_dev, .inode = status.st_ino};
    return 0;
}

static int await(int ready)
{
    struct pollfd entry = {.fd = ready, .events = POLLIN};
    int rc, got = poll(&entry, 1, PATIENCE);

    if (got < 0)
        return -errno;
    if (got == 0)
        return -ETIMEDOUT;
    return read(ready, &rc, sizeof(rc)) == sizeof(rc) ? rc : -ECHILD;
}

static int settle(pid_t pid, int ready, const struct slurmlet_making *making, const char *directory,
                  struct slurmlet_pin pins[SLURMLET_KINDS], struct slurmlet_message *why)
{
    int rc = await(ready);

    if (rc < 0)
        return slurmlet_fail(why, rc, "cannot make the namespaces: %s", strerror(-rc));
    rc = write_maps(pid, making);
    if (rc < 0)
        return slurmlet_fail(why, rc, "cannot write the id maps: %s", strerror(-rc));
    for (int kind = 0; kind < SLURMLET_KINDS; kind++) {
        if (!(making->kinds & (1U << kind)))
            continue;
        rc = pin(pid, kind, directory, &pins[kind]);
        if (rc < 0)
            return slurmlet_fail(why, rc, "cannot pin the %s namespace: %s",
                                 slurmlet_kind_name(kind), strerror(-rc));
    }
    return 0;
}

int slurmlet_namespaces_make(const struct slurmlet_making *making, const char *directory,
                             struct slurmlet_pin ret_pins[SLURMLET_KINDS],
                             struct slurmlet_message *why)
{
    struct slurmlet_pin pins[SLURMLET_KINDS] = {0};
    int ready[2], release[2], rc;
    pid_t pid;

    if (pipe2(ready, O_CLOEXEC) < 0)
        return slurmlet_fail(why, -errno, "pipe: %s", strerror(errno));
    if (pipe2(release, O_CLOEXEC) < 0) {
        rc = -errno;
        (void)close(ready[0]);
        (void)close(ready[1]);
        return slurmlet_fail(why, rc, "pipe: %s", strerror(-rc));
    }
    pid = fork();
    if (pid == 0) {
        (void)close(release[1]);
        hold(making, ready[1], release[0]);
    }
    (void)close(ready[1]);
    (void)close(release[0]);
    if (pid < 0)
        rc = slurmlet_fail(why, -errno, "fork: %s", strerror(errno));
    else
        rc = settle(pid, ready[0], making, directory, pins, why);
    (void)close(ready[0]);
    (void)close(release[1]);
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    if (rc == 0)
        memcpy(ret_pins, pins, sizeof(pins));
    return rc;
}

int slurmlet_pod_mount(const char *path, uint32_t uid, uint32_t gid)
{
    char options[96];

    (void)snprintf(options, sizeof(options), "size=4m,nr_inodes=1k,mode=0700,uid=%u,gid=%u", uid,
                   gid);
    if (mount("slurmlet", path, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options) < 0)
        return -errno;
    return 0;
}

int slurmlet_unmount(const char *path)
{
    /* More than one may lie upon another after a crash in between. */
    for (int i = 0; i < 16; i++) {
        if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
            return errno == EINVAL || errno == ENOENT ? 0 : -errno;
    }
    return -EBUSY;
}

static void open_to_all(const char *path, const char *value)
{
    cleanup_fd fd = open(path, O_WRONLY | O_CLOEXEC);

    /* Where /proc/sys is read-only, programs that need it say so. */
    if (fd >= 0)
        (void)!write(fd, value, strlen(value));
}

int slurmlet_netlink_open(const char *netns)
{
    cleanup_fd own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    cleanup_fd there = open(netns, O_RDONLY | O_CLOEXEC);
    int fd, rc;

    if (own < 0 || there < 0 || setns(there, CLONE_NEWNET) < 0)
        return -errno;
    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    rc = fd < 0 ? -errno : fd;
    /* /proc/sys/net is that of the namespace of whoever opens it. */
    open_to_all("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    open_to_all("/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
    /* Whatever came next would be done to the wrong namespace. */
    if (setns(own, CLONE_NEWNET) < 0)
        abort();
    return rc;
}
